"""What a model is told of a real machine's pages where virtio-mem shrank: what its driver passed over, being in use.

No line of the log tells of a sub-block that ``alloc_contig_range()`` could not empty: the driver goes on to the next.
It takes blocks in an order, a block's sub-blocks from the top, and leaves a block only when it has tried them all
(``drivers/virtio/virtio_mem.c:virtio_mem_sbm_unplug_request``). So what is still plugged before the last sub-block that
went was tried in vain, and all that is plugged if the size is not reached. Where ``/proc/kpageflags`` shows a page in
use there, that page is in use in the model too, until it is seen to be free.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from memhp.facts.kpageflags import Flags, Kind, of_kinds
from memhp.facts.observed import Facts
from memhp.linux.drivers.virtio.virtio_mem_sbm_unplug import online_order
from memhp.linux.drivers.virtio.virtio_mem_state import SubBlockMode
from memhp.scenario.schema import Resize
from memhp.spans import Span
from memhp.target.model.target import ModelTarget
from memhp.target.model.virtio_mem import find_device
from memhp.target.target import ShowsPages
from memhp.units import parse_size

FREE: tuple[Kind, ...] = ("hole", "free", "offline")
"""Pages that stand in nobody's way."""
GONE: tuple[Kind, ...] = ("offline",)
"""Pages that the driver keeps from use, being unplugged."""

Truths = npt.NDArray[np.bool_]
"""Of pages, or of the sub-blocks of a memory block, whether something is so."""


def tell_passed_over(
    model: ModelTarget, real: ShowsPages, shown: Facts, step: Resize, requests: Sequence[str] = ()
) -> None:
    """Before the model shrinks a device: use the pages that kept the real driver from what it left plugged.

    `requests` are what it asked the device for in this step, where the device tells.
    """
    _, vm = find_device(model.session, step.device)
    if not isinstance(vm.mode, SubBlockMode) or vm.broken or parse_size(step.to) >= vm.device.plugged_size:
        return
    size, sbm = model.session.k.pages_per_block, vm.mode
    tracked = range(sbm.blocks.first_id, sbm.blocks.next_id)
    blocks = [each.index for each in shown.memory.blocks if each.state == "online" and each.index in tracked]
    flags = {index: real.page_flags(Span(index * size, (index + 1) * size)) for index in blocks}
    for pfn in model.told_pages.copy():
        if pfn // size in flags and of_kinds(flags[pfn // size], FREE)[pfn % size]:
            model.tell_free(pfn)
    gone = {index: _whole(of_kinds(each, GONE), sbm.sbs_per_mb) for index, each in flags.items()}
    order = [index for states in online_order(model.session.k) for index in sbm.blocks.each_rev(*states)]
    stopped = refused(requests, vm.device.geometry.block_size)
    busy = model.session.k.hw.told_busy
    busy |= in_parts(requests, sbm, vm.device.geometry.block_size, size)
    for index, tried in passed_over(gone, sbm, parse_size(step.to), order, stopped).items():
        for number, pages in enumerate(flags[index].reshape(sbm.sbs_per_mb, -1)):
            first = index * size + number * pages.size
            if tried[number] and (at := in_the_way(pages)) is not None:
                model.tell_in_use(first + at)
            elif tried[number]:
                busy.add(Span(first, first + pages.size))


def in_parts(requests: Sequence[str], sbm: SubBlockMode, block_size: int, pages: int) -> set[Span]:
    """The memory blocks (PFNs) that the driver unplugged part by part though all of each was plugged.

    It takes a whole block if it can; `pages` are those of a block, `block_size` bytes the unit of requests.
    """
    size = sbm.sb_size * sbm.sbs_per_mb
    found: dict[int, bool] = {}
    for request in requests:
        match request.split():
            case ["UNPLUG", at, count, *_]:
                found.setdefault(int(at, 16) // size, int(count) * block_size < size)
    blocks = [index for index, part in found.items() if part and _plugged(sbm, index).all()]
    return {Span(index * pages, (index + 1) * pages) for index in blocks}


def refused(requests: Sequence[str], block_size: int) -> Span | None:
    """What the driver last wanted to unplug (bytes), if the device refused and the driver left it at that."""
    match requests[-1].split() if requests else []:
        case ["UNPLUG", at, count, answer, _] if answer != "ACK":
            return Span(int(at, 16), int(at, 16) + int(count) * block_size)
    return None


def passed_over(
    gone: dict[int, Truths], sbm: SubBlockMode, to: int, order: Sequence[int], stopped: Span | None = None
) -> dict[int, Truths]:
    """The sub-blocks that the driver tried in vain while it unplugged to a size in bytes, by online memory block.

    `gone` says which are unplugged now; `sbm` is as it was before; `order` is that of the driver, which the device
    `stopped` by refusing a range (bytes).
    """
    before = {index: _plugged(sbm, index) for index in order}
    went = {index: before[index] & gone.get(index, True) for index in order}
    changed = [place for place, index in enumerate(order) if went[index].any()]
    left = sum(int((~each).sum()) for each in gone.values()) * sbm.sb_size
    last = changed[-1] if changed and left <= to else len(order) if left > to else -1
    block = stopped.start // (sbm.sb_size * sbm.sbs_per_mb) if stopped is not None else None
    if block is not None:
        last = order.index(block) if block in order else -1
    kept = {index: before[index] & ~gone[index] for index in order[: last + 1] if index in gone}
    if stopped is not None and block in kept:
        kept[block][: (stopped.end - 1) // sbm.sb_size % sbm.sbs_per_mb + 1] = False
    elif last in changed and order[last] in kept:
        kept[order[last]][: int(np.flatnonzero(went[order[last]])[0])] = False
    return kept


def _plugged(sbm: SubBlockMode, index: int) -> Truths:
    """Which sub-blocks of a memory block are plugged."""
    first, end = sbm.sub_blocks(index)
    found = np.zeros(end - first, dtype=np.bool_)
    for run in sbm.plugged.runs(first, end):
        found[run.start - first : run.end - first] = True
    return found


def _whole(pages: Truths, parts: int) -> Truths:
    """Whether all pages of each of so many parts are so."""
    found: Truths = np.logical_and.reduce(pages.reshape(parts, -1), axis=1)
    return found


def in_the_way(flags: Flags) -> int | None:
    """The place of the page that keeps a sub-block: the first that cannot be moved, else the first in use."""
    for harmless in ((*FREE, "movable"), FREE):
        if (kept := np.flatnonzero(~of_kinds(flags, harmless))).size:
            return int(kept[0])
    return None
