"""Which zones an allocation may use, nearest first: the zonelists of mm/page_alloc.c.

They are built at boot, when a node is hot-added, and when a zone gets its first pages or loses its last. Whoever
allocates goes through them meanwhile, without a lock. Since 6.0 an allocation that found nothing looks whether they
were built anew while it went through them (``zonelist_update_seq``), and begins again then.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.hw.marked_map import MarkedMap
from memhp.hw.shared import marked
from memhp.linux.mm.mmzone import for_each_zone
from memhp.linux.mmzone import Zone, ZoneRef, ZoneType
from memhp.linux.place import kernel_function, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/page_alloc.c"
ZONELIST_UPDATE_SEQ = "zonelist_update_seq"
"""The seqlock's spin lock, by the name that the doors know it under."""
SEQUENCE = f"{ZONELIST_UPDATE_SEQ}.seqcount"
BUILD_LOCK = "__build_all_zonelists.lock"
"""What kept those who build apart before there was a seqlock."""
ENTRIES = 1 << 16
"""More than a zonelist can have."""


def zoneref_field(at: int) -> str:
    """An entry of a zonelist, by the name that the doors know it under."""
    return f"node{at // ENTRIES}.node_zonelists[0]._zonerefs[{at % ENTRIES}]"


@dataclass
class Zonelists:
    """``pgdat->node_zonelists[ZONELIST_FALLBACK]`` of every node that is possible."""

    zonerefs: MarkedMap[ZoneRef] = field(default_factory=lambda: MarkedMap(zoneref_field))
    """Node × :data:`ENTRIES` + number of the entry → ``struct zoneref``, written and read in one go; none: NULL, at
    which a list ends. What a shorter list has left behind its end stays."""
    sequence: int = field(default=0, metadata=marked(SEQUENCE))
    """How often building began or ended: odd meanwhile."""


@dataclass
class Mempolicy:
    """What mm/mempolicy.c is told of zones."""

    policy_zone: ZoneType = ZoneType.DMA
    """The highest zone but ZONE_MOVABLE that ever had pages."""


class Chosen(NamedTuple):
    """An entry of a zonelist, and what stood there when it was looked at."""

    at: int
    ref: ZoneRef | None


# Going through a zonelist -----------------------------------------------------------------------------------------


@of_file("include/linux/mmzone.h")
def next_zones_zonelist(k: Kernel, at: int, highest: ZoneType, nodes: Collection[int] | None = None) -> Chosen:
    """The first entry from `at` on of a zone up to `highest`, of one of `nodes` where given, or the end of the list."""
    zonerefs = k.statics(Zonelists).zonerefs
    while True:
        ref = zonerefs.get(at)
        if ref is None or (ref.type <= highest and (nodes is None or ref.nid in nodes)):
            return Chosen(at, ref)
        at += 1


@of_file("include/linux/mmzone.h")
def first_zones_zonelist(
    k: Kernel, nid: int, highest: ZoneType, nodes: Collection[int] | None = None
) -> Chosen:
    """As :func:`next_zones_zonelist`, from the beginning of a node's list on."""
    return next_zones_zonelist(k, nid * ENTRIES, highest, nodes)


@kernel_function("include/linux/mmzone.h:zonelist_zone")
def zones_from(k: Kernel, at: int, highest: ZoneType, nodes: Collection[int] | None = None) -> Iterator[Zone]:
    """Zones from an entry on: ``for_next_zone_zonelist_nodemask()``.

    That of the entry itself whatever is there now: if the list was built anew since somebody chose it, that may be one
    above `highest`, or the end. ``Profile.first_zone``: a repair looks on from there.
    """
    if k.config.profile.first_zone == "allowed":
        at, ref = next_zones_zonelist(k, at, highest, nodes)
    else:
        ref = k.statics(Zonelists).zonerefs.get(at)
    while ref is not None:
        yield k.nodes[ref.nid].zones[ref.type]
        at, ref = next_zones_zonelist(k, at + 1, highest, nodes)


def zonelist(k: Kernel, nid: int, highest: ZoneType, nodes: Collection[int] | None = None) -> Iterator[Zone]:
    """Zones up to `highest`, nearest first, of `nodes` where given: ``for_each_zone_zonelist_nodemask()``."""
    return zones_from(k, first_zones_zonelist(k, nid, highest, nodes).at, highest, nodes)


def zonelist_iter_begin(k: Kernel) -> int:
    """The sequence with which an allocation begins, once nobody builds zonelists; nothing where no seqlock tells."""
    if k.config.profile.zonelist_update == "spinlock":
        return 0
    lists = vars(k.statics(Zonelists))
    k.hw.spin(lambda: lists["sequence"] % 2 == 0, "zonelists to be built", SEQUENCE)
    sequence: int = lists["sequence"]
    return sequence


