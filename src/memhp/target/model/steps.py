"""What each step of a scenario does to the machine: the platform's part, then the kernel's own entry points."""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.amount import check_plugged
from memhp.linux.drivers.acpi.numa.srat import Srat
from memhp.linux.drivers.base.memory_groups import (
    memory_group_register_dynamic,
    memory_group_register_static,
    memory_group_unregister,
)
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.kernel.resource import IORESOURCE_BUSY, iter_resources
from memhp.linux.mm.memory_hotplug_add import (
    MHP_MEMMAP_ON_MEMORY,
    MHP_MERGE_RESOURCE,
    MHP_NID_IS_MGID,
    MHP_NONE,
    add_memory,
    add_memory_driver_managed,
)
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory, remove_memory
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span, SpanSet
from memhp.target.model import dimm, hyperv, neighbours
from memhp.target.model.dax import dax as run_dax
from memhp.target.model.power import suspend
from memhp.target.model.probe import probe
from memhp.target.model.reboot import reboot
from memhp.target.model.session import Session, check_room, size_of
from memhp.target.model.virtio_mem import add_device, bind, check_driver, resize, unbind, wait
from memhp.target.model.virtio_mem_blocks import device_at, grow, shrink
from memhp.target.model.xen import xen_target
from memhp.units import align_up, format_count, format_size, is_aligned


@dataclass(frozen=True)
class Driver:
    """What a driver passes when it adds memory: its resource's name, and its flags."""

    resource: str
    merge: bool
    in_units: bool
    """Whether one device grows and shrinks unit by unit (a dynamic memory group), or comes and goes whole."""


DRIVERS = {
    "kmem": Driver("System RAM (kmem)", merge=False, in_units=False),
    "virtio_mem": Driver("System RAM (virtio_mem)", merge=True, in_units=True),
}
"""Drivers that manage memory of their own: ``drivers/dax/kmem.c``, which asks for memmap_on_memory only if the device's
attribute says so, and ``drivers/virtio/virtio_mem.c``, which never does."""

ONLINE_TEXT = {"auto": "online", "kernel": "online_kernel", "movable": "online_movable"}


def plug(session: Session, step: schema.Plug) -> None:
    """Plug memory and let its driver add it; online it if the step says so."""
    k = session.k
    size = size_of(session, step.size, "size")
    if not size:
        raise BadInput("nothing to plug", where="size", fix="write a size of at least one memory block")
    check_plugged(k.config, k.memory_block_size, size, "size")
    start = free_range(session, size, step.driver) if step.at is None else size_of(session, step.at, "at")
    span = Span(start, start + size)
    _check_plug(session, step, span)
    vm = device_at(session.devices, span)
    if vm is None and not k.hw.memory.owners.covered(*session.frames(span)):
        check_room(session, span, dimm=step.driver == "dimm")
    if vm is not None:
        grow(k, vm, span)
        session.plugged.append(span)
    else:
        _plug(session, step, span)
    if step.online is not None:
        zone = step.online
        already = _blocks(session, span, "online")
        if already and zone != "auto":
            session.notes.append(asked_too_late(len(already), str(k.auto_online_blocks), zone))
        _each_block(session, _blocks(session, span, "offline"), lambda block: _set_state(k, block, zone))


def asked_too_late(blocks: int, default: str, zone: str) -> str:
    """What to say of a step that asks for a zone where the kernel brought blocks online by itself."""
    count = format_count(blocks, "block")
    return f"{count} went online unasked, as the kernel's default says ({default}); asking for {zone} comes too late"


def _plug(session: Session, step: schema.Plug, span: Span) -> None:
    """The platform plugs, and the driver adds; what cannot be added is unplugged again, but for a DIMM in its slot."""
    k = session.k
    if k.hw.memory.owners.covered(*session.frames(span)):
        _add_again(k, step, span)
        return
    k.hw.plug(session.frames(span), Owner(Use.DEVICE, step.driver))
    session.plugged.append(span)
    try:
        if step.driver == "dimm":
            dimm.add(session, step, span)
        else:
            _add(session, step, DRIVERS[step.driver], span)
    except KernelError:
        if not _blocks(session, span, None):
            if step.driver == "dimm":
                session.plugged.remove(span)
            else:
                _unplug(session, span)
        raise


