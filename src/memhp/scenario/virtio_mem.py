"""The steps `virtio-mem` and `resize`: a device appears, its driver is loaded, and the host asks for other sizes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections import Counter

from memhp.errors import BadInput, KernelError
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import EVERY_TYPE, Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.hw.memory import Use
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.kernel.resource import IORESOURCE_BUSY, iter_resources, remove_resource
from memhp.linux.state import Kernel
from memhp.scenario import result, schema
from memhp.spans import Span
from memhp.units import format_size, parse_size

SECOND = 1_000_000_000
"""Nanoseconds."""

IDLE = frozenset({Use.FREE, Use.DEVICE})
"""Uses that hold nothing back."""

_REGION = re.compile(r"virtio\d+")


def add_device(k: Kernel, devices: dict[str, VirtioMem], step: schema.VirtioMem, at: int) -> None:
    """A device appears at physical address `at`, its driver takes it over and goes for the size asked for."""
    if step.device in devices:
        raise BadInput(f"there is a device {step.device!r} already", where="device", fix="write another name")
    size = parse_size(step.size, where="size")
    geometry = Geometry(at, size, parse_size(step.block_size, where="block_size"), step.node)
    if geometry.block_size % k.config.page_size:
        fix = f"pages are {format_size(k.config.page_size)}"
        raise BadInput(f"{geometry.block_size:#x} is not made of whole pages", where="block_size", fix=fix)
    if not size:
        raise BadInput("a device without memory", where="size", fix="write a size of at least one memory block")
    if step.node not in k.node_states.possible:
        raise BadInput(f"node {step.node} cannot exist", where="node", fix=f"one of {sorted(k.node_states.possible)}")
    _clear(k, geometry.region)
    rules = [_rule(step, place) for place in range(len(step.faults))]
    device = VirtioMemDevice(geometry, MachineBacking(k.hw, step.device), rules=rules)
    device.resize(parse_size(step.requested, where="requested"))
    params = Params(unplug_online=step.unplug_online, force_bbm=step.big_blocks)
    taken = {res.name for _, res in iter_resources(k.iomem_resource)}
    name = next(name for number in range(len(taken) + 1) if (name := f"virtio{number}") not in taken)
    devices[step.device] = virtio_mem_probe(k, device, name, params)
    k.hw.advance(0)


def _clear(k: Kernel, region: Span) -> None:
    """See that a region is free, and let its driver, if the machine was seen with one, start anew."""
    shift = k.config.page_shift
    taken = next(k.hw.memory.owners.runs(region.start >> shift, region.end >> shift), None)
    if taken is not None:
        text = f"[{region.start:#x}-{region.end:#x}) overlaps memory at {taken[0] << shift:#x}"
        raise BadInput(text, where="at", fix="leave `at` out to plug above all memory")
    for _, res in list(iter_resources(k.iomem_resource)):
        driver_left = _REGION.fullmatch(res.name) and not res.flags & IORESOURCE_BUSY and not res.children
        if driver_left and Span(res.start, res.end + 1).overlaps(region):
            remove_resource(res)


def _rule(step: schema.VirtioMem, place: int) -> Rule:
    """A fault of the device as the rule that makes it."""
    fault = step.faults[place]
    where = f"faults[{place}]"
    return Rule(
        types=EVERY_TYPE if fault.request is None else frozenset({RequestType[fault.request]}),
        first=fault.first,
        count=fault.count,
        answer=None if fault.answer is None else ResponseType[fault.answer],
        delay=round(fault.delay * SECOND),
        requested_after=None if fault.requested is None else parse_size(fault.requested, where=f"{where}.requested"),
    )


def resize(k: Kernel, devices: dict[str, VirtioMem], step: schema.Resize, notes: list[str]) -> None:
    """The host asks for a size, and time passes. Raises what the driver's work ended in, if the size is not reached."""
    vm = devices.get(step.device)
    if vm is None:
        fix = f"one of {', '.join(devices)}" if devices else 'let it appear by a step do = "virtio-mem"'
        raise BadInput(f"there is no device {step.device!r}", where="device", fix=fix)
    requested = parse_size(step.to, where="to")
    try:
        vm.device.resize(requested)
    except BadInput as error:
        raise BadInput(error.message, where="to", fix=error.fix) from None
    k.hw.advance(round(step.wait * SECOND))
    reached, wanted = vm.device.plugged_size, vm.device.requested_size
    notes.append(f"{step.device}: {format_size(reached)} plugged, {format_size(wanted)} requested")
    notes.extend(_held_notes(k, step.device, vm))
    came_to = vm.last_error
    if came_to is not None and reached != wanted:
        raise KernelError(came_to.errno, came_to.reason, place=came_to.place, advice=came_to.advice)


def held(k: Kernel, vm: VirtioMem) -> list[result.Held]:
    """What holds the memory that a device should give back and does not: every run of pages in use, ascending.

    Movable memory holds nothing where there is something else, as it could move.
    """
    if vm.device.plugged_size <= vm.device.requested_size:
        return []
    shift = k.config.page_shift
    found = [
        (owner.use, result.Held(start=lo << shift, size=(hi - lo) << shift, owner=str(owner)))
        for span in vm.device.plugged
        for lo, hi, owner in k.hw.memory.owners.runs(span.start >> shift, span.end >> shift)
        if owner.use not in IDLE
    ]
    stuck = [each for use, each in found if use is not Use.MOVABLE]
    return stuck or [each for _, each in found]


def _held_notes(k: Kernel, name: str, vm: VirtioMem) -> list[str]:
    """Who holds how much of the memory of a device, each from where on."""
    pages: Counter[str] = Counter()
    first: dict[str, int] = {}
    for each in held(k, vm):
        pages[each.owner] += each.size >> k.config.page_shift
        first.setdefault(each.owner, each.start)
    return [f"{name}: held by {owner}, {count} pages, the first at {first[owner]:#x}" for owner, count in pages.items()]


def device_results(k: Kernel, devices: dict[str, VirtioMem]) -> list[result.VirtioMemDevice]:
    """The devices as they stand, in the order in which they appeared."""
    return [
        result.VirtioMemDevice(
            device=name,
            start=vm.region.start,
            region_size=vm.region_size,
            block_size=vm.device_block_size,
            mode="sub-block" if vm.in_sbm else "big-block",
            unit=vm.sbm.sb_size if vm.in_sbm else vm.bbm.bb_size,
            requested=vm.device.requested_size,
            plugged=vm.device.plugged_size,
            usable=vm.device.usable_region_size,
            offline=vm.offline_size,
            requests=len(vm.device.log),
            broken=vm.broken,
            held=held(k, vm),
        )
        for name, vm in devices.items()
    ]
