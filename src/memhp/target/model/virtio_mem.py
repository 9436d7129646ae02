"""Steps of virtio-mem devices: one appears, its driver is unbound and bound again, the host asks for other sizes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Sequence

from memhp.errors import BadInput, KernelError
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import EVERY_TYPE, Rule
from memhp.hw.devices.virtio_mem_wire import Feature, RequestType, ResponseType
from memhp.linux.config import Config
from memhp.linux.drivers.acpi.numa.srat import Srat
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe, virtio_mem_remove
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.kernel.resource import IORESOURCE_BUSY, iter_resources, remove_resource
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_stuck import stuck_notes
from memhp.units import format_size, parse_size

SECOND = 1_000_000_000
"""Nanoseconds."""

FEATURES: dict[schema.DeviceFeature, Feature] = {
    "acpi-pxm": Feature.ACPI_PXM,
    "unplugged-inaccessible": Feature.UNPLUGGED_INACCESSIBLE,
    "persistent-suspend": Feature.PERSISTENT_SUSPEND,
}

DEFAULT = "vm0"
"""The device that steps are about which name none."""

_REGION = re.compile(r"virtio\d+")


def add_device(session: Session, step: schema.VirtioMem, at: int) -> None:
    """A device appears at physical address `at`, its driver takes it over and goes for the size asked for."""
    k = session.k
    features = Feature.NONE
    for feature in step.features:
        features |= FEATURES[feature]
    geometry = Geometry(
        at,
        parse_size(step.size, where="size"),
        parse_size(step.block_size, where="block_size"),
        step.node,
        features,
        k.port.virtio_mem_extent,
    )
    _check(session, step, geometry)
    known = _clear(session, geometry.region)
    params = Params(step.unplug_online, step.big_blocks, parse_size(step.big_block_size, where="big_block_size"))
    requested = parse_size(step.requested, where="requested")
    take_over(session, step.device, geometry, requested, params, fault_rules(step.faults), known)


def take_over(
    session: Session,
    device_name: str,
    geometry: Geometry,
    requested: int,
    params: Params,
    rules: list[Rule],
    known: str | None = None,
) -> None:
    """The driver finds a device with nothing plugged, and goes for the size that is requested.

    `known` is the guest's name of the device, if it was seen.
    """
    k = session.k
    device = VirtioMemDevice(geometry, MachineBacking(k.hw, device_name), rules=rules)
    request_size(device, requested, "requested")
    taken = {res.name for _, res in iter_resources(k.iomem_resource)}
    free = (name for number in range(len(taken) + 1) if (name := f"virtio{number}") not in taken)
    name = next(free) if known is None else known
    session.devices[device_name] = virtio_mem_probe(k, device, name, params)
    k.hw.advance(0)


def check_driver(config: Config, *, where: str) -> None:
    """Refuse a device of a kernel without its driver (``drivers/virtio/Kconfig``). Raises :class:`BadInput`."""
    if config.choices.virtio_mem and not config.memory_hotremove:
        text = "there is no virtio-mem driver without CONFIG_MEMORY_HOTREMOVE"
        raise BadInput(text, where=where, fix="leave machine.build as distributions have it, or choose another driver")
    if not config.choices.virtio_mem:
        text = f"{config.profile.name} has no virtio-mem driver for {config.arch}"
        raise BadInput(text, where=where, fix="choose a newer profile, or another driver")


def _check(session: Session, step: schema.VirtioMem, geometry: Geometry) -> None:
    k = session.k
    check_driver(k.config, where="do")
    known = session.devices.get(step.device)
    if known is not None and not _makes_room(session, step.device, geometry.region):
        raise BadInput(f"there is a device {step.device!r} already", where="device", fix="write another name")
    if geometry.block_size % k.config.page_size:
        fix = f"pages are {format_size(k.config.page_size)}"
        raise BadInput(f"{geometry.block_size:#x} is not made of whole pages", where="block_size", fix=fix)
    if not geometry.region_size:
        raise BadInput("a device without memory", where="size", fix="write a size of at least one memory block")
    domains = sorted(k.statics(Srat).pxm_to_node_map)
    if "acpi-pxm" in step.features and domains and step.node not in domains:
        raise BadInput(f"node {step.node} cannot exist", where="node", fix=f"one of {domains}")


def _makes_room(session: Session, name: str, region: Span) -> bool:
    """Whether a device that the machine was seen with lies in a region and has nothing plugged, so that it may go."""
    vm = session.devices[name]
    return name in session.seen and vm.region.overlaps(region) and not vm.device.plugged_size


def _clear(session: Session, region: Span) -> str | None:
    """See that a region is free; a device that the machine was seen with there and that has nothing plugged goes.

    The guest's name of that device is what comes back.
    """
    k = session.k
    shift = k.config.page_shift
    taken = next(k.hw.memory.owners.runs(region.start >> shift, region.end >> shift), None)
    if taken is not None:
        text = f"[{region.start:#x}-{region.end:#x}) overlaps memory at {taken[0] << shift:#x}"
        raise BadInput(text, where="at", fix="leave `at` out to plug above all memory")
    known = None
    for name, vm in list(session.devices.items()):
        if _makes_room(session, name, region):
            known = vm.name
            if not vm.removing:
                virtio_mem_remove(k, vm)
            del session.devices[name]
            session.seen.discard(name)
    for _, res in list(iter_resources(k.iomem_resource)):
        driver_left = _REGION.fullmatch(res.name) and not res.flags & IORESOURCE_BUSY and not res.children
        if driver_left and Span(res.start, res.end + 1).overlaps(region):
            remove_resource(res)
    return known


def fault_rules(faults: Sequence[schema.Fault], *, where: str = "faults") -> list[Rule]:
    """Faults of a device as the rules that make them. Raises :class:`BadInput` naming the key."""
    return [_rule(fault, f"{where}[{place}]") for place, fault in enumerate(faults)]


def _rule(fault: schema.Fault, where: str) -> Rule:
    """A fault of the device as the rule that makes it."""
    if fault.at is None and fault.size is not None:
        raise BadInput("`size` without `at`", where=f"{where}.at", fix="write both, or neither")
    at = None if fault.at is None else parse_size(fault.at, where=f"{where}.at")
    size = 1 if fault.size is None else parse_size(fault.size, where=f"{where}.size")
    return Rule(
        types=EVERY_TYPE if fault.request is None else frozenset({RequestType[fault.request]}),
        overlaps=None if at is None else Span(at, at + max(size, 1)),
        first=fault.first,
        count=fault.count,
        answer=None if fault.answer is None else ResponseType[fault.answer],
        delay=round(fault.delay * SECOND),
        requested_after=None if fault.requested is None else parse_size(fault.requested, where=f"{where}.requested"),
        usable_after=None if fault.usable is None else parse_size(fault.usable, where=f"{where}.usable"),
    )


def find_device(session: Session, name: str | None) -> tuple[str, VirtioMem]:
    """A device by its name or the guest's for it; without one the only device, or ``vm0``. Raises :class:`BadInput`."""
    for each, vm in session.devices.items():
        if (name or DEFAULT) in (each, vm.name) or (name is None and len(session.devices) == 1):
            return each, vm
    names = ", ".join(session.devices)
    fix = f"one of {names}" if names else 'let it appear by a step do = "virtio-mem"'
    text = f"there is no device {name!r}" if name is not None else "which device?" if names else "there is no device"
    raise BadInput(text, where="device", fix=fix)


