"""Hyper-V's dynamic memory, the half that adds memory: drivers/hv/hv_balloon.c.

The host offers pages, which need not be whole memory blocks. The driver adds the blocks that cover them, and gives only
the pages to the buddy that the host has backed; the others wait, as ``PageOffline``, until it backs them too. Nothing
that was added goes again: the host takes memory back by the balloon. PFNs throughout, but for sizes, which are bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EEXIST

from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.linux.drivers.base.notify import register_memory_notifier
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.memory_hotplug_add import MHP_MERGE_RESOURCE, add_memory
from memhp.linux.mm.memory_hotplug_online import generic_online_page, set_online_page_callback
from memhp.linux.mm.numa_memblks import memory_add_physaddr_to_nid
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import MiB, align_down, align_up

KERNEL_FILE = "drivers/hv/hv_balloon.c"
HA_CHUNK = 128 * MiB
"""What older drivers add at a time, however large memory blocks are."""
HA_LOCK = "dm_device.ha_lock"
"""Keeps the list of regions and what each of them says; nobody holds it where memory is added."""


@dataclass
class HotAddState:
    """``struct hv_hotadd_state``: a region that memory is added in, from its start on."""

    start_pfn: int
    end_pfn: int
    ha_end_pfn: int
    """How far blocks have been added."""
    covered_start_pfn: int
    covered_end_pfn: int
    """How far the host has backed pages, but for the gaps."""
    gap_list: list[Span] = field(default_factory=list)

    @property
    def backed(self) -> SpanSet:
        """The pages that the host has backed: ``has_pfn_is_backed()``."""
        pages = SpanSet([Span(self.covered_start_pfn, self.covered_end_pfn)])
        for gap in self.gap_list:
            pages.remove(*gap)
        return pages


@dataclass
class DmDevice:
    """``dm_device``, as far as adding memory goes."""

    ha_region_list: list[HotAddState] = field(default_factory=list)
    host_specified_ha_region: bool = False
    do_hot_add: bool = True
    """Until an add ends in EEXIST: then the driver has given up for good."""
    num_pages_onlined: int = 0
    """Pages that the driver gave to the buddy, of blocks that are online still."""


def balloon_probe(k: Kernel) -> None:
    """The driver finds its device. Where another driver decides already which pages go online, it does not notice."""
    with suppress(KernelError):
        set_online_page_callback(k, hv_online_page)
    register_memory_notifier(k, hv_memory_notifier)


def ha_pages_in_chunk(k: Kernel) -> int:
    """Pages that are added at a time."""
    size = HA_CHUNK if k.config.profile.hv_hot_add_chunk == "128M" else k.memory_block_size
    return size >> k.config.page_shift


def hot_add_req(k: Kernel, pages: Span, region: Span | None) -> tuple[int, KernelError | None]:
    """The host has backed pages, in a region that it names or leaves to the driver: how many the driver took, and what
    the kernel refused further ones with.
    """
    dm, chunk = k.statics(DmDevice), ha_pages_in_chunk(k)
    dm.host_specified_ha_region = region is not None
    if region is None:
        start = align_down(pages.start, chunk)
        region = Span(start, start + align_up(pages.size, chunk))
    count, refusal = _process_hot_add(k, pages, region) if dm.do_hot_add else (0, None)
    if not dm.do_hot_add or not count:
        k.hw.log("hv_balloon: Memory hot add failed", "err")
    return count, refusal


def _process_hot_add(k: Kernel, pages: Span, region: Span) -> tuple[int, KernelError | None]:
    dm = k.statics(DmDevice)
    if dm.host_specified_ha_region or not _pfn_covered(k, pages):
        state = HotAddState(region.start, region.end, region.start, pages.start, pages.start)
        with k.hw.locked(HA_LOCK):
            dm.ha_region_list.append(state)
    return _handle_pg_range(k, pages)


def _pfn_covered(k: Kernel, pages: Span) -> bool:
    """Whether pages begin in a region that there is, which grows if they reach beyond it."""
    with k.hw.locked(HA_LOCK):
        state = _region_of(k, pages.start)
        if state is None:
            return False
        if state.covered_end_pfn != pages.start:
            state.gap_list.append(Span(state.covered_end_pfn, pages.start))
            state.covered_end_pfn = pages.start
        if pages.end > state.end_pfn:
            state.end_pfn += align_up(pages.end - state.end_pfn, ha_pages_in_chunk(k))
        return True


def _region_of(k: Kernel, pfn: int) -> HotAddState | None:
    states = k.statics(DmDevice).ha_region_list
    return next((state for state in states if state.start_pfn <= pfn < state.end_pfn), None)


def _handle_pg_range(k: Kernel, pages: Span) -> tuple[int, KernelError | None]:
    """Take pages in: those of blocks that were added before go online with what is online there already."""
    with k.hw.locked(HA_LOCK):
        state = _region_of(k, pages.start)
        if state is None:
            return 0, None
        before, left = state.covered_end_pfn, pages.size
        if pages.start < state.ha_end_pfn:
            there = min(state.ha_end_pfn - pages.start, left)
            state.covered_end_pfn += there
            left -= there
            if pages.start > state.start_pfn and pfn_to_online_page(k, pages.start):
                _hv_bring_pgs_online(k, state, Span(pages.start, pages.start + there))
        room = state.end_pfn - state.ha_end_pfn
        if not left or not room:
            return state.covered_end_pfn - before, None
        size = align_up(left, ha_pages_in_chunk(k)) if left <= room else room
    refusal = _hv_mem_hot_add(k, state, size, min(left, room))
    with k.hw.locked(HA_LOCK):
        return state.covered_end_pfn - before, refusal


def _hv_mem_hot_add(k: Kernel, state: HotAddState, size: int, left: int) -> KernelError | None:
    """Add blocks of a region, of which the first `left` pages are backed: what one was refused with, if one was."""
    chunk, shift = ha_pages_in_chunk(k), k.config.page_shift
    start = state.ha_end_pfn
    for pfn in range(start, start + size // chunk * chunk, chunk):
        backed = min(left, chunk)
        left -= backed
        with k.hw.locked(HA_LOCK):
            state.ha_end_pfn += chunk
            state.covered_end_pfn += backed
        try:
            add_memory(k, memory_add_physaddr_to_nid(k, pfn << shift), pfn << shift, chunk << shift, MHP_MERGE_RESOURCE)
        except KernelError as error:
            k.hw.log(f"hv_balloon: hot_add memory failed error is {-error.errno}", "err")
            if error.errno == EEXIST:
                k.statics(DmDevice).do_hot_add = False
            with k.hw.locked(HA_LOCK):
                state.ha_end_pfn -= chunk
                state.covered_end_pfn -= backed
            return error
    return None


def hv_memory_notifier(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """Pages that go offline are no longer counted as given to the buddy. Repaired, it gets those of a block that went
    online which the host backed meanwhile.
    """
    dm, span = k.statics(DmDevice), Span(start_pfn, start_pfn + nr_pages)
    if action == "MEM_OFFLINE":
        with k.hw.locked(HA_LOCK):
            count = _hv_page_offline_check(k, span)
            if count > dm.num_pages_onlined:
                warn(k, f"{KERNEL_FILE}:hv_memory_notifier", once=True)
            dm.num_pages_onlined = max(dm.num_pages_onlined - count, 0)
    elif action == "MEM_ONLINE" and k.config.profile.hv_backed_meanwhile == "notifier":
        with k.hw.locked(HA_LOCK):
            for state, part in _regions_in(k, span):
                _hv_bring_pgs_online(k, state, part)
    return ""


def _hv_page_offline_check(k: Kernel, span: Span) -> int:
    """How many of some pages the host has backed. The caller holds ``ha_lock``."""
    return sum(end - start for state, part in _regions_in(k, span) for start, end in state.backed.runs(*part))


def _regions_in(k: Kernel, span: Span) -> Iterator[tuple[HotAddState, Span]]:
    """The regions that some pages lie in, each with its part of them that no earlier one has."""
    seen = SpanSet()
    for state in k.statics(DmDevice).ha_region_list:
        part = span.clip(Span(state.start_pfn, state.end_pfn))
        for mine in list(seen.gaps(*part)) if part.size > 0 else ():
            seen.add(*mine)
            yield state, mine


def hv_online_page(k: Kernel, pfn: int, nr_pages: int) -> None:
    """Give to the buddy what of a run of pages the host has backed; of other memory all, in older drivers nothing."""
    span = Span(pfn, pfn + nr_pages)
    ours = SpanSet()
    with k.hw.locked(HA_LOCK):
        for state, part in _regions_in(k, span):
            ours.add(*part)
            _hv_bring_pgs_online(k, state, part)
    for other in ours.gaps(*span):
        if k.config.profile.hv_online_page == "all":
            generic_online_page(k, other.start, other.size)
        else:
            k.page_flags.set_flags(*other, PageFlags.OFFLINE)


def _hv_bring_pgs_online(k: Kernel, state: HotAddState, span: Span) -> None:
    """``hv_page_online_one()`` for each page: those that are backed and not the buddy's yet become so.

    The caller holds ``ha_lock``.
    """
    backed = state.backed
    for gap in backed.gaps(*span):
        k.page_flags.set_flags(*gap, PageFlags.OFFLINE)
    fresh = [
        Span(start, end)
        for part in backed.runs(*span)
        for start, end, owner in k.hw.owners.runs(*part)
        if owner.use is Use.DEVICE
    ]
    for part in fresh:
        generic_online_page(k, part.start, part.size)
        k.statics(DmDevice).num_pages_onlined += part.size
