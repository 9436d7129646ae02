"""How far a virtio-mem device got, and what holds the memory that it should give back and does not, page by page."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator

from memhp.hw.memory import Use
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.state import Kernel
from memhp.scenario import result
from memhp.spans import Span
from memhp.units import align_down, align_up, format_count, format_size

IDLE = frozenset({Use.FREE, Use.DEVICE, Use.OFFLINE})
"""Uses that hold nothing back."""

MOST_TOLD = 8
"""How many stuck ranges the notes of a step tell one by one; the result has them all."""


def unit_of(vm: VirtioMem) -> int:
    """Bytes of a sub-block or big block: what a driver plugs and unplugs at least."""
    return vm.sbm.sb_size if vm.in_sbm else vm.bbm.bb_size


def _in_use(k: Kernel, vm: VirtioMem, span: Span) -> Iterator[tuple[Use, result.Held]]:
    """The runs of pages in use in a range of bytes, ascending."""
    shift = k.config.page_shift
    for lo, hi, owner in k.hw.memory.owners.runs(span.start >> shift, span.end >> shift):
        if owner.use not in IDLE:
            yield owner.use, result.Held(start=lo << shift, size=(hi - lo) << shift, owner=str(owner))


def held(k: Kernel, vm: VirtioMem) -> list[result.Held]:
    """What holds the memory that a device should give back and does not: every run of pages in use, ascending.

    Movable memory holds nothing where there is something else, as it could move.
    """
    if vm.device.plugged_size <= vm.device.requested_size:
        return []
    found = [each for span in vm.device.plugged for each in _in_use(k, vm, span)]
    stuck = [each for use, each in found if use is not Use.MOVABLE]
    return stuck or [each for _, each in found]


def stuck(k: Kernel, vm: VirtioMem) -> list[result.Stuck]:
    """Every range of sub-blocks or big blocks that stays though less is requested, ascending, with its pages in use."""
    if vm.device.plugged_size <= vm.device.requested_size:
        return []
    return [each for span in vm.device.plugged for each in _stuck_in(k, vm, span)]


def _stuck_in(k: Kernel, vm: VirtioMem, plugged: Span) -> Iterator[result.Stuck]:
    """The stuck ranges of a plugged one: neighbours with pages in use of the same memory block, and those without."""
    unit, at = unit_of(vm), plugged.start
    pages: list[result.Held] = []
    start = end = plugged.start
    for _, each in _in_use(k, vm, plugged):
        first = align_down(each.start, unit)
        if pages and first >= end:
            yield from _range(k, vm, Span(at, start), Span(start, end), pages)
            at, pages = end, []
        if not pages:
            start = first
        end = align_up(each.start + each.size, unit)
        pages.append(each)
    if pages:
        yield from _range(k, vm, Span(at, start), Span(start, end), pages)
        at = end
    if at < plugged.end:
        yield _one(k, vm, Span(at, plugged.end), [])


def _range(k: Kernel, vm: VirtioMem, idle: Span, used: Span, pages: list[result.Held]) -> Iterator[result.Stuck]:
    if idle:
        yield _one(k, vm, idle, [])
    yield _one(k, vm, used, pages)


def _one(k: Kernel, vm: VirtioMem, span: Span, pages: list[result.Held]) -> result.Stuck:
    pfn = span.start >> k.config.page_shift
    zone = k.zone_of(pfn) if pfn_to_online_page(k, pfn) else None
    return result.Stuck(
        start=span.start,
        size=span.size,
        block=span.start // k.memory_block_size,
        zone=zone.type.title if zone is not None else "",
        reason=_reason(vm, online=zone is not None, used=bool(pages)),
        held=pages,
    )


def _reason(vm: VirtioMem, *, online: bool, used: bool) -> str:
    if vm.removing:
        return "no driver is bound"
    if vm.broken:
        return "the driver has given the device up"
    if online and not vm.params.unplug_online:
        return "online, which unplug_online=0 leaves alone"
    if used:
        return "pages in use"
    if vm.last_error is not None:
        return f"the driver stopped: {vm.last_error.reason}"
    return "not tried yet"


def stuck_notes(k: Kernel, name: str, vm: VirtioMem) -> list[str]:
    """Who holds how much of a device's memory, each from where on; then range by range."""
    pages: Counter[str] = Counter()
    first: dict[str, int] = {}
    for each in held(k, vm):
        pages[each.owner] += each.size >> k.config.page_shift
        first.setdefault(each.owner, each.start)
    notes = [
        f"{name}: held by {owner}, {format_count(count, 'page')}, the first at {first[owner]:#x}"
        for owner, count in pages.items()
    ]
    ranges = stuck(k, vm)
    notes.extend(f"{name}: {_range_text(k, each)}" for each in ranges[:MOST_TOLD])
    if len(ranges) > MOST_TOLD:
        notes.append(f"{name}: and {len(ranges) - MOST_TOLD} more such ranges, all of them in --json")
    return notes


def _range_text(k: Kernel, each: result.Stuck) -> str:
    """One stuck range: ``memory64 (Movable) keeps 2 MiB at 0x204000000: PFN 0x204000-0x2040ff pinned:dma``."""
    where = f"memory{each.block} ({each.zone or 'offline'}) keeps {format_size(each.size)} at {each.start:#x}"
    shift = k.config.page_shift
    told = [
        f"PFN {page.start >> shift:#x}-{((page.start + page.size) >> shift) - 1:#x} {page.owner}"
        for page in each.held[:MOST_TOLD]
    ]
    if len(each.held) > MOST_TOLD:
        told.append(f"and {len(each.held) - MOST_TOLD} more runs of pages")
    return f"{where}: {', '.join(told) if told else each.reason}"


def device_results(k: Kernel, devices: dict[str, VirtioMem]) -> list[result.VirtioMemDevice]:
    """The devices as they stand, in the order in which they appeared."""
    return [
        result.VirtioMemDevice(
            device=name,
            start=vm.region.start,
            region_size=vm.region_size,
            block_size=vm.device_block_size,
            node=vm.nid,
            mode="sub-block" if vm.in_sbm else "big-block",
            unit=unit_of(vm),
            requested=vm.device.requested_size,
            plugged=vm.device.plugged_size,
            usable=vm.device.usable_region_size,
            offline=vm.offline_size,
            requests=len(vm.device.log) + vm.device.unlogged,
            bound=not vm.removing,
            broken=vm.broken,
            held=held(k, vm),
            stuck=stuck(k, vm),
        )
        for name, vm in devices.items()
    ]
