"""Xen's balloon, which adds memory where it has none left to give back: drivers/xen/balloon.c.

A domain has a target. Above it pages go to Xen; below it they come back, and when the balloon is empty the driver adds
whole sections behind a resource that it looks for itself. Nothing that goes online is the buddy's at once: it fills the
balloon (:func:`xen_online_page`), and as many pages come out of it as the target asks for, those that went in last
first. Xen has the pages as long as the domain has fewer than it lets it have (``xl mem-max``), and nothing is reclaimed
for a balloon that grows.
PFNs and pages throughout, but for resources, which are bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from errno import EINVAL, ENOMEM

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.drivers.base.notify import register_memory_notifier
from memhp.linux.kernel.resource import BUSY_SYSTEM_RAM, Resource, release_resource
from memhp.linux.kernel.resource_allocate import allocate_resource
from memhp.linux.mm.balloon import balloon_page_enqueue
from memhp.linux.mm.memory_hotplug_add import MHP_MERGE_RESOURCE, SYSTEM_RAM, add_memory_resource
from memhp.linux.mm.memory_hotplug_online import set_online_page_callback
from memhp.linux.mm.numa_memblks import memory_add_physaddr_to_nid
from memhp.linux.mm.page_alloc import alloc_pages, free_pages_core
from memhp.linux.mm.show_mem import si_mem_available
from memhp.linux.mmzone import PageFlags
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "drivers/xen/balloon.c"
BALLOON_MUTEX = "balloon_mutex"
"""Over the balloon and the driver's counts; not while memory is added, which may go online and fill the balloon."""
FRAME_LIST = 512
"""Pages of a batch: as many frame numbers as a page of 4 KiB holds."""


class BpState(Enum):
    """``enum bp_state``: what the balloon's thread does next."""

    BP_DONE = 0
    """Nothing, or more of the same."""
    BP_WAIT = 1
    """It waits for memory to go online, and looks every second."""
    BP_EAGAIN = 2
    """It tries again later."""
    BP_ECANCELED = 3
    """It has given up until the target changes."""


@dataclass
class XenDomain:
    """What Xen knows of its domain."""

    max_pages: int | None = field(default=None, metadata=marked("xen domain"))
    """How much it may have at most; None: whatever it asks for."""


@dataclass
class BalloonStats:
    """``struct balloon_stats``, and the thread's state."""

    current_pages: int = 0
    """What the domain has of Xen's memory, as the driver counts."""
    target_pages: int = 0
    target_unpopulated: int = 0
    """Pages that drivers want without memory behind them, to map other domains' there."""
    total_pages: int = 0
    """What the domain has room for: at boot as much as it has, and all that was added."""
    hotplug_unpopulated: bool = False
    """``/proc/sys/xen/balloon/hotplug_unpopulated``: add memory for those, rather than give up what is in use."""
    balloon_state: BpState = BpState.BP_DONE
    ballooned_pages: list[Span] = field(default_factory=list)
    """The balloon; the last run is taken first, from its end."""
    refusal: KernelError | None = None
    """What the kernel last refused the driver with, which it only logs."""


def balloon_init(k: Kernel) -> None:
    """The driver starts, with what there is as its target; it decides from now on what becomes of pages that go online.

    Where another driver does so already, it does not notice.
    """
    stats = k.statics(BalloonStats)
    if stats.total_pages:
        return
    stats.current_pages = stats.target_pages = sum(node.present for node in k.nodes.values())
    stats.total_pages = stats.current_pages
    try:
        set_online_page_callback(k, xen_online_page)
    except KernelError as error:
        assert error.errno == EINVAL
    register_memory_notifier(k, _xen_memory_notifier)