def _add_again(k: Kernel, step: schema.Plug, span: Span) -> None:
    """Somebody adds what is there and claimed. Raises what ``add_memory()`` answers, EEXIST if nothing else."""
    if step.driver == "dimm":
        add_memory(k, step.node, span.start, span.size)
    else:
        add_memory_driver_managed(k, step.node, span.start, span.size, DRIVERS[step.driver].resource)


def _add(session: Session, step: schema.Plug, driver: Driver, span: Span) -> None:
    """What the driver does when its device appears."""
    k = session.k
    flags = MHP_MEMMAP_ON_MEMORY if step.memmap_on_memory else MHP_NONE
    flags |= MHP_MERGE_RESOURCE if driver.merge else MHP_NONE
    nid = step.node
    if k.config.profile.auto_movable:
        nid, flags = _group(session, driver, nid, span), flags | MHP_NID_IS_MGID
    add_memory_driver_managed(k, nid, span.start, span.size, driver.resource, flags)


def _group(session: Session, driver: Driver, nid: int, span: Span) -> int:
    """The memory group that a driver registers for its device; virtio-mem devices keep theirs while empty."""
    k = session.k
    if driver.in_units:
        if nid not in session.unit_groups:
            session.unit_groups[nid] = memory_group_register_dynamic(k, nid, k.pages_per_block)
        return session.unit_groups[nid]
    session.groups[span.start] = memory_group_register_static(k, nid, span.size >> k.config.page_shift)
    return session.groups[span.start]


def _check_plug(session: Session, step: schema.Plug, span: Span) -> None:
    """Refuse what no platform could plug, and slips that the scenario does not say it means."""
    k = session.k
    if step.driver == "virtio_mem":
        check_driver(k.config, where="driver")
    taken = next(k.hw.memory.owners.runs(*session.frames(span)), None)
    if taken is not None and (device_at(session.devices, span) is not None or not _claimed(k, span)):
        raise BadInput(
            f"[{span.start:#x}-{span.end:#x}) overlaps memory at {taken[0] << k.config.page_shift:#x}",
            where="at",
            fix="leave `at` out to plug above all memory",
        )
    if step.expect == "ok":
        _check_node(session, step)
    block = k.memory_block_size
    told = step.at is not None and not is_aligned(span.start, block)
    if step.expect == "ok" and (told or not is_aligned(span.size, block)):
        raise BadInput(
            f"[{span.start:#x}-{span.end:#x}) is not made of whole memory blocks of {format_size(block)}",
            where="size" if not is_aligned(span.size, block) else "at",
            fix='align it, or write expect = "EINVAL" to see the kernel refuse it',
        )


def _check_node(session: Session, step: schema.Plug) -> None:
    """Refuse a node that firmware cannot have meant: for a DIMM a domain above all that it names."""
    possible = session.k.node_states.possible
    if step.driver == "dimm":
        domains = session.k.statics(Srat).pxm_to_node_map or possible
        if step.node > max(domains):
            have = ", ".join(map(str, sorted(domains)))
            raise BadInput(f"node {step.node} cannot exist", where="node", fix=f"one of {have}")
    elif step.node not in possible:
        have = ", ".join(map(str, sorted(possible)))
        raise BadInput(f"node {step.node} cannot exist", where="node", fix=f"one of {have}")


def _claimed(k: Kernel, span: Span) -> bool:
    """Whether a resource is in the way of memory that somebody adds (``__request_region()``)."""
    for _, res in iter_resources(k.iomem_resource):
        inside = res.start <= span.start and span.end - 1 <= res.end
        if Span(res.start, res.end + 1).overlaps(span) and (res.flags & IORESOURCE_BUSY or not inside):
            return True
    return False


def free_range(session: Session, size: int, driver: str) -> int:
    """Where the platform plugs by default: above all memory, on a PC not below 4 GiB, clear of devices.

    The first device begins where the platform's memory for devices does, the others with a memory block, but for what
    comes behind a DIMM that was refused. Virtio-mem plugs within its own device where the machine shows one.
    """
    k = session.k
    unit = max(k.memory_block_size, k.config.section_size)
    own = next(_free_in_virtio_mem(session, size, unit), None) if driver == "virtio_mem" else None
    if own is not None:
        return own
    top = k.hw.memory.owners.end << k.config.page_shift
    if driver == "dimm" and any(adev.crs[-1].end == top for adev in session.refused):
        return top
    first = top == max(span.end for span in k.boot_memory) << k.config.page_shift
    place = session.room.place
    at = align_up(max(top, k.port.plug_start, place.start), max(unit, place.align) if first else unit)
    above = k.iomem_resource.children
    for res in above[bisect_left(above, at, key=lambda res: res.end) :]:
        if res.start < at + size and at <= res.end:
            at = align_up(res.end + 1, unit)
    return at


