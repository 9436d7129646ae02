"""No verdict stands whatever happens: wrong behaviour planted in a kernel function or a choice changes it.

A row for each claim: what is planted, so that the model does what no kernel of the claim does (or a kernel that refutes
the claim is mended), and the verdicts that come of it differ from those that are pinned.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from claims.verdicts import VERDICTS
from memhp.claims import (
    altmap,
    arm64_two_passes,
    device_pages,
    evidence,
    memmap_design,
    memmap_on_memory,
    riscv_hotplug,
    riscv_machine,
    riscv_series,
    table_witnesses,
    zone_device,
)
from memhp.claims.claim import decide
from memhp.claims.fix import Raced
from memhp.claims.table import CLAIMS
from memhp.explore.cases.pgd_sync_existing_process import CASE as EXISTING
from memhp.explore.cases.pgd_sync_new_process import CASE as NEW
from memhp.linux import geometry
from memhp.linux.arch.arm64.mm import mmu
from memhp.linux.arch.registry import port
from memhp.linux.arch.riscv.mm import init as riscv
from memhp.linux.config import Config
from memhp.linux.drivers.pci import p2pdma
from memhp.linux.drivers.virtio import virtio_mem
from memhp.linux.mm import (
    memory_hotplug_add,
    memory_hotplug_memmap,
    memory_hotplug_offline,
    memremap,
    pgalloc,
    pgd,
    vmemmap_alloc,
)
from memhp.linux.mm.memory_hotplug_memmap import MemmapGeometry
from memhp.linux.mm.pgtable_remove import free_empty_tables
from memhp.linux.mm.sparse_vmemmap import vmemmap_populate_basepages
from memhp.linux.profiles import PROFILES
from memhp.spans import Span

Plant = Callable[[pytest.MonkeyPatch], None]


def choosing(profile: str, arch: Any, **choices: Any) -> Plant:
    """A kernel that decides otherwise."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(PROFILES, profile, PROFILES[profile].choosing(arch, choices))

    return plant


def function(where: Any, name: str, instead: Any) -> Plant:
    """A kernel function that does something else."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(where, name, instead)

    return plant


def nothing(*_: Any, **__: Any) -> None:
    """What a function does that does nothing."""


def only(where: Any, name: str, *keys: Any) -> Plant:
    """Fewer kernels or cases, so that it is quick."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        value = getattr(where, name)
        kept = {key: value[key] for key in keys} if isinstance(value, dict) else keys
        patch.setattr(where, name, kept)

    return plant


