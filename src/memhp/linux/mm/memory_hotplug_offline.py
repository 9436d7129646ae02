"""Taking pages offline: ``mm/memory_hotplug.c:offline_pages``, with every reason it has to refuse."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager, nullcontext
from errno import EBUSY, EINTR, EINVAL

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.node import N_MEMORY, N_NORMAL_MEMORY
from memhp.linux.drivers.base.notify import memory_notify, node_notify
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.resource import walk_system_ram_range
from memhp.linux.mm.hugetlb import GIGANTIC_USES, POOLS, dissolve_free_hugetlb_folios
from memhp.linux.mm.memory_hotplug_zone import adjust_present_page_count, remove_pfn_range_from_zone
from memhp.linux.mm.migrate import FIXED, Stuck, do_migrate_range, scan_movable_pages
from memhp.linux.mm.page_alloc import (
    adjust_managed_page_count,
    build_all_zonelists,
    init_per_zone_wmark_min,
)
from memhp.linux.mm.page_isolation import start_isolate_page_range, test_pages_isolated, undo_isolate_page_range
from memhp.linux.mm.pcplists import drain_all_pages, pcp_disabled
from memhp.linux.mm.sparse import offline_mem_sections
from memhp.linux.mmzone import MemoryGroup, PageFlags, Zone, ZoneRef, ZoneType
from memhp.linux.nodemask import node_clear_state
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import format_count

KERNEL_FILE = "mm/memory_hotplug.c"
NO_HOTREMOVE = "this kernel was built without CONFIG_MEMORY_HOTREMOVE: memory only comes"
NODE_REFUSED = "node notifier failure"
OFFLINE = "mm/page_alloc.c:__offline_isolated_pages"


IN_LINEAR_MAP = "splits a leaf entry in linear map"
NOTIFIERS_SAY = {
    IN_LINEAR_MAP: "it would go if plugged one memory block at a time, or booted with rodata=on",
    "splits a leaf entry in vmemmap": "it would go if its struct pages were in RAM: memory_hotplug.memmap_on_memory=N",
    "offlining attempted": "boot memory stays on this architecture: plug what is to go again",
}
"""What can be done when a notifier refuses, by the end of what it says."""
GOES = frozenset({Use.FREE, Use.FROZEN})
"""Uses of pages that are free, or will be without anybody's doing: the next look finds them so."""
ON_BBML2 = "it would go if plugged one memory block at a time; on this CPU (BBML2) no rodata= makes leaves smaller"


def offline_pages(k: Kernel, start_pfn: int, nr_pages: int, zone: Zone | None, group: MemoryGroup | None) -> None:
    """Empty pages of whatever can move, and take them from the buddy. The caller holds ``mem_hotplug_lock``.

    `zone` is the one that the caller knows to hold them all; None in kernels where this function finds out. Raises a
    :class:`KernelError` whose reason is the word that the kernel logs; the pages are in use again then, except that
    some may have moved. EINVAL is all that a kernel that cannot take memory out has for this
    (``include/linux/memory_hotplug.h``).
    """
    if not k.config.memory_hotremove:
        raise KernelError(EINVAL, NO_HOTREMOVE, place=here())
    end_pfn = start_pfn + nr_pages
    if not nr_pages or start_pfn % k.config.pageblock_nr_pages or end_pfn % k.config.pages_per_section:
        warn(k, here(), once=True)
        text = f"PFN {start_pfn:#x}-{end_pfn:#x} is not pageblocks up to the end of a section"
        raise KernelError(EINVAL, text, place=here())
    span = Span(start_pfn, end_pfn)
    try:
        _check_holes(k, span)
        zone = _one_zone(k, span, zone)
        with _lists_disabled(k, zone):
            last_memory = _isolate_and_empty(k, span, zone)
            managed_pages = _offline_isolated(k, span, zone)
    except KernelError as error:
        shift = k.config.page_shift
        mem = f"[mem {start_pfn << shift:#010x}-{(end_pfn << shift) - 1:#010x}]"
        k.hw.log(f"memory offlining {mem} failed due to {error.reason}", "debug")
        raise
    adjust_managed_page_count(k, span.start, -managed_pages)
    _removal_success(k, span, zone, group, last_memory)


