"""The step `hv-add`: Hyper-V's host backs more pages of its guest, and the guest's driver takes them in."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOMEM

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.hv.hv_balloon import (
    DmDevice,
    balloon_probe,
    ha_pages_in_chunk,
    hot_add_req,
    hv_memory_notifier,
)
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session, size_of
from memhp.units import align_down, align_up, format_count, format_size

WAIT = 5_000_000_000
"""Nanoseconds that the driver waits for each block to go online (``wait_for_completion_timeout()``)."""
GIVEN_UP = "the driver has given up: memory that an earlier request named was there already, and it takes no more"


def next_address(session: Session) -> int | None:
    """Where the host's last request ended, in bytes; None before the first."""
    states = session.k.statics(DmDevice).ha_region_list
    return states[-1].covered_end_pfn << session.k.config.page_shift if states else None


def hv_add(session: Session, step: schema.HvAdd, at: int) -> None:
    """Back pages from physical address `at` on and tell the driver.

    Raises what the kernel refuses the first memory block with; blocks that it took before one that it refuses stay.
    """
    k = session.k
    size = size_of(session, step.size, "size")
    if not size:
        raise BadInput("nothing to add", where="size", fix="write a size of at least one page")
    region = _region(session, step)
    frames = session.frames(Span(at, at + size))
    if region is not None and not region.covers(frames):
        raise BadInput("the pages do not lie in the region", where="region", fix="make it larger, or leave it out")
    if hv_memory_notifier not in k.statics(Chains).memory:
        balloon_probe(k)
    fresh = list(k.hw.memory.owners.gaps(*frames))
    for gap in fresh:
        k.hw.plug(gap, Owner(Use.DEVICE, "hv_balloon"))
    count, refusal = hot_add_req(k, frames, region)
    for gap in fresh:
        rest = gap.clip(Span(frames.start + count, frames.end))
        if rest.size > 0:
            k.hw.unplug(rest, "platform")
    if not count:
        raise refusal or KernelError(ENOMEM, GIVEN_UP, place="drivers/hv/hv_balloon.c:hot_add_req", advice="reboot")
    if refusal is not None:
        taken = format_size(count << k.config.page_shift)
        session.notes.append(f"{taken} of {format_size(size)} taken: {refusal.name}, {refusal.reason}")
    _follow(session, Span(frames.start, frames.start + count))


def _region(session: Session, step: schema.HvAdd) -> Span | None:
    if step.region is None:
        return None
    if step.region.start is None:
        raise BadInput("a region lies somewhere", where="region.start", fix="write where it starts")
    start = size_of(session, step.region.start, "region.start")
    return session.frames(Span(start, start + size_of(session, step.region.size, "region.size")))


def _follow(session: Session, taken: Span) -> None:
    """What is to be said of blocks that wait, for somebody to bring them online or for the host."""
    k = session.k
    chunk = ha_pages_in_chunk(k)
    blocks = Span(align_down(taken.start, chunk), align_up(taken.end, chunk))
    session.plugged.append(blocks.scaled(k.config.page_shift))
    waits = _offline(k, blocks)
    if waits:
        blocks_wait = f"{format_count(waits, 'memory block')} {'waits' if waits == 1 else 'wait'}"
        session.notes.append(f"{blocks_wait} to be brought online: the driver waited 5 s for each")
        k.hw.advance(waits * WAIT)
    if unbacked := blocks.end - taken.end:
        size = format_size(unbacked << k.config.page_shift)
        session.notes.append(f"{size} of the last memory block are kept offline until the host backs them")


def _offline(k: Kernel, span: Span) -> int:
    per = k.pages_per_block
    runs = k.memory_blocks.runs(span.start // per, -(-span.end // per))
    return sum(end - first for first, end, block in runs if block.state == "offline")
