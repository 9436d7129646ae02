"""Bringing pages online: ``mm/memory_hotplug.c:online_pages``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.drivers.base.node import N_MEMORY, N_NORMAL_MEMORY
from memhp.linux.drivers.base.notify import Refusal, memory_notify, node_notify
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.memory_hotplug_zone import (
    adjust_present_page_count,
    move_pfn_range_to_zone,
    remove_pfn_range_from_zone,
)
from memhp.linux.mm.page_alloc import build_all_zonelists, free_pages_core, init_per_zone_wmark_min
from memhp.linux.mm.page_isolation import undo_isolate_page_range
from memhp.linux.mm.sparse import online_mem_sections
from memhp.linux.mmzone import MemoryGroup, MigrateType, Zone, ZoneType
from memhp.linux.nodemask import node_set_state
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.units import is_aligned

KERNEL_FILE = "mm/memory_hotplug.c"

OnlinePageCallback = Callable[[Kernel, int, int], None]
"""``(k, pfn, nr_pages)``: what becomes of a run of pages that goes online (``online_page_callback_t``)."""


@dataclass
class Onlining:
    """Who has a say in what goes online."""

    online_page_callback: OnlinePageCallback | None = None
    """The driver's own way of giving pages to the buddy (``set_online_page_callback()``); None for the usual way."""


def online_pages(k: Kernel, pfn: int, nr_pages: int, zone: Zone, group: MemoryGroup | None) -> None:
    """Put pages into a zone and give them to the buddy. The caller holds ``mem_hotplug_lock``.

    Raises EINVAL for a range that is not pageblocks up to the end of a section, EPERM when a notifier refuses: then the
    pages are out of the zone again.
    """
    end_pfn = pfn + nr_pages
    if not nr_pages or not is_aligned(pfn, k.config.pageblock_nr_pages) or end_pfn % k.config.pages_per_section:
        warn(k, here(), once=True)
        raise KernelError(
            EINVAL, f"PFN {pfn:#x}-{end_pfn:#x} is not pageblocks up to the end of a section", place=here()
        )
    move_pfn_range_to_zone(k, zone, pfn, nr_pages, MigrateType.MOVABLE, isolate=True)
    first_memory = zone.nid not in k.node_states.memory
    refusal, asked = _going_online(k, pfn, nr_pages, zone.nid, first_memory)
    if refusal:
        _failed_addition(k, pfn, nr_pages, zone, first_memory, asked=asked)
        raise KernelError(
            refusal.errno,
            refusal.reason,
            place=here(),
            advice="a driver or the architecture will not have this memory online",
        )
    with k.hw.locked(zone.lock):
        zone.nr_isolate_pageblock += nr_pages // k.config.pageblock_nr_pages
    rebuild = not zone.populated
    online_pages_range(k, pfn, nr_pages)
    adjust_present_page_count(k, pfn, group, nr_pages)
    _set_node_states(k, zone, first_memory)
    if rebuild:
        build_all_zonelists(k)
    undo_isolate_page_range(k, pfn, end_pfn)
    init_per_zone_wmark_min(k)
    if first_memory and k.config.profile.node_notifier == "node-notifier":
        node_notify(k, "NODE_ADDED_FIRST_MEMORY", zone.nid)
    memory_notify(k, "MEM_ONLINE", pfn, nr_pages)


def _set_node_states(k: Kernel, zone: Zone, first_memory: bool) -> None:
    """The node has memory, and memory that is not movable only, where it had none: other nodes are not written to.

    Kernels without node notifiers say the second first: ``node_states_set_node()``.
    """
    first_normal = zone.type <= ZoneType.NORMAL and zone.nid not in k.node_states.normal_memory
    new = [N_MEMORY] * first_memory + [N_NORMAL_MEMORY] * first_normal
    for state in new if k.config.profile.node_notifier == "node-notifier" else reversed(new):
        node_set_state(k, zone.nid, state)


def online_pages_range(k: Kernel, start_pfn: int, nr_pages: int) -> None:
    """Give pages to the buddy, or to the driver that wants to choose among them, and mark their sections online."""
    online_page = k.statics(Onlining).online_page_callback or generic_online_page
    online_page(k, start_pfn, nr_pages)
    online_mem_sections(k, start_pfn, start_pfn + nr_pages)


def generic_online_page(k: Kernel, pfn: int, nr_pages: int) -> None:
    """Give a run of pages to the buddy for the first time: ``online_page_callback`` unless a driver has its own."""
    free_pages_core(k, pfn, nr_pages, f"{KERNEL_FILE}:online_pages_range")


def set_online_page_callback(k: Kernel, callback: OnlinePageCallback) -> None:
    """Have a driver decide which pages go to the buddy. Raises EINVAL when another driver does."""
    with _callback_locked(k):
        if k.statics(Onlining).online_page_callback is not None:
            raise KernelError(EINVAL, "another driver decides which pages go online", place=here())
        k.statics(Onlining).online_page_callback = callback


def restore_online_page_callback(k: Kernel, callback: OnlinePageCallback) -> None:
    """Let all pages go to the buddy again. Raises EINVAL when the callback is not this one."""
    with _callback_locked(k):
        if k.statics(Onlining).online_page_callback is not callback:
            raise KernelError(EINVAL, "this is not the driver that decides", place=here())
        k.statics(Onlining).online_page_callback = None


@contextmanager
@kernel_function(None)
def _callback_locked(k: Kernel) -> Iterator[None]:
    """Nothing goes online meanwhile (``get_online_mems()``), and nobody else changes the callback."""
    with k.hw.locked("mem_hotplug_lock", write=False), k.hw.locked("online_page_callback_lock"):
        yield


def _going_online(k: Kernel, pfn: int, nr_pages: int, nid: int, first_memory: bool) -> tuple[Refusal | None, bool]:
    """Ask the notifiers: how the first that refused did, and whether the memory chain was asked."""
    if first_memory and k.config.profile.node_notifier == "node-notifier":
        refusal = node_notify(k, "NODE_ADDING_FIRST_MEMORY", nid)
        if refusal:
            return refusal, False
    return memory_notify(k, "MEM_GOING_ONLINE", pfn, nr_pages), True


def _failed_addition(k: Kernel, pfn: int, nr_pages: int, zone: Zone, first_memory: bool, *, asked: bool) -> None:
    shift = k.config.page_shift
    k.hw.log(f"online_pages [mem {pfn << shift:#010x}-{(pfn + nr_pages << shift) - 1:#010x}] failed", "debug")
    if asked or k.config.profile.cancel_heard == "by-all":
        memory_notify(k, "MEM_CANCEL_ONLINE", pfn, nr_pages)
    if first_memory and k.config.profile.node_notifier == "node-notifier":
        node_notify(k, "NODE_CANCEL_ADDING_FIRST_MEMORY", zone.nid)
    remove_pfn_range_from_zone(k, zone, pfn, nr_pages)
