"""The step `xen-target`: a domain of Xen gets another target, and its balloon works towards it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOMEM

from memhp.errors import KernelError
from memhp.linux.drivers.xen.balloon import (
    BalloonStats,
    BpState,
    XenDomain,
    balloon_init,
    balloon_set_new_target,
)
from memhp.linux.drivers.xen.unpopulated_alloc import XEN_SCRATCH, xen_alloc_unpopulated_pages
from memhp.linux.kernel.resource import (
    IORESOURCE_BUSY,
    IORESOURCE_MEM,
    Resource,
    iter_resources,
    request_resource_conflict,
)
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session, size_of
from memhp.units import GiB, format_count, format_size

DEVICES = ((0xF000_0000, 0xFC00_0000, "PCI Bus 0000:00"), (0xFC00_0000, 4 * GiB, "Reserved"))
"""What hvmloader keeps clear of RAM below 4 GiB, start, end and name: ``PCI_MEM_START`` and ``RESERVED_MEMBASE`` of its
config.h."""


def xen_target(session: Session, step: schema.XenTarget) -> None:
    """Set the target, then what drivers want without memory behind it.

    Raises what the kernel refuses to add memory with, and ENOMEM where the domain cannot give enough up, or Xen gives
    it no more.
    """
    k = session.k
    stats, page = k.statics(BalloonStats), k.config.page_size
    if not stats.total_pages:
        _keep_clear_of_devices(session)
    balloon_init(k)
    if step.hotplug_unpopulated is not None:
        stats.hotplug_unpopulated = step.hotplug_unpopulated
    if step.max is not None:
        k.statics(XenDomain).max_pages = size_of(session, step.max, "max") // page
    before = _blocks(session)
    if step.target is not None:
        balloon_set_new_target(k, size_of(session, step.target, "target") // page)
    if step.unpopulated is not None:
        before_scratch = _scratch(session)
        xen_alloc_unpopulated_pages(k, size_of(session, step.unpopulated, "unpopulated") // page)
        session.notes += [
            f"{format_size(size)} of addresses from {start:#x} on have struct pages now, and no memory: {XEN_SCRATCH}"
            for start, size in _scratch(session) - before_scratch
        ]
    _follow(session, _blocks(session) - before)


def _scratch(session: Session) -> set[tuple[int, int]]:
    """Start and size of what the kernel claimed to map other domains' memory."""
    return {(res.start, res.size) for _, res in iter_resources(session.k.iomem_resource) if res.name == XEN_SCRATCH}


def _keep_clear_of_devices(session: Session) -> None:
    """A PC whose resources nobody wrote down has devices below 4 GiB nevertheless."""
    k = session.k
    if session.spec is not None and not session.spec.iomem and k.port.plug_start >= 4 * GiB:
        for start, end, name in DEVICES:
            res = Resource(start, end - 1, name, IORESOURCE_MEM | IORESOURCE_BUSY)
            request_resource_conflict(k.iomem_resource, res)


def _blocks(session: Session) -> set[int]:
    return {block for first, end, _ in session.k.memory_blocks for block in range(first, end)}


def _follow(session: Session, added: set[int]) -> None:
    """What is to be said of memory that came, or did not. Raises what it was refused with."""
    k = session.k
    stats, page = k.statics(BalloonStats), k.config.page_size
    if added:
        size = k.memory_block_size
        session.plugged.append(Span(min(added) * size, (max(added) + 1) * size))
    missing = (stats.target_pages - stats.current_pages) * page
    waiting = sum(end - first for first, end, block in k.memory_blocks if block.state == "offline")
    if missing and stats.balloon_state is BpState.BP_WAIT:
        wait = f"{format_count(waiting, 'memory block')} {'waits' if waiting == 1 else 'wait'}"
        session.notes.append(f"{wait} to be brought online: only then does the domain get {format_size(missing)} more")
    elif missing and stats.balloon_state is BpState.BP_ECANCELED and stats.refusal is not None:
        raise stats.refusal
    elif missing > 0 and stats.balloon_state is BpState.BP_EAGAIN:
        text = f"Xen gives the domain {format_size(missing)} less than the target"
        place = "drivers/xen/balloon.c:increase_reservation"
        raise KernelError(ENOMEM, text, place=place, advice="raise what it may have (`max`): the driver tries again")
    elif missing < 0:
        text = f"{format_size(-missing)} more than the target are in use, or kept in reserve"
        raise KernelError(ENOMEM, text, place="drivers/xen/balloon.c:decrease_reservation", advice="free memory")
    if kept := sum(span.size for span in stats.ballooned_pages) * page:
        session.notes.append(f"{format_size(kept)} are in the balloon: their memory blocks do not go offline")