def check_retry_zonelist(k: Kernel, sequence: int) -> bool:
    """Whether zonelists were built since: then an allocation that found nothing is to begin again."""
    if k.config.profile.zonelist_update == "spinlock":
        return False
    k.hw.reads(SEQUENCE)
    return k.statics(Zonelists).sequence != sequence


# Building them ----------------------------------------------------------------------------------------------------


@kernel_function(f"{KERNEL_FILE}:find_next_best_node")
def node_order(k: Kernel, nid: int) -> list[int]:
    """Nodes with memory in the order in which an allocation for `nid` tries them; itself first, as far as it counts.

    All other nodes are equally far here; then the kernel goes on with the next higher ones, and the lower ones last.
    """
    nodes = set(k.node_states.memory)
    if k.config.profile.zonelist_local == "always":
        nodes.add(nid)
    return sorted(nodes, key=lambda other: (other < nid, other))


def build_zonerefs_node(k: Kernel, nid: int, at: int, populated: dict[int, list[ZoneRef]]) -> int:
    """Enter the populated zones of a node from `at` on, the highest first: where the next entry comes.

    `populated` is what is known of other lists; while somebody watches each list is for itself.
    """
    refs = populated.get(nid)
    if refs is None or k.hw.is_watched:
        refs = populated[nid] = _populated_zones(k, nid)
    zonerefs = k.statics(Zonelists).zonerefs
    for ref in refs:
        zonerefs.set(at, at + 1, ref)
        at += 1
    return at


def _populated_zones(k: Kernel, nid: int) -> list[ZoneRef]:
    node, policy = k.nodes.get(nid), k.statics(Mempolicy)
    zones = sorted(node.zones.items(), reverse=True) if node is not None else ()
    refs = [ZoneRef(nid, kind) for kind, zone in zones if zone.populated]
    for _, kind in refs:
        if policy.policy_zone < kind < ZoneType.MOVABLE:  # check_highest_zone()
            policy.policy_zone = kind
    return refs


@kernel_function(f"{KERNEL_FILE}:build_zonelists_in_node_order")
def build_zonelists(k: Kernel, nid: int, populated: dict[int, list[ZoneRef]]) -> list[int]:
    """Write the zonelist of a node, entry by entry, over what is there: the nodes in it, in their order.

    ``build_zonelists_in_node_order()``. The list for ``__GFP_THISNODE`` is not there: nothing here allocates so.
    """
    order, at = node_order(k, nid), nid * ENTRIES
    for each in order:
        at = build_zonerefs_node(k, each, at, populated)
    k.statics(Zonelists).zonerefs.clear(at, at + 1)
    return order


@contextmanager
@kernel_function(f"{KERNEL_FILE}:__build_all_zonelists")
def _zonelists_written(k: Kernel) -> Iterator[None]:
    """One at a time builds, and says so to readers, in kernels in which they look."""
    if k.config.profile.zonelist_update == "spinlock":
        with k.hw.locked(BUILD_LOCK):
            yield
        return
    lists = k.statics(Zonelists)
    with k.hw.locked(ZONELIST_UPDATE_SEQ):
        k.hw.atomic(SEQUENCE)
        lists.sequence += 1
        yield
        k.hw.atomic(SEQUENCE)
        lists.sequence += 1


def __build_all_zonelists(k: Kernel, new: int | None = None) -> dict[int, list[int]]:
    """Build the zonelist of every possible node; of the node `new`, which is not online yet, that one only.

    Gives each one's order of nodes.
    """
    states = k.node_states
    with _zonelists_written(k):
        nids = sorted(states.possible | states.online) if new is None or new in states.online else [new]
        populated: dict[int, list[ZoneRef]] = {}
        return {nid: build_zonelists(k, nid, populated) for nid in nids}


def build_all_zonelists_init(k: Kernel) -> None:
    """Build zonelists for the first time, before anything can be allocated; what a kernel says of it is left out."""
    __build_all_zonelists(k)


def build_all_zonelists(k: Kernel, new: int | None = None) -> None:
    """Build zonelists anew (:func:`__build_all_zonelists`), and say what they are now."""
    for nid, order in __build_all_zonelists(k, new).items():
        k.hw.log(f"Fallback order for Node {nid}: {''.join(f'{each} ' for each in order)}")
    zones = list(for_each_zone(k))
    k.reads_zones(zones, "managed_pages", "_watermark")
    total = sum(max(0, zone.managed - zone.watermark_high) for zone in zones)
    k.hw.log(f"Built {len(k.node_states.online)} zonelists, mobility grouping on.  Total pages: {total}")
    k.hw.log(f"Policy zone: {k.statics(Mempolicy).policy_zone.title}")
