"""What Linux would show of a modelled machine, in the structures that real machines are read into.

Only what the model knows is filled in: counters that nobody models are left out, not set to zero.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from memhp.facts import iomem
from memhp.facts.buddyinfo import BuddyZone
from memhp.facts.devices import DaxDevice
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.nodes import Node, Nodes
from memhp.facts.observed import Facts
from memhp.facts.pagetypeinfo import NodePageTypes, PageBlocks
from memhp.facts.paging import vmalloc_total
from memhp.facts.params import HotplugParams
from memhp.facts.zoneinfo import ZoneInfo
from memhp.hw.memory import Use
from memhp.linux.drivers.base.memory import crash_hotplug, valid_zones
from memhp.linux.drivers.base.memory_lookup import Poisoned
from memhp.linux.drivers.dax.bus import DaxBus
from memhp.linux.kernel.resource import Resource
from memhp.linux.mm.compound_vmemmap import VMEMMAP_RESERVE_NR, vmemmap_can_optimize
from memhp.linux.mm.dev_pagemap import DevPagemap, Memremap, pgmap_vmemmap_nr
from memhp.linux.mm.free_area import free_by_order, nr_free_pages
from memhp.linux.mm.hugetlb import HUGE_USES
from memhp.linux.mm.memory_failure import memory_failure_stats
from memhp.linux.mm.zone_limits import zone_types
from memhp.linux.mmzone import MigrateType, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import KiB, div_round_up

LOCAL_DISTANCE, REMOTE_DISTANCE = 10, 20
"""``include/linux/topology.h``: how far nodes are apart on machines whose firmware does not say."""

OVERCOMMIT_RATIO = 50
"""Percent: ``sysctl_overcommit_ratio``."""

ZONE_STATS = {
    "nr_zone_active_anon": (Use.MOVABLE, Use.PINNED),
    "nr_zone_unevictable": (Use.SECRETMEM, Use.GUEST_MEMFD),
}
"""Counters of a zone (``zone_stat_item``) by the uses of pages that they count."""
NODE_STATS = {"nr_slab_reclaimable": (Use.RECLAIMABLE,), "nr_slab_unreclaimable": (Use.SLAB,)}
"""Those of a node (``node_stat_item``)."""


def derive(k: Kernel) -> Facts:
    """Everything that Linux would show of the machine as it is now."""
    return Facts(
        iomem=resources_of(k.iomem_resource),
        zones=tuple(zones_of(k)),
        memory=_memory_blocks(k),
        nodes=nodes_of(k),
        params=params_of(k),
        meminfo=meminfo_of(k),
        vmstat=vmstat_of(k),
        buddyinfo=buddyinfo_of(k),
        pagetypeinfo=tuple(pagetypeinfo_of(k)),
        dax=tuple(dax_of(k)),
        release=k.config.profile.release,
        source=k.config.title,
    )


def dax_of(k: Kernel) -> Iterator[DaxDevice]:
    """The devices of the DAX bus (``drivers/dax/bus.c``), and where those on namespaces keep struct pages."""
    shows_memmap = k.config.profile.memmap_on_memory == "many-blocks"
    for name, dev in sorted(k.statics(DaxBus).devices.items()):
        pgmap = dev.static_pgmap
        yield DaxDevice(
            name=name,
            resource=dev.ranges[0].start,
            size=sum(span.size for span in dev.ranges),
            align=dev.align,
            target_node=dev.target_node,
            memmap_on_memory=dev.memmap_on_memory if shows_memmap else None,
            mode=None if pgmap is None else "ram" if pgmap.altmap is None else "pmem",
            mappings=dev.ranges,
        )


def pagetypeinfo_of(k: Kernel) -> Iterator[NodePageTypes]:
    """The pageblocks of each zone Movable by migrate type (``mm/vmstat.c:pagetypeinfo_showblockcount_print``).

    Those of other zones change with what tasks allocate, and are left out with the lists of free pages.
    """
    size = k.config.pageblock_nr_pages
    for zone in k.zones():
        if zone.type is ZoneType.MOVABLE and zone.populated:
            count = dict.fromkeys(MigrateType, 0)
            for start, end, migratetype in zone.migratetypes:
                count[migratetype] += div_round_up(end, size) - start // size
            blocks = PageBlocks(zone.name, tuple(count.values()))
            yield NodePageTypes(zone.nid, k.config.pageblock_order, tuple(count), (), (blocks,))


def resources_of(parent: Resource) -> tuple[iomem.Resource, ...]:
    """``/proc/iomem`` as root sees it."""
    return tuple(iomem.Resource(child.start, child.end, child.name, resources_of(child)) for child in parent.children)


def zones_of(k: Kernel) -> Iterator[ZoneInfo]:
    """``/proc/zoneinfo``: every zone of every online node, populated or not (``mm/vmstat.c:zoneinfo_show``)."""
    kinds = zone_types(k.config)
    used = _used_by_zone(k)
    for nid in sorted(k.node_states.online & k.nodes.keys()):
        first = next((kind for kind in kinds if (there := k.nodes[nid].zones.get(kind)) and there.populated), None)
        for kind in kinds:
            zone = k.nodes[nid].zones.get(kind) or Zone(nid, kind)
            free = nr_free_pages(zone)
            yield ZoneInfo(
                node=nid,
                name=zone.name,
                free=free,
                boost=0,
                min=zone.watermark_min,
                low=zone.watermark_low,
                high=zone.watermark_high,
                promo=zone.watermark_promo,
                spanned=zone.spanned,
                present=zone.present,
                managed=zone.managed,
                cma=zone.cma_pages,
                protection=tuple(zone.lowmem_reserve.get(upper, 0) for upper in kinds),
                stats={"nr_free_pages": free, **_counted(ZONE_STATS, used[nid, kind])} if zone.populated else {},
                node_stats=_counted(NODE_STATS, _sum(used, nid)) if kind is first else {},
                start_pfn=zone.start_pfn if zone.populated else None,
            )


def _used_by_zone(k: Kernel) -> dict[tuple[int, ZoneType], Counter[Use]]:
    """How many pages of each zone are put to each use."""
    found: dict[tuple[int, ZoneType], Counter[Use]] = defaultdict(Counter)
    for start, end, zone in k.page_zone:
        for first, last, owner in k.hw.memory.owners.runs(start, end):
            found[zone.nid, zone.type][owner.use] += last - first
    return found


def _sum(used: Mapping[tuple[int, ZoneType], Counter[Use]], nid: int) -> Counter[Use]:
    return sum((count for (node, _), count in used.items() if node == nid), Counter())


def _counted(names: Mapping[str, tuple[Use, ...]], used: Counter[Use]) -> dict[str, int]:
    return {name: sum(used[use] for use in uses) for name, uses in names.items()}


def _memory_blocks(k: Kernel) -> MemoryBlocks:
    """``/sys/devices/system/memory``, which a kernel without ``CONFIG_MEMORY_HOTPLUG`` lacks."""
    if not k.config.memory_hotplug:
        return MemoryBlocks(0, ())
    nodes: dict[int, list[int]] = {}
    for nid, linked in sorted(k.node_states.devices.items()):
        for span in linked:
            for block in range(*span):
                nodes.setdefault(block, []).append(nid)
    blocks = [
        MemoryBlock(
            index=index,
            state=block.state,
            valid_zones=valid_zones_of(k, index),
            removable=True,
            phys_device=0,
            nodes=tuple(nodes.get(index, ())),
        )
        for first, last, block in k.memory_blocks
        for index in range(first, last)
    ]
    return MemoryBlocks(k.memory_block_size, tuple(blocks), k.auto_online_blocks, crash_hotplug(k))


def valid_zones_of(k: Kernel, index: int) -> tuple[str, ...]:
    """``valid_zones``; none where the machine died before it told the block its node."""
    block = k.memory_blocks.get(index)
    if block is None or (block.nid is None and block.state != "online"):
        return ()
    return tuple(valid_zones(k, index).split())


def nodes_of(k: Kernel) -> Nodes:
    """``/sys/devices/system/node``."""
    nodes = (
        Node(
            nid,
            meminfo=node_meminfo(k, nid),
            cpulist=k.node_states.cpus.get(nid, ()),
            distance=node_distance(k, nid),
            memory_failure=memory_failure_stats(k, nid),
        )
        for nid in sorted(k.node_states.devices)
    )
    return Nodes(node_lists(k), tuple(nodes))


def node_lists(k: Kernel) -> dict[str, tuple[int, ...]]:
    """The nodes in each of NODE_STATES."""
    states = k.node_states
    return {
        "possible": tuple(sorted(states.possible)),
        "online": tuple(sorted(states.online)),
        "has_memory": tuple(sorted(states.memory)),
        "has_normal_memory": tuple(sorted(states.normal_memory)),
        "has_cpu": tuple(sorted(states.cpus)),
        "has_generic_initiator": (),
    }


def node_distance(k: Kernel, nid: int) -> tuple[int, ...]:
    """How far a node is from each that is online."""
    return tuple(LOCAL_DISTANCE if nid == other else REMOTE_DISTANCE for other in sorted(k.node_states.online))


def node_meminfo(k: Kernel, nid: int) -> dict[str, int]:
    """A node's meminfo (``drivers/base/node.c:node_read_meminfo``), kB."""
    counted = _meminfo(k, [zone for zone in k.zones() if zone.nid == nid])
    return {**counted, "MemUsed": counted["MemTotal"] - counted["MemFree"]}


