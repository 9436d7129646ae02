"""Pages of devices that DMA holds while a file is truncated, a file system unmounted, or a driver unbound."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, decided
from memhp.explore.cases import dax_dma_vs_truncate, p2pdma_dma_vs_unbind
from memhp.linux.fs import dax
from memhp.linux.mm import memremap
from memhp.linux.mm.memremap import PAGE_REFCOUNT
from memhp.linux.state import Kernel

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
    """drivers/pci/p2pdma.c:p2pmem_alloc_mmap takes a reference for each page, p2pdma_folio_free() drops it."""
    verdict = decided(BAR, "counted", NOW)
    assert (verdict.word, verdict.coverage.deadlocks) == ("safe", 0)
    assert "nothing maps the struct page" in counterexample(BAR, "uncounted", NOW)[0]


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
