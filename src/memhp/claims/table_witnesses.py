"""How each finding is shown, as it is and repaired: a race explored, steps rehearsed, or functions called."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from memhp.claims import page_table_counts
from memhp.claims.finding_witnesses import (
    plan_cancelled_unheard,
    private_memory_without_a_vmemmap,
    repaired,
    resource_above_a_hole,
    tables_of_a_gigabyte,
)
from memhp.claims.fix import Called, Raced, Rehearsed
from memhp.claims.fix_witnesses_memory import lower_memory_comes_last
from memhp.claims.kasan_shadow import shadow_table_kept_by_a_walk
from memhp.claims.table_repairs import REPAIRS
from memhp.explore.case import Case
from memhp.explore.cases.free_before_flush import CASE as FREE_BEFORE_FLUSH
from memhp.explore.cases.hotadd_allocation_failure import CASE as ALLOCATION_FAILURE
from memhp.explore.cases.hv_backing_vs_online import CASE as HV_BACKING
from memhp.explore.cases.memory_block_lookup import CASE as BLOCK_LOOKUP
from memhp.explore.cases.memory_groups_vs_unbind import CASE as MEMORY_GROUPS
from memhp.explore.cases.online_vs_unplug import CASE as UNPLUG
from memhp.explore.cases.p2pdma_dma_vs_unbind import CASE as P2PDMA
from memhp.explore.cases.p2pdma_dma_vs_unbind import TAKEN
from memhp.explore.cases.pagemap_lookup_vs_unmap import CASE as PAGEMAP
from memhp.explore.cases.pfn_valid_vs_remove import CASE as PFN_VALID
from memhp.explore.cases.pfn_walker_vs_offline import CASE as PFN_WALKER
from memhp.explore.cases.split_vs_remove import CASE as SPLIT
from memhp.explore.cases.split_vs_remove import LAST_BLOCK
from memhp.explore.cases.vmalloc_vs_hot_add import CASE as VMALLOC
from memhp.explore.cases.zone_span_vs_allocation import CASE as ZONE_SPAN
from memhp.explore.cases.zonelists_vs_allocation import CASE as ZONELISTS
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config

BIG_BLOCK = "big-block-shrink-online-BUSY"
ONE_FAILURE = replace(ALLOCATION_FAILURE, limits=replace(ALLOCATION_FAILURE.limits, failures=1))


def _rehearsed(name: str, note: str = "") -> Rehearsed:
    """The steps of the repair, as it is and repaired."""
    repair = REPAIRS[name]
    own = repair.machine.get("choices", {})
    return Rehearsed(repair.machine, repair.steps, {}, {"choices": {**own, **repair.choices}}, note)


def _raced(name: str, race: Case, variant: str, configuration: str) -> Raced:
    """A race, as it is and repaired."""
    side = (variant, configuration)
    return Raced(race, side, side, repaired(race, variant, **REPAIRS[name].choices))


def _called(name: str, does: Callable[[Config], str], arch: Arch, release: str = "7.2", **options: Any) -> Called:
    """Functions, as it is and repaired."""
    return Called(does, arch, {}, REPAIRS[name].choices, release, options)


WITNESSES: dict[str, Called | Rehearsed | Raced] = {
    "f-1": _rehearsed("f-1"),
    "f-2": _rehearsed("f-2"),
    "f-3": _raced("f-3", FREE_BEFORE_FLUSH, "riscv-order", "riscv64-4K-48-linux-7.2"),
    "f-4": _raced("f-4", ONE_FAILURE, "two-blocks", "x86_64-4K-48-linux-7.2"),
    "f-5": _rehearsed("f-5"),
    "f-6": _rehearsed("f-6"),
    "f-7": _rehearsed("f-7", note="came back online in"),
    "f-8": _raced("f-8", PFN_WALKER, "no-lock", "x86_64-4K-48-linux-7.2"),
    "f-9": _raced("f-9", UNPLUG, BIG_BLOCK, "arm64-64K-42-linux-7.2"),
    "f-10": _raced("f-10", PAGEMAP, "dma-at-once", "riscv64-4K-48-linux-7.2"),
    "f-11": _raced("f-11", BLOCK_LOOKUP, "lookup-unlocked", "riscv64-4K-48-linux-7.2"),
    "f-12": _raced("f-12", VMALLOC, "first-table", "arm64-4K-48-linux-6.12"),
    "f-13": _raced("f-13", SPLIT, LAST_BLOCK, "arm64-16K-48-linux-7.2"),
    "f-14": _raced("f-14", SPLIT, "riscv-as-it-is", "riscv64-4K-48-linux-7.2"),
    "f-15": _rehearsed("f-15"),
    "f-16": _rehearsed("f-16"),
    "f-17": _called("f-17", tables_of_a_gigabyte, "x86_64", tce=True),
    "f-18": _called("f-18", page_table_counts.off, "arm64"),
    "f-19": _called("f-19", resource_above_a_hole, "x86_64"),
    "f-20": _called("f-20", plan_cancelled_unheard, "x86_64"),
    "f-21": _called("f-21", lower_memory_comes_last, "riscv64"),
    "f-22": _called("f-22", private_memory_without_a_vmemmap, "riscv64", "6.12"),
    "f-23": _called("f-23", shadow_table_kept_by_a_walk, "riscv64", kasan=True, memmap_on_memory="Y"),
    "f-24": _rehearsed("f-24"),
    "f-25": _rehearsed("f-25"),
    "f-26": _rehearsed("f-26"),
    "f-27": _raced("f-27", PFN_VALID, "online-page-unlocked", "x86_64-4K-48-linux-7.2"),
    "f-28": _raced("f-28", UNPLUG, "sub-block-grow-online-ACK", "arm64-64K-42-linux-7.2"),
    "f-29": _raced("f-29", ZONE_SPAN, "span-unlocked", "x86_64-4K-48-linux-7.2"),
    "f-30": _raced("f-30", P2PDMA, TAKEN, "x86_64-4K-48-linux-7.2"),
    "f-31": _raced("f-31", ZONELISTS, "online-seqlock", "arm64-64K-42-linux-7.2"),
    "f-32": _raced("f-32", HV_BACKING, "as-it-is", "x86_64-4K-48-linux-7.2"),
    "f-33": _raced("f-33", MEMORY_GROUPS, "as-it-is", "x86_64-4K-48-linux-7.2"),
}
"""What is broken, and the same repaired."""