def _meminfo(k: Kernel, zones: list[Zone]) -> dict[str, int]:
    """``MemTotal`` and ``MemFree`` of some zones (``mm/show_mem.c:si_meminfo``), kB."""
    kbytes = k.config.page_size // KiB
    return {
        "MemTotal": sum(zone.managed for zone in zones) * kbytes,
        "MemFree": sum(nr_free_pages(zone) for zone in zones) * kbytes,
    }


def meminfo_of(k: Kernel) -> dict[str, int]:
    """``/proc/meminfo``, as far as the model knows it, kB."""
    return {
        **_meminfo(k, k.zones()),
        "CommitLimit": _commit_limit(k),
        **_hardware_corrupted(k),
        **_vmalloc_total(k),
        **k.port.arch_report_meminfo(k),
    }


def _hardware_corrupted(k: Kernel) -> dict[str, int]:
    kbytes = k.statics(Poisoned).num_poisoned_pages * (k.config.page_size // KiB)
    return {"HardwareCorrupted": kbytes} if k.port.has_memory_failure else {}


def buddyinfo_of(k: Kernel) -> tuple[BuddyZone, ...]:
    """``/proc/buddyinfo``."""
    return tuple(BuddyZone(zone.nid, zone.name, tuple(free_by_order(k, zone))) for zone in k.zones() if zone.populated)


def _commit_limit(k: Kernel) -> int:
    """``CommitLimit`` without swap, with ``vm.overcommit_ratio`` at its default (``mm/util.c:vm_commit_limit``), kB."""
    huge = sum(k.hw.memory.used(use) for use in HUGE_USES)
    managed = sum(zone.managed for zone in k.zones())
    return (managed - huge) * OVERCOMMIT_RATIO // 100 * (k.config.page_size // KiB)


def _vmalloc_total(k: Kernel) -> dict[str, int]:
    """``VmallocTotal``, kB."""
    total = vmalloc_total(k.config, k.layout.vmalloc.size)
    return {} if total is None else {"VmallocTotal": total}


def vmstat_of(k: Kernel) -> dict[str, int]:
    """The lines of ``/proc/vmstat`` that the model knows."""
    found = {"nr_free_pages": sum(nr_free_pages(zone) for zone in k.zones())}
    if k.config.profile.memmap_counters:
        found["nr_memmap_pages"] = memmap_pages(k, early=False)
        found["nr_memmap_boot_pages"] = memmap_pages(k, early=True)
    return found


def memmap_pages(k: Kernel, *, early: bool) -> int:
    """Pages of struct pages of the sections since boot, or of those added later, wherever they are kept.

    Each section's part is rounded up to whole pages, as in ``mm/sparse.c:populate_section_memmap``.
    """
    size, per = k.config.struct_page_size, k.config.pages_per_section
    pages = 0
    for first, last, section in k.mem_section:
        if section.early is not early:
            continue
        if early:
            pages += (last - first) * div_round_up(per * size, k.config.page_size)
            continue
        for run in k.subsection_map.runs(first * per, last * per):
            mappings = k.statics(Memremap).pgmap_array.runs(*run)
            shared = [(Span(*part), pgmap) for *part, pgmap in mappings if _shares(k, pgmap)]
            pages += sum(_compounds(part, pgmap) * VMEMMAP_RESERVE_NR for part, pgmap in shared)
            for part in SpanSet(each for each, _ in shared).gaps(*run):
                whole = part.end // per - -(-part.start // per)
                rest = part.size - max(whole, 0) * per
                pages += max(whole, 0) * div_round_up(per * size, k.config.page_size)
                pages += div_round_up(rest * size, k.config.page_size)
    return pages


def _shares(k: Kernel, pgmap: DevPagemap) -> bool:
    return vmemmap_can_optimize(k.config, pgmap.altmap, pgmap.vmemmap_shift)


def _compounds(part: Span, pgmap: DevPagemap) -> int:
    """Compound pages of a device that begin in a span: ``mm/sparse-vmemmap.c:section_nr_vmemmap_pages``."""
    nr = pgmap_vmemmap_nr(pgmap)
    return -(-part.end // nr) - -(-part.start // nr)


def params_of(k: Kernel) -> HotplugParams:
    """``/sys/module/memory_hotplug/parameters``, as far as this kernel has them."""
    config = k.config
    auto = config.profile.auto_movable
    return HotplugParams(
        memmap_on_memory=config.memmap_on_memory if config.memmap_on_memory_rules != "none" else None,
        online_policy=config.online_policy if auto else None,
        auto_movable_ratio=config.auto_movable_ratio if auto else None,
        auto_movable_numa_aware=config.auto_movable_numa_aware if auto else None,
    )
