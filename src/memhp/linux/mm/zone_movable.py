"""Where each node's ZONE_MOVABLE begins at boot: mm/mm_init.c:find_zone_movable_pfns_for_nodes. PFNs and pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Core
from memhp.linux.mm.memblock import MEMBLOCK_HOTPLUG, MEMBLOCK_MIRROR
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, align_up

KERNEL_FILE = "mm/mm_init.c"
SZ_4G = 4 * GiB


def find_zone_movable_pfns_for_nodes(k: Kernel, arch: dict[ZoneType, Span]) -> dict[int, int]:
    """Node → the first PFN of its ZONE_MOVABLE, for nodes that have one; `arch` is where the other zones may lie.

    Under ``movable_node`` at a node's first hotpluggable memory; under ``kernelcore=mirror`` at its first that is not
    mirrored; else behind what ``kernelcore`` or ``movablecore`` leave for the kernel there.
    """
    if k.config.movable_node:
        found = _hotpluggable(k)
    elif k.config.mirrored_kernelcore:
        found = _not_mirrored(k)
    else:
        wanted = _required_kernelcore(k)
        found = _behind_kernelcore(k, wanted, arch) if wanted else {}
    ends = {nid: end for _, end, nid in k.memblock.for_each_mem_pfn_range()}
    aligned = {nid: align_up(pfn, 1 << k.config.max_page_order) for nid, pfn in found.items()}
    return {nid: pfn for nid, pfn in aligned.items() if pfn < ends[nid]}


def _hotpluggable(k: Kernel) -> dict[int, int]:
    """Node → its first hotpluggable page."""
    found: dict[int, int] = {}
    for start, _, region in k.memblock.memory:
        if region.flags & MEMBLOCK_HOTPLUG:
            found.setdefault(region.nid, -(-start >> k.config.page_shift))
    return found


def _not_mirrored(k: Kernel) -> dict[int, int]:
    """Node → its first page from 4 GiB on that firmware does not mirror."""
    found: dict[int, int] = {}
    if not k.memblock.mirror and k.config.profile.mirror_lacking == "ignored":
        k.hw.log("The system has no mirror memory, ignore kernelcore=mirror.", "warn")
        return found
    low = False
    for start, _, region in k.memblock.memory:
        if not region.flags & MEMBLOCK_MIRROR:
            low |= start < SZ_4G
            if start >= SZ_4G:
                found.setdefault(region.nid, -(-start >> k.config.page_shift))
    if low:
        k.hw.log("This configuration results in unmirrored kernel memory.", "warn")
    return found


def _required_kernelcore(k: Kernel) -> int:
    """Pages that all nodes together are to keep for any use; 0 where nothing is said, or more than there is."""
    total = sum(end - start for start, end, _ in k.memblock.for_each_mem_pfn_range())
    kernelcore = _pages(k, k.config.kernelcore, total)
    movablecore = _pages(k, k.config.movablecore, total)
    if movablecore:
        movablecore = min(total, align_up(movablecore, 1 << k.config.max_page_order))
        kernelcore = max(kernelcore, total - movablecore)
    return kernelcore if kernelcore < total else 0


def _pages(k: Kernel, core: Core | None, total: int) -> int:
    """Pages that an option names (``cmdline_parse_core``)."""
    if core is None:
        return 0
    return total * 100 * core.percent // 10000 if core.percent else core.size >> k.config.page_shift


def _behind_kernelcore(k: Kernel, required: int, arch: dict[ZoneType, Span]) -> dict[int, int]:
    """Node → the first page behind its share of what the kernel is to keep: spread evenly, and what a node lacks over
    the others, in rounds of one node less.
    """
    ranges = list(k.memblock.for_each_mem_pfn_range())
    usable = max(span for span in arch.values() if span).start
    nodes = sorted({nid for _, _, nid in ranges})
    found = dict.fromkeys(nodes, 0)
    for sharing in range(len(nodes), 0, -1):
        share = required // sharing
        for nid in nodes:
            if required < share:
                share = required // sharing
            own = [Span(start, end) for start, end, owner in ranges if owner == nid]
            required = _take_share(found, nid, own, usable, share, required)
        if sharing == 1 or required <= sharing - 1:
            break
    return {nid: pfn for nid, pfn in found.items() if pfn}


def _take_share(found: dict[int, int], nid: int, ranges: list[Span], usable: int, share: int, required: int) -> int:
    """Move the start of a node's ZONE_MOVABLE behind so many more pages; what is still required then."""
    for first, end in ranges:
        start = max(first, found[nid])
        if start >= end:
            continue
        if start < usable:
            kernel = min(end, usable) - start
            share -= min(kernel, share)
            required -= min(kernel, required)
            if end <= usable:
                found[nid] = end
                continue
            start = usable
        size = min(end - start, share)
        found[nid] = start + size
        required -= min(required, size)
        share -= size
        if not share:
            break
    return required