def both(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for each in plants:
            each(patch)

    return plant


def everywhere(real: Any) -> Any:
    """free_empty_tables() that asks for no floor and no ceiling."""
    return lambda hw, root, start, end, _, how: real(hw, root, start, end, mmu.EVERYWHERE, how)


MEND = {"storage_freed": "after-flush", "table_freed": "after-flush"}
RISCV_7_2 = ("riscv64", "linux-7.2")

ARM64 = altmap._arm64

PLANTED: dict[str, tuple[str, Plant]] = {
    "rv-1": ("7.2 indexes folded levels", both(
        only(riscv_hotplug, "KERNELS", "linux-7.2"), choosing("linux-7.2", "riscv64", folded_levels="indexed"))),
    "rv-2": ("synchronisation copies nothing", both(
        function(pgd, "sync_root_entries", nothing),
        function(riscv_hotplug, "EXISTING", replace(EXISTING, variants=EXISTING.variants[-1:])),
        function(riscv_hotplug, "NEW", replace(NEW, variants=NEW.variants[-1:])),
    )),
    "rv-3": ("an area has one root entry", function(geometry, "area_span", lambda layout, _: Span(
        layout.vmemmap.start, layout.vmemmap.start + 1))),
    "rv-4": ("base pages always", function(riscv, "vmemmap_populate_hugepages", vmemmap_populate_basepages)),
    "rv-5": ("storage of struct pages is not freed", both(
        only(riscv_hotplug, "KERNELS", "linux-7.2"), function(riscv, "free_memmap", nothing))),
    "rv-6": ("7.2 frees behind its flush", both(
        only(riscv_hotplug, "FLUSH_ORDERS", RISCV_7_2),
        lambda patch: patch.setitem(riscv_hotplug.FLUSH_ORDERS, RISCV_7_2, riscv_hotplug.REPAIRED[0]),
        choosing("linux-7.2", "riscv64", **MEND),
    )),
    "rv-7": ("__init code stays", function(riscv, "call_page_table_code", nothing)),
    "rv-8": ("a pageblock is the buddy's largest", function(Config, "pageblock_order", property(lambda _: 10))),
    "rv-9": ("all boot RAM is beyond 32-bit DMA", function(riscv_machine, "DMA32", 0)),
    "rv-10": ("the dump's lock excludes nobody", both(
        lambda patch: patch.setattr(riscv_machine, "RULES", riscv_machine.RULES[:1]),
        choosing("linux-6.12", "arm64", ptdump_lock="none"),
    )),
    "rv-11": ("the driver unplugs no sub-block", both(
        only(riscv_machine, "KERNELS", "linux-7.2"), function(virtio_mem, "virtio_mem_sbm_unplug_request", nothing))),
    "rv-12": ("synchronisation copies nothing", function(pgd, "sync_root_entries", nothing)),
    "rv-13": ("v1 hands the altmap on", choosing("riscv-hotplug-v1", "riscv64", vmemmap_altmap="any-leaf")),
    "rv-14": ("no option is there", function(riscv_series, "option", lambda *_: False)),
    "rv-15": ("v4 skips folded levels", lambda patch: patch.setitem(
        riscv_series.REVISIONS, "v4", {"folded_levels": "skipped"})),
    "rv-16": ("each kernel unmakes what it made", both(
        choosing("linux-7.2", "arm64", table_dtor="constructed"),
        choosing("linux-7.2", "riscv64", table_dtor="constructed"),
        choosing("linux-7.2", "x86_64", table_dtor="constructed"))),
    "a64-1": ("no floor and no ceiling", function(mmu, "free_empty_tables", everywhere(free_empty_tables))),
    "a64-2": ("V7 on the layout before", choosing("arm64-hotremove-v7", "arm64", layout="5.3")),
    "a64-3": ("no empty table is ever freed", function(mmu, "free_empty_tables", nothing)),
    "a64-4": ("removal leaves the leaves", function(mmu, "unmap", nothing)),
    "a64-5": ("the dump's lock excludes nobody", choosing("linux-6.12", "arm64", ptdump_lock="none")),
    "a64-6": ("pfn_valid() asks sections", choosing("arm64-hotremove-v7", "arm64", pfn_valid="sections")),
    "a64-7": ("one pass", choosing("linux-7.2", "arm64", remove_passes=1)),
    "a64-8": ("V2 flushes as V3 does", lambda patch: patch.setitem(arm64_two_passes.VERSIONS, "V2", {})),
    "mom-1": ("no fallback to base pages", choosing("linux-7.2", "x86_64", vmemmap_fallback="none")),
    "mom-2": ("struct pages always in the memory", function(
        memory_hotplug_add, "mhp_supports_memmap_on_memory", lambda *_: True)),
    "mom-3": ("struct pages always in the memory", function(
        memory_hotplug_add, "mhp_supports_memmap_on_memory", lambda *_: True)),
    "mom-4": ("the section stays offline", function(memmap_on_memory, "pfn_to_online_page", lambda *_: False)),
    "mom-5": ("every configuration can", function(
        memory_hotplug_add, "mhp_supports_memmap_on_memory", lambda *_: True)),
    "mom-6": ("nothing is checked", function(MemmapGeometry, "conditions", lambda *_: ())),
    "mom-7": ("removal leaves what is mapped", function(
        type(port("x86_64")), "arch_remove_memory", staticmethod(nothing))),
    "mom-8": ("7.2 hosts one block at a time", choosing("linux-7.2", "x86_64", memmap_on_memory="one-block")),
    "mom-9": ("7.2 forgets the altmap", choosing("linux-7.2", "x86_64", create_failure_altmap="forgotten")),
    "mom-10": ("7.2 refuses boot memory only", choosing("linux-7.2", "arm64", bootmem_remove="notifier")),
    "mom-11": ("a block leaves one piece as small", function(MemmapGeometry, "remaining_size", property(lambda _: 1))),
    "mom-12": ("a section is online at once", function(memmap_design, "pfn_to_online_page", lambda *_: True)),
    "mom-14": ("offlining looks at no node", function(
        memory_hotplug_offline, "_present_pages", lambda *_: 0)),
    "mom-15": ("nobody adds the shadow", function(memory_hotplug_memmap, "kasan_add_zero_shadow", nothing)),
    "alt-1": ("7.2 drops the altmap", choosing("linux-7.2", "arm64", vmemmap_altmap="none")),
    "alt-2": ("the altmap's end is not asked", function(
        vmemmap_alloc, "_within_altmap", lambda k, order, altmap, count, va: (0, count))),
    "alt-3": ("the helper returns what it got", function(
        altmap, "_arm64", lambda size, altmap_fallback="", **more: ARM64(size, **more))),
    "alt-4": ("the loop steps from page to page", function(
        mmu, "_consolidated_draft",
        lambda k, span, nid, how: vmemmap_populate_basepages(k, span.start, span.end, nid, None, how))),
    "alt-5": ("7.2 drops the altmap", choosing("linux-7.2", "riscv64", vmemmap_altmap="none")),
    "zd-1": ("an altmap takes nothing back", function(pgalloc, "vmem_altmap_free", nothing)),
    "zd-2": ("nobody waits for references", both(
        only(zone_device, "DRAINED", "generic"), function(memremap, "wait_for_references", nothing))),
    "zd-4": ("any owner sees private pages", function(
        device_pages, "hmm_range_fault", lambda k, mm, address, owner, *, fault: mm.ptes[address])),
    "zd-5": ("nobody wakes who waits", function(memremap, "wake_up_var", nothing)),
    "zd-6": ("a page has no reference of its own", function(p2pdma, "percpu_ref_get_many", nothing)),
    "zd-3": ("no sub-sections", function(zone_device, "memremap_compat_align", lambda config: config.section_size)),
}  # fmt: skip


def unrepaired(name: str) -> Plant:
    """The repair of a finding leaves everything as it is."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        witness: Any = table_witnesses.WITNESSES[name]
        same = {"after": witness.before} | ({"repaired": None} if isinstance(witness, Raced) else {})
        patch.setitem(table_witnesses.WITNESSES, name, replace(witness, **same))

    return plant


PLANTED |= {name: ("the repair changes nothing", unrepaired(name)) for name in table_witnesses.WITNESSES}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No life cycle that was kept from before, and none kept for those who come after."""
    evidence.row.cache_clear()
    yield
    evidence.row.cache_clear()


@pytest.mark.parametrize("name", PLANTED)
def test_wrong_behaviour_changes_the_verdict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (claim,) = [each for each in CLAIMS if each.id == name]
    what, plant = PLANTED[name]
    plant(monkeypatch)
    row = decide(claim)
    pinned = VERDICTS[name]
    same = {key: value for key, value in pinned.by_release.items() if key in row.by_release}
    assert (row.verdict, row.by_release) != (pinned.verdict, same), f"{what}: {row.figure}"


def test_every_claim_has_something_planted() -> None:
    decided = {name for name, pinned in VERDICTS.items() if pinned.verdict != "not decidable here"}
    assert set(PLANTED) == decided