def _free_in_virtio_mem(session: Session, size: int, unit: int) -> Iterator[int]:
    """Where a virtio-mem device still has so much room."""
    k = session.k
    for _, res in iter_resources(k.iomem_resource):
        if res.name.startswith("virtio") and not res.flags & IORESOURCE_BUSY:
            for gap in k.hw.memory.owners.gaps(*session.frames(Span(res.start, res.end + 1))):
                at = align_up(gap.start << k.config.page_shift, unit)
                if at + size <= gap.end << k.config.page_shift:
                    yield at


def _range(session: Session, at: schema.Size | None, size: schema.Size | None) -> Span:
    """The range that a step names, or the last one that was plugged."""
    if at is None and size is None:
        if not session.plugged:
            raise BadInput("nothing was plugged before this step", where="at", fix="write `at` and `size`")
        return session.plugged[-1]
    if at is None:
        raise BadInput("`size` without `at`", where="at", fix="write both, or neither for what was plugged last")
    start = size_of(session, at, "at")
    if size is None:
        known = [span for span in session.plugged if span.start == start]
        if not known:
            raise BadInput(f"nothing was plugged at {start:#x}", where="at", fix="write `size` too")
        return known[0]
    return Span(start, start + size_of(session, size, "size"))


def _blocks(session: Session, span: Span, state: str | None) -> list[int]:
    """The memory blocks of a range that are in a state (None: all)."""
    k = session.k
    block = k.memory_block_size
    runs = k.memory_blocks.runs(span.start // block, -(-span.end // block))
    return [i for first, end, each in runs if state is None or each.state == state for i in range(first, end)]


def _wanted_blocks(session: Session, step: schema.Online | schema.Offline, state: str) -> list[int]:
    if step.blocks is not None:
        missing = [block for block in step.blocks if session.k.memory_blocks.get(block) is None]
        if missing:
            raise BadInput(f"there is no memory block {missing[0]}", where="blocks", fix=_have(session.k))
        return step.blocks
    if step.at is None and step.size is None and not session.plugged:
        span = Span(0, 1 << 62)
    else:
        span = _range(session, step.at, step.size)
        if step.size is not None and not _blocks(session, span, None):
            raise BadInput(f"there is no memory block at {span.start:#x}", where="at", fix=_have(session.k))
    return _blocks(session, span, state)


def _have(k: Kernel) -> str:
    runs = SpanSet((first, end) for first, end, _ in k.memory_blocks)
    return "there are " + ", ".join(f"{first} to {end - 1}" for first, end in runs)


def _each_block(session: Session, blocks: list[int], change: Callable[[int], None]) -> None:
    """Change block after block, going on after a refusal as ``chmem`` does; then raise the first refusal."""
    first: KernelError | None = None
    refused = 0
    for block in blocks:
        try:
            change(block)
        except KernelError as error:
            first, refused = first or error, refused + 1
    if first is not None:
        if len(blocks) > 1:
            session.notes.append(f"{refused} of {len(blocks)} blocks refused")
        raise first


def _set_state(k: Kernel, block: int, zone: str) -> None:
    state_store(k, block, ONLINE_TEXT[zone])


def online(session: Session, step: schema.Online) -> None:
    """Bring blocks online."""
    blocks = _wanted_blocks(session, step, "offline")
    _each_block(session, blocks, lambda block: _set_state(session.k, block, step.zone))


def offline(session: Session, step: schema.Offline) -> None:
    """Take blocks offline."""
    blocks = _wanted_blocks(session, step, "online")
    _each_block(session, blocks, lambda block: state_store(session.k, block, "offline"))


def remove(session: Session, step: schema.Remove) -> None:
    """Remove offline memory; then the platform unplugs it."""
    span = _range(session, step.at, step.size)
    _check_blocks(session, step, span)
    vm = device_at(session.devices, span)
    if vm is not None and not _blocks(session, span, "online"):
        shrink(session.k, vm, span)
        _forget(session, span)
        return
    remove_memory(session.k, span.start, span.size)
    _unplug(session, span)


def unplug(session: Session, step: schema.Unplug) -> None:
    """Offline and remove in one; then the platform unplugs it."""
    span = _range(session, step.at, step.size)
    _check_blocks(session, step, span)
    vm = device_at(session.devices, span)
    if vm is not None:
        shrink(session.k, vm, span)
        _forget(session, span)
        return
    offline_and_remove_memory(session.k, span.start, span.size)
    _unplug(session, span)


def _check_blocks(session: Session, step: schema.Remove | schema.Unplug, span: Span) -> None:
    block = session.k.memory_block_size
    if step.expect == "ok" and not (is_aligned(span.start, block) and is_aligned(span.size, block)):
        raise BadInput(
            f"[{span.start:#x}-{span.end:#x}) is not made of whole memory blocks of {format_size(block)}",
            where="size",
            fix='align it, or write expect = "EINVAL" to see the kernel refuse it',
        )
    if device_at(session.devices, span) is None and not session.k.hw.memory.owners.covers(*session.frames(span)):
        raise BadInput(
            f"there is no memory in all of [{span.start:#x}-{span.end:#x})", where="at", fix="name what was plugged"
        )


def _unplug(session: Session, span: Span) -> None:
    session.k.hw.unplug(session.frames(span), "platform")
    _forget(session, span)
    in_use = {block.group for _, _, block in session.k.memory_blocks}
    for at, group in list(session.groups.items()):
        if group not in in_use:
            memory_group_unregister(session.k, group)
            del session.groups[at]
    dimm.forget(session)


def _forget(session: Session, span: Span) -> None:
    """A range is not plugged any more."""
    session.plugged[:] = [part for plugged in session.plugged for part in _without(plugged, span)]


def _without(span: Span, gone: Span) -> Iterator[Span]:
    left, right = Span(span.start, min(span.end, gone.start)), Span(max(span.start, gone.end), span.end)
    return iter([part for part in (left, right) if part.size > 0])


def eject(session: Session, step: schema.Eject) -> None:
    """Eject a DIMM; then the platform unplugs it."""
    for span in dimm.eject(session, step):
        _unplug(session, span)


def dax(session: Session, step: schema.Dax) -> None:
    """Give a region to another driver."""
    devices = [(name, vm.region) for name, vm in session.devices.items()]
    run_dax(session.k, session.regions, step, session.notes, devices)


def virtio_mem(session: Session, step: schema.VirtioMem) -> None:
    """A virtio-mem device appears, by default above all memory."""
    size = size_of(session, step.size, "size")
    at = free_range(session, size, "") if step.at is None else size_of(session, step.at, "at")
    check_room(session, Span(at, at + size), dimm=False)
    add_device(session, step, at)


def hv_add(session: Session, step: schema.HvAdd) -> None:
    """Hyper-V's host backs more pages."""
    behind = hyperv.next_address(session)
    if step.at is not None:
        at = size_of(session, step.at, "at")
    else:
        at = free_range(session, size_of(session, step.size, "size"), "hv") if behind is None else behind
    hyperv.hv_add(session, step, at)


RUNNERS: dict[type, Callable[[Session, Any], None]] = {
    schema.Plug: plug,
    schema.Online: online,
    schema.Offline: offline,
    schema.Remove: remove,
    schema.Unplug: unplug,
    schema.Eject: eject,
    schema.VirtioMem: virtio_mem,
    schema.Resize: resize,
    schema.Unbind: unbind,
    schema.Bind: bind,
    schema.Suspend: suspend,
    schema.Reboot: reboot,
    schema.Probe: probe,
    schema.HvAdd: hv_add,
    schema.XenTarget: xen_target,
    schema.Wait: wait,
    schema.Set: neighbours.set_parameter,
    schema.Dax: dax,
    schema.Allocate: neighbours.allocate,
    schema.Free: neighbours.free,
    schema.Pin: neighbours.pin,
    schema.Poison: neighbours.poison,
    schema.Fragment: neighbours.fragment,
    schema.NewProcess: neighbours.new_process,
    schema.Touch: neighbours.touch,
    schema.Vmalloc: neighbours.vmalloc,
    schema.Vfree: neighbours.vfree,
}
"""Which function carries out which kind of step."""
