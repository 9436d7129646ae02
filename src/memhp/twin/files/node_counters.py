"""``meminfo``, ``vmstat`` and ``numastat`` of a node, each line in its place: ``drivers/base/node.c``.

The lines are those that every kernel since 6.1 has in this order; what single releases or builds add is missing. A
count that the model does not keep is 0, as on a machine where nobody did anything of the kind: tools that read these
files want their lines.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Mapping

from memhp.facts.derive import node_meminfo
from memhp.hw.memory import Use
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.hugetlb import huge_page_order
from memhp.linux.state import Kernel
from memhp.units import KiB

_MEMINFO = """
MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) Inactive(file)
Unevictable Mlocked Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack PageTables SecPageTables NFS_Unstable
Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim AnonHugePages ShmemHugePages ShmemPmdMapped
FileHugePages FilePmdMapped HugePages_Total HugePages_Free HugePages_Surp
"""
MEMINFO = tuple(_MEMINFO.split())
"""The names of ``node_read_meminfo()`` and ``mm/hugetlb.c:hugetlb_report_node_meminfo()``."""

NUMASTAT = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
"""The names of ``node_read_numastat()``: events since boot."""

_VMSTAT = """
nr_free_pages nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file nr_zone_unevictable
nr_zone_write_pending nr_mlock nr_zspages nr_free_cma numa_hit numa_miss numa_foreign numa_interleave numa_local
numa_other nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable
nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon
workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon
workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem
nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped nr_anon_transparent_hugepages
nr_vmscan_write nr_vmscan_immediate_reclaim nr_dirtied nr_written nr_throttled_written nr_kernel_misc_reclaimable
nr_foll_pin_acquired nr_foll_pin_released nr_kernel_stack nr_page_table_pages nr_sec_page_table_pages nr_swapcached
pgpromote_success pgpromote_candidate
"""
VMSTAT = tuple(_VMSTAT.split())
"""The names of ``node_read_vmstat()``: those of ``mm/vmstat.c:vmstat_text`` that are counted by zone and by node."""

ANON = (Use.MOVABLE, Use.PINNED)
UNEVICTABLE = (Use.SECRETMEM, Use.GUEST_MEMFD)
"""Pages of files that are never reclaimed."""
SLAB = (Use.SLAB, Use.RECLAIMABLE)
HUGE = (Use.HUGETLB, Use.HUGETLB_FREE)

PAGES: Mapping[str, tuple[Use, ...]] = {
    "nr_zone_active_anon": ANON,
    "nr_active_anon": ANON,
    "nr_anon_pages": ANON,
    "nr_zone_unevictable": UNEVICTABLE,
    "nr_unevictable": UNEVICTABLE,
    "nr_file_pages": UNEVICTABLE,
    "nr_mapped": (Use.SECRETMEM,),
    "nr_slab_reclaimable": (Use.RECLAIMABLE,),
    "nr_slab_unreclaimable": (Use.SLAB,),
}
"""The pages that a line of ``vmstat`` counts."""

KBYTES: Mapping[str, tuple[Use, ...]] = {
    "Active": ANON,
    "Active(anon)": ANON,
    "AnonPages": ANON,
    "Unevictable": UNEVICTABLE,
    "FilePages": UNEVICTABLE,
    "Mapped": (Use.SECRETMEM,),
    "Slab": SLAB,
    "SReclaimable": (Use.RECLAIMABLE,),
    "KReclaimable": (Use.RECLAIMABLE,),
    "SUnreclaim": (Use.SLAB,),
}
"""The same for ``meminfo``."""


def pages_by_use(k: Kernel, nid: int) -> Counter[Use]:
    """How many pages of a node are used for what."""
    found = Counter[Use]()
    for start, end, owner in k.hw.memory.owners:
        for first, last, zone in k.page_zone.runs(start, end):
            if zone.nid == nid:
                found[owner.use] += last - first
    return found


def meminfo(k: Kernel, nid: int) -> dict[str, int]:
    """Every line of ``meminfo``, kB; of huge pages their number."""
    used = pages_by_use(k, nid)
    counted = {name: _sum(used, uses) * (k.config.page_size // KiB) for name, uses in KBYTES.items()}
    order = huge_page_order(k.config, Use.HUGETLB) or 0
    huge = {"HugePages_Total": _sum(used, HUGE) >> order, "HugePages_Free": used[Use.HUGETLB_FREE] >> order}
    known = {**counted, **huge, **node_meminfo(k, nid)}
    return {name: known.get(name, 0) for name in MEMINFO}


def vmstat(k: Kernel, nid: int) -> dict[str, int]:
    """Every line of ``vmstat``, pages and events."""
    used = pages_by_use(k, nid)
    known = {name: _sum(used, uses) for name, uses in PAGES.items()}
    known["nr_free_pages"] = sum(nr_free_pages(zone) for zone in k.zones() if zone.nid == nid)
    return {name: known.get(name, 0) for name in VMSTAT}


def numastat() -> dict[str, int]:
    """Every line of ``numastat``: the model counts no allocations."""
    return dict.fromkeys(NUMASTAT, 0)


def _sum(used: Counter[Use], uses: tuple[Use, ...]) -> int:
    return sum(used[use] for use in uses)
