"""What happened to a real machine between two moments of it, done to the model.

Facts tell which memory came, went, went online or offline, and how large a virtio-mem device was to be; the steps that
follow from them are those that drivers, users and the host took. What stands in no facts is not repeated: what tasks
allocated, and parts of memory blocks that a device took back of whose requested size nothing tells.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Mapping

import msgspec

from memhp.errors import KernelError
from memhp.facts.derive import derive
from memhp.facts.hotplug import PlugChange, changes
from memhp.facts.memory_blocks import State
from memhp.facts.observed import Facts
from memhp.facts.virtio_mem import DEVICE
from memhp.hw.memory import Use
from memhp.linux.config import OnlineType
from memhp.linux.drivers.acpi.numa.srat import Srat
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.target.model.virtio_mem_blocks import device_at
from memhp.target.model.virtio_mem_facts import attach_seen
from memhp.target.model.virtio_mem_replay import resizes, told_regions
from memhp.target.seen.dax_facts import REGION, dax_steps


def replay(session: Session, before: Facts, after: Facts) -> None:
    """Do to the model what happened to a machine from `before` to `after`. Raises what a step raises.

    What devices have in ``/proc/iomem`` stays as it is, but for those that memory comes with.
    """
    _run(session, leaving(before, after))
    _run(session, dax_steps(before, after))
    _run(session, resizes(before, after))
    _run(session, coming(before, after, session.k.auto_online_blocks, domains(session.k)))


def steps_between(before: Facts, after: Facts, auto_online: OnlineType) -> list[schema.StepKind]:
    """The same as steps of a scenario."""
    ranges = after.boot_log.srat if after.boot_log is not None else ()
    return [
        *leaving(before, after),
        *dax_steps(before, after),
        *resizes(before, after),
        *coming(before, after, auto_online, {each.nid: each.pxm for each in ranges}),
    ]


def domains(k: Kernel) -> dict[int, int]:
    """Node → the proximity domain that a DIMM of that node names."""
    return {nid: domain for domain, nid in k.statics(Srat).pxm_to_node_map.items()}


def catch_up(session: Session, facts: Facts) -> None:
    """Bring a machine that booted without its hot-plugged memory to the state that `facts` show."""
    k = session.k
    auto_online, k.auto_online_blocks = k.auto_online_blocks, "offline"
    try:
        attach_seen(session, facts)
        replay(session, derive(k), facts)
        _widen_zones(k, facts)
    finally:
        k.auto_online_blocks = auto_online


def _widen_zones(k: Kernel, facts: Facts) -> None:
    """Zones that had shrunk before, and their nodes, end with a sub-section, not where boot memory ends within one.

    ``shrink_zone_span()`` looks at struct pages a sub-section at a time, and boot made some behind the end.
    """
    step = k.config.pages_per_subsection
    for zone in k.zones():
        told = facts.zone(zone.nid, zone.name)
        if told is not None and told.start_pfn == zone.start_pfn and 0 < told.spanned - zone.spanned < step:
            zone.spanned = told.spanned
            node = k.nodes[zone.nid]
            node.spanned = max(node.spanned, zone.end_pfn - node.start_pfn)


def _run(session: Session, steps: Iterator[schema.StepKind]) -> None:
    for step in steps:
        if isinstance(step, schema.Allocate):
            _hold(session, step)
            continue
        try:
            RUNNERS[type(step)](session, step)
        except KernelError as error:
            if error.name != step.expect:
                raise


def _hold(session: Session, step: schema.Allocate) -> None:
    """Use the page that is to be in use, or where it is not free the next one that is in a later sub-block."""
    k = session.k
    assert isinstance(step.at, int)
    vm = device_at(session.devices, Span(step.at, step.at + 1))
    unit = k.memory_block_size if vm is None or not vm.in_sbm else vm.sbm.sb_size
    end = (step.at // k.memory_block_size + 1) * k.memory_block_size
    for at in range(step.at, end, unit):
        if k.hw.memory.use_of(at >> k.config.page_shift) is Use.FREE:
            RUNNERS[schema.Allocate](session, msgspec.structs.replace(step, at=at))
            return


def leaving(before: Facts, after: Facts) -> Iterator[schema.StepKind]:
    """The steps that took memory away.

    The virtio-mem driver offlines and removes a memory block at a time, the highest first
    (``virtio_mem_sbm_unplug_request()``); a DIMM or a dax device goes as a whole.
    """
    size = before.memory.block_size
    resized = told_regions(before, after)
    yield from (schema.Offline(at=span.start, size=size) for span, _ in _set_by_hand(before, after, "offline"))
    found = [change for change in changes(before, after) if not resized.covers(*change.span)]
    removed = [change for change in found if change.kind == "remove" and not _of_dax(change)]
    one_by_one = [change.span for change in removed if _driver(change) == "virtio_mem"]
    for change in found:
        if change.kind == "offline" and not any(span.covers(change.span) for span in one_by_one):
            yield schema.Offline(at=change.start, size=change.size)
    for change in removed:
        if change.span in one_by_one:
            yield from (schema.Unplug(at=at, size=size) for at in reversed(_blocks(change.span, size)))
        else:
            yield schema.Remove(at=change.start, size=change.size)


def _set_by_hand(before: Facts, after: Facts, state: State) -> Iterator[tuple[Span, str | None]]:
    """The blocks of resized devices, there before and after, that went to a state or came online in another zone; with
    the zone that they are in now.
    """
    resized = told_regions(before, after)
    for block in after.memory.blocks:
        span, old = after.memory.span(block), before.memory.by_index.get(block.index)
        if old is None or not resized.covers(*span):
            continue
        moved = "online" == block.state == old.state and block.zone != old.zone
        if moved or (block.state == state != old.state):
            yield span, block.zone


def coming(
    before: Facts, after: Facts, auto_online: OnlineType, domains: Mapping[int, int]
) -> Iterator[schema.StepKind]:
    """The steps that brought memory; with `auto_online` the kernel itself puts it online as it comes.

    A DIMM names a proximity domain, which `domains` tells of each node where it is another number.

    The virtio-mem driver adds a memory block at a time (``virtio_mem_sbm_plug_request()``).
    """
    size = after.memory.block_size
    resized = told_regions(before, after)
    yield from _online_by_hand(before, after, auto_online)
    found = changes(before, after)
    added = [change for change in found if change.kind == "add"]
    for change in added:
        if _of_dax(change) or resized.covers(*change.span):
            continue
        driver = _driver(change)
        parts = _blocks(change.span, size) if driver == "virtio_mem" else [change.start]
        for at in parts:
            part = size if driver == "virtio_mem" else change.size
            nid = change.nid or 0
            node = domains.get(nid, nid) if driver == "dimm" else nid
            yield schema.Plug(at=at, size=part, node=node, driver=driver)
    automatic = [change.span for change in added] if auto_online != "offline" else []
    for change in found:
        if change.kind != "online" or resized.covers(*change.span):
            continue
        if not any(span.covers(change.span) for span in automatic):
            zone: schema.Zone = "movable" if change.zone == "Movable" else "kernel"
            yield schema.Online(at=change.start, size=change.size, zone=zone)
    for block in after.memory.blocks:
        span = after.memory.span(block)
        if block.state == "offline" and any(came.covers(span) for came in automatic):
            yield schema.Offline(at=span.start, size=span.size)


def _online_by_hand(before: Facts, after: Facts, auto_online: OnlineType) -> Iterator[schema.Online]:
    """The blocks of resized devices that somebody put online."""
    by_hand = list(_set_by_hand(before, after, "online"))
    if auto_online == "offline":
        came = [block for block in after.memory.blocks if block.index not in before.memory.by_index]
        found = [(after.memory.span(block), block.zone) for block in came if block.state == "online"]
        by_hand += [each for each in found if told_regions(before, after).covers(*each[0])]
    for span, name in by_hand:
        yield schema.Online(at=span.start, size=span.size, zone="movable" if name == "Movable" else "kernel")


def _driver(change: PlugChange) -> schema.DriverName:
    """The driver that adds memory there: virtio-mem within the region that it claimed, else that of firmware's devices.

    Not by the name that the memory has: that is the driver's, and is to come out.
    """
    return "virtio_mem" if DEVICE.fullmatch(change.device) else "dimm"


def _of_dax(change: PlugChange) -> bool:
    """Whether memory comes and goes with a region of a dax device, which has steps of its own."""
    return REGION.fullmatch(change.device) is not None


def _blocks(span: Span, size: int) -> range:
    """The start of each memory block of a span."""
    return range(span.start, span.end, size)
