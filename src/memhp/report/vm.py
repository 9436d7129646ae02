"""A virtual machine's memory, a rehearsed change and what came of it, in lines of text."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence

from memhp.printable import printable
from memhp.report.changes import changes
from memhp.target.vm import VmDevice, VmStatus
from memhp.target.vm_agent import GuestBlock
from memhp.target.vm_rehearse import Rehearsed
from memhp.target.vm_resize import Change
from memhp.units import exact_size, format_count

TOLD = ("blocks", "memory", "memmap")
"""What is told of a rehearsed change, by the names of :func:`memhp.report.changes.changes`."""


def status_lines(status: VmStatus) -> Iterator[str]:
    """What there is, device by device, and what there is room for."""
    yield f"{status.name}: {status.state}, {status.monitor}{', ' + status.arch if status.arch else ''}"
    room = f" of {exact_size(status.most)}" if status.most else ""
    yield f"  memory {exact_size(status.size)}{room}, {exact_size(status.base)} of it from the start"
    for device in status.devices:
        yield f"  {device_line(device)}"
    if status.slots is not None:
        taken = sum(device.kind in ("dimm", "nvdimm") for device in status.devices)
        yield f"  {status.slots - taken} of {status.slots} slots free"


def device_line(device: VmDevice) -> str:
    """``vm0: virtio-mem at 0x100000000, node 0: 512 MiB of 4 GiB, 1 GiB requested, in blocks of 2 MiB``."""
    at = f" at {device.at:#x}" if device.at is not None else ""
    node = f", node {device.node}" if device.node is not None else ""
    line = f"{device.id}: {device.kind}{at}{node}: {exact_size(device.size)}"
    if device.most is not None:
        line += f" of {exact_size(device.most)}"
    if device.requested is not None and device.requested != device.size:
        line += f", {exact_size(device.requested)} requested"
    return line + (f", in blocks of {exact_size(device.block_size)}" if device.block_size else "")


def rehearsal_lines(found: Rehearsed) -> Iterator[str]:
    """How it went on the model, and on what that rests."""
    step = found.step
    yield f"{'✓' if found.ok else '✗'} rehearsed: {step.title}"
    if step.outcome.result != "ok":
        place = f" ({step.outcome.place})" if step.outcome.place else ""
        yield f"    {step.outcome.result}: {step.outcome.reason}{place}"
        if step.outcome.advice:
            yield f"    {step.outcome.advice}"
    yield from (f"    {name}: {text}" for name, text in changes(step) if name in TOLD)
    yield from (f"    {note}" for note in step.notes)
    yield from (f"    law broken: {breach.text}" for breach in step.breaches)
    yield from (f"    assumed: {each}" for each in found.assumed)


def change_lines(change: Change) -> Iterator[str]:
    """What came of a change."""
    sign = {"reached": "✓", "requested": "·"}.get(change.ended, "✗")
    was, wanted, now = (exact_size(size) for size in (change.before, change.wanted, change.now))
    if change.ended == "requested":
        yield f"{sign} {change.device}: {was}, {wanted} requested; {change.why or 'nobody waited for it (--wait)'}"
    elif change.ended == "reached":
        yield f"{sign} {change.device}: {was} → {now} in {change.seconds:.1f} s"
    elif change.rolled_back:
        yield f"{sign} {change.device}: {wanted} was not reached in {change.seconds:.1f} s; rolled back, now {now}"
    else:
        yield f"{sign} {change.device}: {change.ended} at {now}, {wanted} wanted, after {change.seconds:.1f} s"
    if change.why and change.ended != "requested":
        yield f"    because: {printable(change.why)}"


def block_lines(size: int, blocks: Sequence[GuestBlock]) -> Iterator[str]:
    """Runs of like memory blocks: ``memory0-63: 8 GiB online``."""
    yield f"{format_count(len(blocks), 'memory block')} of {exact_size(size)}"
    runs: list[list[GuestBlock]] = []
    for block in blocks:
        if runs and _follows(runs[-1][-1], block):
            runs[-1].append(block)
        else:
            runs.append([block])
    for run in runs:
        first, last = run[0], run[-1]
        name = f"memory{first.number}" + (f"-{last.number}" if last is not first else "")
        removable = {True: ", may go offline", False: ", cannot go offline", None: ""}
        state = f"online{removable[first.can_offline]}" if first.online else "offline"
        yield f"  {name}: {exact_size(size * len(run))} {state}"


def _follows(before: GuestBlock, block: GuestBlock) -> bool:
    same = (before.online, before.can_offline) == (block.online, block.can_offline)
    return same and before.number + 1 == block.number
