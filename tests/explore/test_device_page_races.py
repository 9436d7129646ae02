"""Pages of devices that DMA holds while a file is truncated, a file system unmounted, or a driver unbound."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

import pytest

from deciding import behaviours, counterexample, decided
from memhp.errors import KernelError
from memhp.explore.cases import dax_dma_vs_truncate, p2pdma_dma_vs_unbind
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.cases.p2pdma_dma_vs_unbind import DEVICE, end_dma, unbind
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.pci import p2pdma
from memhp.linux.drivers.pci.p2pdma import p2pmem_alloc_mmap, pci_p2pdma_add_resource, pin_user_page
from memhp.linux.fs import dax
from memhp.linux.fs.kernfs.dir import KernfsNode, KernfsNodes
from memhp.linux.fs.kernfs.file import kernfs_fop_mmap
from memhp.linux.mm import memremap
from memhp.linux.mm.dev_pagemap import PAGE_REFCOUNT
from memhp.linux.state import Kernel
from memhp.spans import Span

DAX, BAR = dax_dma_vs_truncate.CASE, p2pdma_dma_vs_unbind.CASE
NOW, THEN = "x86_64-4K-48-linux-7.2", "x86_64-4K-48-linux-6.12"


def test_a_truncation_that_waits_for_no_page_has_dma_write_the_next_files_block() -> None:
    """fs/dax.c:dax_layout_busy_page_range is what keeps it from that."""
    reason, _ = counterexample(DAX, "no-wait", NOW)
    assert "may have given to another file" in reason
    verdict = decided(DAX, "break-layout", NOW)
    assert (verdict.word, verdict.coverage.deadlocks) == ("safe", 0)
    assert verdict.coverage.executions > 2


def test_gup_that_does_not_look_at_the_entry_again_takes_a_page_that_was_found_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """mm/gup.c:gup_fast_pte_range compares the entry once it has its reference."""

    def once(k: Kernel, mapping: dax.DaxMapping, pfn: int) -> bool:
        k.hw.atomic(dax.PTE)
        if pfn not in mapping.mapped:
            return False
        k.hw.atomic(PAGE_REFCOUNT)
        mapping.references[pfn] = 1
        return True

    monkeypatch.setattr(dax_dma_vs_truncate, "gup_fast", once)
    assert "may have given to another file" in counterexample(DAX, "break-layout", NOW)[0]


def test_a_wakeup_that_is_lost_leaves_the_truncation_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memremap, "wake_up_var", lambda *_: None)
    assert "to become idle" in counterexample(DAX, "break-layout", NOW)[0]


def test_unmounting_waits_for_dma_in_7_2_and_only_warns_in_6_12() -> None:
    """fs/ext4/inode.c:ext4_evict_inode calls dax_break_layout_final() in 7.2 only."""
    assert decided(DAX, "unmount-waits", NOW).word == "safe"
    reason, lines = counterexample(DAX, "unmount-warns", THEN)
    assert "nothing maps the struct page" in reason
    assert lines[-1].name == "DMA"


def test_pages_of_a_bar_hold_the_mapping_each_until_dma_ends() -> None:
    """drivers/pci/p2pdma.c:p2pmem_alloc_mmap takes a reference for each page, p2pdma_folio_free() drops it. Without
    them the pool goes while pages are out of it, which lib/genalloc.c:gen_pool_destroy does not have.
    """
    verdict = decided(BAR, "counted", NOW)
    assert (verdict.word, verdict.coverage.deadlocks) == ("safe", 0)
    assert "BUG_ON: a pool is destroyed, and 1 pages are out of it" in counterexample(BAR, "uncounted", NOW)[0]


def test_a_pool_hands_out_pages_of_a_mapping_that_devres_has_freed() -> None:
    """devres_release_all() undoes the last first: p2p_pgmap was allocated after the pool, and is freed before
    drivers/pci/p2pdma.c:pci_p2pdma_release sets pdev->p2pdma to NULL and waits for who is within RCU.
    """
    reason, lines = counterexample(BAR, "taken", NOW)
    assert reason.startswith("use-after-free: dev_pagemap is used, but drivers/base/devres.c:release_nodes freed it")
    places = [line.place for line in lines if line.name == "unbind"]
    assert "mm/memremap.c:devm_memremap_pages_release" in places
    assert "drivers/pci/p2pdma.c:pci_p2pdma_release" not in places
    assert "percpu_count_ptr" in lines[-1].text


def test_a_mapping_that_outlives_the_pool_and_its_readers_is_used_by_nobody_then() -> None:
    assert decided(BAR, "taken-pool-first", NOW).word == "safe"
    assert behaviours(BAR, "taken-pool-first", NOW) == {((None, "none"), ()), ((None, "taken"), ())}


def offered() -> Kernel:
    """A BAR with struct pages, none of which anybody has."""
    variant = BAR.variant("counted")
    k = boot_near(variant.config(variant.configurations[0]), tag=DEVICE)
    start = near_dimm(k).start
    pci_p2pdma_add_resource(k, DEVICE, Span(start, start + k.config.section_size))
    return k


def maps(k: Kernel) -> Hashable:
    try:
        return kernfs_fop_mmap(k, k.statics(KernfsNodes).allocate[DEVICE], lambda: p2pmem_alloc_mmap(k, DEVICE))
    except KernelError as error:
        return error.errno


def test_a_page_that_a_process_is_mapping_while_the_driver_goes_is_unmapped_or_never_mapped() -> None:
    """fs/kernfs/dir.c:kernfs_drain waits for a mmap() that is within, then takes all mappings of the file away."""
    verdict = decide(KernelProgram(offered(), (unbind, maps), ("unbind", "process"), check=laws_hold).run())
    assert (verdict.word, verdict.coverage.deadlocks) == ("safe", 0)
    assert verdict.coverage.executions > 2


def test_the_mapping_goes_under_who_maps_a_page_when_nobody_waits_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def at_once(hw: Machine, kn: KernfsNode) -> None:
        hw.atomic(kn.name)
        kn.deactivated = True

    monkeypatch.setattr(p2pdma, "kernfs_drain", at_once)
    program = KernelProgram(offered(), (unbind, maps), ("unbind", "process"), check=laws_hold)
    failure = decide(program.run()).failure
    assert failure is not None
    assert failure.reason.startswith("use-after-free: dev_pagemap is used, but drivers/base/devres.c:release_nodes")


def test_a_page_that_is_pinned_without_a_lock_while_the_driver_goes_is_waited_for_or_refused() -> None:
    k = offered()
    (pfn,) = range(*p2pmem_alloc_mmap(k, DEVICE))

    def pins(k: Kernel) -> None:
        try:
            pin_user_page(k, pfn)
        except KernelError:
            return
        end_dma(pfn)(k)

    verdict = decide(KernelProgram(k, (unbind, pins), ("unbind", "DMA"), check=laws_hold).run())
    assert (verdict.word, verdict.coverage.deadlocks) == ("safe", 0)


def test_a_page_leads_to_its_mapping_by_itself_whatever_another_device_offers_meanwhile() -> None:
    """drivers/pci/p2pdma.c:p2pdma_folio_free asks page_pgmap(), which is of the page alone: no table of devices."""
    k = offered()
    (pfn,) = range(*p2pmem_alloc_mmap(k, DEVICE))
    pin_user_page(k, pfn)
    start = near_dimm(k).end
    other = Span(start, start + k.config.section_size)
    k.hw.plug(pfns(k, other), Owner(Use.DEVICE, "other"))

    def offers(k: Kernel) -> None:
        pci_p2pdma_add_resource(k, "other", other)

    for actors in ((end_dma(pfn), offers), (offers, end_dma(pfn))):
        program = KernelProgram(k, actors, ("one", "other"), check=laws_hold)
        verdicts = [search(program.run(), reduce=reduce, budget=20_000) for reduce in (True, False)]
        assert [verdict.failure for verdict in verdicts] == [None, None]
        assert verdicts[0].word == "safe"