def request_size(device: VirtioMemDevice, size: int, where: str) -> None:
    """The host requests a size. Raises :class:`BadInput` naming the key for one that the device cannot have."""
    try:
        device.resize(size)
    except BadInput as error:
        raise BadInput(error.message, where=where, fix=error.fix) from None


def resize(session: Session, step: schema.Resize) -> None:
    """The host asks for a size, and time passes. Raises what the driver's work ended in, if the size is not reached."""
    k = session.k
    name, vm = find_device(session, step.device)
    vm.device.rules.extend(fault_rules(step.faults))
    request_size(vm.device, parse_size(step.to, where="to"), "to")
    k.hw.advance(round(step.wait * SECOND))
    reached, wanted = vm.device.plugged_size, vm.device.requested_size
    session.notes.extend([_size_note(name, vm), *stuck_notes(k, name, vm)])
    came_to = vm.last_error
    if vm.removing:
        session.notes.append(f"{name}: no driver is bound to hear of it")
    elif came_to is not None and reached != wanted:
        raise KernelError(came_to.errno, came_to.reason, place=came_to.place, advice=came_to.advice)


def wait(session: Session, step: schema.Wait) -> None:
    """Time passes."""
    session.k.hw.advance(round(step.seconds * SECOND))
    for name, vm in session.devices.items():
        if vm.device.plugged_size != vm.device.requested_size:
            session.notes.extend([_size_note(name, vm), *stuck_notes(session.k, name, vm)])


def _size_note(name: str, vm: VirtioMem) -> str:
    """How far a device got."""
    reached, wanted = vm.device.plugged_size, vm.device.requested_size
    return f"{name}: {format_size(reached)} plugged, {format_size(wanted)} requested"


def unbind(session: Session, step: schema.Unbind) -> None:
    """``echo virtioN > /sys/bus/virtio/drivers/virtio_mem/unbind``."""
    name, vm = find_device(session, step.device)
    if vm.removing:
        raise BadInput(f"no driver is bound to {name!r}", where="device", fix="leave the step out")
    virtio_mem_remove(session.k, vm)
    if vm.parent_resource is not None:
        left = format_size(vm.device.plugged_size)
        session.notes.append(f"{name}: {left} stay plugged, and their region claimed: the driver cannot come back")


def bind(session: Session, step: schema.Bind) -> None:
    """``echo virtioN > /sys/bus/virtio/drivers/virtio_mem/bind``. Raises EBUSY while memory is still added."""
    name, vm = find_device(session, step.device)
    if not vm.removing:
        raise BadInput(f"a driver is bound to {name!r}", where="device", fix="unbind it before")
    session.devices[name] = virtio_mem_probe(session.k, vm.device, vm.name, vm.params)
    session.k.hw.advance(0)