@kernel_function(None)
def _lists_disabled(k: Kernel, zone: Zone) -> AbstractContextManager[None]:
    """While pages go, none of the zone's stays in a list of a CPU: kernels from 5.11 on."""
    return pcp_disabled(k, zone) if k.config.profile.pcplists == "disabled" else nullcontext()


def _check_holes(k: Kernel, span: Span) -> None:
    with k.hw.locked("resource_lock", write=False):
        ram = sum(
            count for _, count in walk_system_ram_range(k.iomem_resource, span.start, span.size, k.config.page_shift)
        )
    if ram != span.size:
        advice = f"only {ram} of {span.size} pages are System RAM: a block of boot memory with holes stays online"
        raise KernelError(EINVAL, "memory holes", place=here(), advice=advice)


def _one_zone(k: Kernel, span: Span, zone: Zone | None) -> Zone:
    """The zone of all pages. A zone that the caller names is only checked at the first and the last page."""
    if zone is None:
        refs = {ref for _, _, ref in k.page_zone.runs(*span)}
        found = [k.nodes[ref.nid].zones[ref.type] for ref in refs]
        if len(found) == 1:
            return found[0]
    else:
        ref = ZoneRef(zone.nid, zone.type)
        if k.page_zone.get(span.start) == ref and k.page_zone.get(span.end - 1) == ref:
            return zone
        warn(k, here(), once=True)
    advice = "a block whose pages are in several zones stays online"
    raise KernelError(EINVAL, "multizone range", place=here(), advice=advice)


def _isolate_and_empty(k: Kernel, span: Span, zone: Zone) -> bool:
    """Isolate, ask, migrate, until all pages are free: whether they are the node's last memory."""
    try:
        start_isolate_page_range(k, *span)
    except KernelError as error:
        raise KernelError(
            error.errno, "failure to isolate range", place=error.place, advice=f"{error.reason}: {error.advice}"
        ) from error
    if k.config.profile.pcplists != "disabled":
        drain_all_pages(k, zone)
    last_memory = span.size >= _present_pages(k, zone.nid, ZoneType.MOVABLE)
    try:
        _going_offline(k, span, zone.nid, last_memory)
        _migrate_all(k, span, zone)
    except KernelError as error:
        undo_isolate_page_range(k, *span)
        if error.reason != NODE_REFUSED or k.config.profile.cancel_heard == "by-all":
            memory_notify(k, "MEM_CANCEL_OFFLINE", span.start, span.size)
        if last_memory and k.config.profile.node_notifier == "node-notifier":
            node_notify(k, "NODE_CANCEL_REMOVING_LAST_MEMORY", zone.nid)
        raise
    return last_memory


def _present_pages(k: Kernel, nid: int, highest: ZoneType) -> int:
    return sum(zone.present for kind, zone in k.nodes[nid].zones.items() if kind <= highest)


def _going_offline(k: Kernel, span: Span, nid: int, last_memory: bool) -> None:
    """Ask the notifiers."""
    if last_memory and k.config.profile.node_notifier == "node-notifier":
        refusal = node_notify(k, "NODE_REMOVING_LAST_MEMORY", nid)
        if refusal:
            raise KernelError(refusal.errno, NODE_REFUSED, place=here(), advice=refusal.reason)
    refusal = memory_notify(k, "MEM_GOING_OFFLINE", span.start, span.size)
    if refusal:
        why = refusal.reason
        helps = next((what for end, what in NOTIFIERS_SAY.items() if why.endswith(end)), "")
        if k.config.bbml2 and why.endswith(IN_LINEAR_MAP):
            helps = ON_BBML2
        raise KernelError(refusal.errno, "notifier failure", place=here(), advice=f"{why}: {helps}" if helps else why)