def _xen_memory_notifier(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """Memory has gone online: the thread wakes up."""
    del start_pfn, nr_pages
    if action == "MEM_ONLINE":
        k.hw.arm(0, lambda: balloon_thread(k))
    return ""


def balloon_set_new_target(k: Kernel, target: int) -> None:
    """The domain is to have so many pages: the thread works until it has them, or has to wait."""
    stats = k.statics(BalloonStats)
    stats.target_pages, stats.refusal = target, None
    balloon_thread(k)


def balloon_thread(k: Kernel) -> None:
    """Work towards the target for as long as something comes of it."""
    goes_on = True
    while goes_on:
        k.hw.lock(BALLOON_MUTEX)
        goes_on = _work(k)
        k.hw.unlock(BALLOON_MUTEX)


def _work(k: Kernel) -> bool:
    """A round of the thread: whether there is something to do at once."""
    stats = k.statics(BalloonStats)
    credit = stats.target_pages - stats.current_pages
    if credit < 0:
        pages = min(-credit, si_mem_available(k))
        stats.balloon_state = _decrease_reservation(k, pages)
        if stats.balloon_state is BpState.BP_DONE and pages < -credit:
            stats.balloon_state = BpState.BP_EAGAIN
    elif credit and stats.ballooned_pages:
        stats.balloon_state = _increase_reservation(k, credit)
    elif credit:
        stats.balloon_state = _reserve_additional_memory(k)
        if stats.balloon_state is BpState.BP_WAIT:
            return bool(stats.ballooned_pages)
    else:
        stats.balloon_state = BpState.BP_DONE
    return bool(credit) and stats.balloon_state is BpState.BP_DONE


def _additional_memory_resource(k: Kernel, size: int) -> Resource | None:
    """Claim so many bytes at the lowest place that no resource has, aligned to a section."""
    res = Resource(0, size - 1, SYSTEM_RAM, BUSY_SYSTEM_RAM)
    try:
        with k.hw.locked("resource_lock"):
            allocate_resource(k.iomem_resource, res, size, k.config.section_size)
    except KernelError as error:
        k.hw.log("xen:balloon: Cannot allocate new System RAM resource", "err")
        k.statics(BalloonStats).refusal = error
        return None
    return res


def _reserve_additional_memory(k: Kernel) -> BpState:
    """Add the sections that hold what is wanted beyond what there is room for; the mutex is let go of meanwhile."""
    stats, page = k.statics(BalloonStats), k.config.page_size
    credit = stats.target_pages + stats.target_unpopulated - stats.total_pages
    if credit <= 0:
        return BpState.BP_WAIT
    balloon_hotplug = align_up(credit, k.config.pages_per_section)
    res = _additional_memory_resource(k, balloon_hotplug * page)
    if res is None:
        return BpState.BP_ECANCELED
    nid = memory_add_physaddr_to_nid(k, res.start)
    refusal = None
    k.hw.unlock(BALLOON_MUTEX)
    try:
        with k.hw.locked("device_hotplug_lock"):
            add_memory_resource(k, nid, res, MHP_MERGE_RESOURCE)
    except KernelError as error:
        refusal = error
    k.hw.lock(BALLOON_MUTEX)
    if refusal is not None:
        k.hw.log(f"xen:balloon: Cannot add additional memory ({-refusal.errno})", "warn")
        stats.refusal = refusal
        with k.hw.locked("resource_lock"):
            release_resource(res)
        return BpState.BP_ECANCELED
    stats.total_pages += balloon_hotplug
    return BpState.BP_WAIT


def xen_online_page(k: Kernel, pfn: int, nr_pages: int) -> None:
    """A run of pages that goes online fills the balloon."""
    with k.hw.locked(BALLOON_MUTEX):
        _balloon_append(k, Span(pfn, pfn + nr_pages))


def _balloon_append(k: Kernel, span: Span) -> None:
    k.page_flags.set_flags(*span, PageFlags.OFFLINE)
    k.statics(BalloonStats).ballooned_pages.append(span)


def _balloon_retrieve(k: Kernel, nr_pages: int) -> Iterator[Span]:
    """Take up to so many pages out of the balloon."""
    for span in take_pages(k.statics(BalloonStats).ballooned_pages, nr_pages):
        k.page_flags.clear_flags(*span, PageFlags.OFFLINE)
        yield span


def take_pages(pages: list[Span], nr_pages: int) -> Iterator[Span]:
    """Take up to so many pages off a list whose last run is taken first, from its end."""
    while nr_pages and pages:
        span = pages.pop()
        took = Span(max(span.start, span.end - nr_pages), span.end)
        if took.start > span.start:
            pages.append(Span(span.start, took.start))
        nr_pages -= took.size
        yield took


def _increase_reservation(k: Kernel, nr_pages: int) -> BpState:
    """Xen puts memory behind pages of the balloon, and they are the buddy's."""
    stats, most = k.statics(BalloonStats), k.statics(XenDomain).max_pages
    granted = nr_pages if most is None else min(nr_pages, most - stats.current_pages)
    if granted <= 0:
        return BpState.BP_EAGAIN
    for span in _balloon_retrieve(k, granted):
        for gap in list(k.hw.owners.gaps(*span)):
            k.hw.plug(gap, Owner(Use.DEVICE, "xen"))
        free_pages_core(k, span.start, span.size, here())
        stats.current_pages += span.size
    return BpState.BP_DONE


def _decrease_reservation(k: Kernel, nr_pages: int) -> BpState:
    """Give pages to Xen, batch after batch; each batch fills the balloon the other way round than it came."""
    stats, left = k.statics(BalloonStats), nr_pages
    nid = min(k.node_states.memory)
    while left:
        count = min(left, FRAME_LIST)
        owner = Owner(Use.BALLOON_FIXED, "xen")
        got = alloc_pages(k, 0, nid, count=count, owner=owner, where=here())
        taken = sum(span.size for span in got)
        balloon_page_enqueue(k, got)
        for span in got:
            k.hw.unplug(span, here())
        stats.ballooned_pages += reversed(got)
        stats.current_pages -= taken
        left -= taken
        if taken < count:
            return BpState.BP_EAGAIN
    return BpState.BP_DONE


def _add_ballooned_pages(k: Kernel, nr_pages: int) -> None:
    """Fill the balloon: with memory that is added if that is allowed, else with pages in use. Raises ENOMEM."""
    stats = k.statics(BalloonStats)
    if stats.hotplug_unpopulated and _reserve_additional_memory(k) is not BpState.BP_ECANCELED:
        if not stats.ballooned_pages:
            text = "what was added for the balloon is not online"
            raise KernelError(ENOMEM, text, place=here(), advice="bring it online: the driver waits for it")
        return
    if si_mem_available(k) < nr_pages or _decrease_reservation(k, nr_pages) is not BpState.BP_DONE:
        raise KernelError(ENOMEM, "too few pages for the balloon", place=here(), advice="free memory")


def xen_alloc_ballooned_pages(k: Kernel, nr_pages: int) -> list[Span]:
    """Pages without memory behind them, for a driver that maps another domain's there. Raises ENOMEM."""
    stats = k.statics(BalloonStats)
    k.hw.lock(BALLOON_MUTEX)
    stats.target_unpopulated += nr_pages
    pages: list[Span] = []
    try:
        while (left := nr_pages - sum(span.size for span in pages)) > 0:
            if not stats.ballooned_pages:
                _add_ballooned_pages(k, left)
            pages += _balloon_retrieve(k, left)
    except KernelError:
        for span in pages:
            _balloon_append(k, span)
        stats.target_unpopulated -= nr_pages
        k.hw.unlock(BALLOON_MUTEX)
        raise
    k.hw.unlock(BALLOON_MUTEX)
    return pages