def _migrate_all(k: Kernel, span: Span, zone: Zone) -> None:
    """Migrate until nothing is in use. Where the kernel would try for ever, the user's signal comes at once here."""
    while True:
        while (pfn := scan_movable_pages(k, *span)) is not None:
            migration = do_migrate_range(k, pfn, span.end)
            if migration.stuck and not migration.moved:
                raise _signal_backoff(_stuck_text(migration.stuck))
        try:
            dissolve_free_hugetlb_folios(k, *span)
        except KernelError as error:
            raise KernelError(
                error.errno,
                "failure to dissolve huge pages",
                place=error.place,
                advice=f"{error.reason}: {error.advice}",
            ) from error
        busy = test_pages_isolated(k, *span)
        if busy is None:
            return
        if k.config.profile.pcplists == "drained-again":
            drain_all_pages(k, zone)
        holder = k.hw.owners.get(busy)
        if scan_movable_pages(k, *span) is None and (holder is None or holder.use not in GOES):
            raise _signal_backoff(f"PFN {busy:#x} is in use by something that is neither movable nor seen as unmovable")


def _stuck_text(stuck: list[Stuck]) -> str:
    first = stuck[0]
    why, advice = _why_stuck(first)
    pages = format_count(sum(each.span.size for each in stuck), "such page")
    return f"PFN {first.span.start:#x} ({first.owner}) does not move: {why}; {pages}: {advice}"


def _why_stuck(stuck: Stuck) -> tuple[str, str]:
    """Why pages do not move, and what to do about it."""
    if stuck.owner.use in FIXED:
        return FIXED[stuck.owner.use]
    if stuck.errno == EBUSY:
        return "poisoned in a balloon", "deflate the balloon"
    if stuck.owner.use in GIGANTIC_USES:
        return "no free gigantic page to move it to", "raise nr_hugepages of that size, elsewhere"
    if stuck.owner.use in POOLS:
        return "no free huge page to move it to, nor memory for one", "raise nr_hugepages elsewhere, or free memory"
    return "there is no free memory to move it to", "free memory, or add some first"


def _signal_backoff(why: str) -> KernelError:
    return KernelError(
        EINTR,
        "signal backoff",
        place=here(),
        advice=f"{why}. The kernel goes on trying until whoever asked for it is interrupted by a signal",
    )


def _offline_isolated(k: Kernel, span: Span, zone: Zone) -> int:
    """Offline pages that are free: how many of them the zone managed."""
    managed_pages = __offline_isolated_pages(k, span, zone)
    k.hw.log(f"Offlined Pages {span.size}", "debug")
    with k.hw.locked(zone.lock):
        zone.nr_isolate_pageblock -= span.size // k.config.pageblock_nr_pages
    return managed_pages


def _removal_success(k: Kernel, span: Span, zone: Zone, group: MemoryGroup | None, last_memory: bool) -> None:
    adjust_present_page_count(k, span.start, group, -span.size)
    init_per_zone_wmark_min(k)
    if zone.type <= ZoneType.NORMAL and not _present_pages(k, zone.nid, ZoneType.NORMAL):
        node_clear_state(k, zone.nid, N_NORMAL_MEMORY)
    if last_memory:
        node_clear_state(k, zone.nid, N_MEMORY)
    if not zone.populated:
        build_all_zonelists(k)
    if last_memory and k.config.profile.node_notifier == "node-notifier":
        node_notify(k, "NODE_REMOVED_LAST_MEMORY", zone.nid)
    memory_notify(k, "MEM_OFFLINE", span.start, span.size)
    remove_pfn_range_from_zone(k, zone, span.start, span.size)


@of_file("mm/page_alloc.c")
def __offline_isolated_pages(k: Kernel, span: Span, zone: Zone) -> int:
    """Mark sections offline and take the free pages from the buddy: how many of the pages it managed.

    Poisoned pages count, and kernels that refuse to online the block again keep them apart; logically offline ones were
    unmanaged before. mm/page_alloc.c:__offline_isolated_pages.
    """
    offline_mem_sections(k, *span)
    device = Owner(Use.DEVICE)
    forgets_poison = k.config.profile.online_hwpoison == "allowed"
    with k.hw.locked(zone.lock):
        for start, end, owner in list(k.hw.owners.runs(*span)):
            if owner.use is Use.FREE or (owner.use is Use.HWPOISON and forgets_poison):
                k.hw.release(Span(start, end), device, here())
        zone.isolated_free.remove(*span)
    already_offline = sum(end - start for start, end, flags in k.page_flags.runs(*span) if PageFlags.OFFLINE in flags)
    return span.size - already_offline
