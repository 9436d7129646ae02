"""How a guest in QEMU gets a served device: memory that the guest does not know of yet, and the line to the device.

QEMU's generic vhost-user device brings no memory. The guest has all of it, the device's region too, from the start;
the kernel is told to use what lies below the region only (``mem=``), until the device's driver adds blocks of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, replace
from pathlib import Path

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem_wire import CONFIG, VIRTIO_ID_MEM
from memhp.target.guest.qemu import GuestSpec
from memhp.units import GiB, MiB, align_up

DEVICE = f"vhost-user-test-device-pci,virtio-id={VIRTIO_ID_MEM},num_vqs=1,config_size={CONFIG.size}"
"""QEMU's device for back ends that it knows nothing of (QEMU 11; ``vhost-user-device-pci`` before)."""
ALIGNMENT = 128 * MiB
"""What the region of a device is aligned to: a memory block of a kernel with 4K pages and not much memory."""


@dataclass(frozen=True)
class Room:
    """Where an architecture's machine in QEMU has RAM."""

    base: int
    """Where it begins: bytes."""
    limit: str
    """What the kernel is told, with the end of its own RAM in MiB."""
    region: int | None = None
    """Where RAM goes on above a hole; None if there is none."""
    machine: str | None = None
    """What moves the hole to the end of the kernel's own RAM, in MiB."""
    above: int = 0
    """RAM that must be left above the region, where QEMU keeps the device tree."""


ROOMS = {
    "x86_64": Room(0, "mem={region}M", 4 * GiB, "max-ram-below-4g={own}M"),
    "arm64": Room(1 * GiB, "mem={own}M"),
    "riscv64": Room(2 * GiB, "mem={own}M", above=ALIGNMENT),
}
"""Each architecture whose guests can have a served device."""


def region_at(arch: str, memory: int) -> int:
    """Where a served device's region begins in a guest with `memory` bytes of its own. Raises :class:`BadInput`."""
    room = _room(arch)
    if room.region is not None:
        return room.region
    return align_up(room.base + memory, ALIGNMENT)


def _room(arch: str) -> Room:
    if arch not in ROOMS:
        raise BadInput(f"no device is served to a guest of {arch}", where="--kernel", fix=f"one of {', '.join(ROOMS)}")
    return ROOMS[arch]


def attached(spec: GuestSpec, name: str, socket: Path, size: int) -> GuestSpec:
    """A guest that has the device served at `socket`, of `size` bytes, beside its own RAM. Raises :class:`BadInput`."""
    if len(spec.nodes) != 1:
        raise BadInput("a served device wants one node of RAM", where="memory")
    (own,) = spec.nodes
    arch = spec.kernel.arch
    machine = _machine(arch, own)
    return replace(
        spec,
        nodes=(_total(arch, own, size),),
        append=f"{spec.append} {_limit(arch, own)}".strip(),
        extra=(*spec.extra, *machine, *_line(name, socket)),
    )


def qemu_options(arch: str, own: int, size: int, socket: Path) -> list[str]:
    """What to add to a command line of QEMU that starts a guest of its own: its memory is to be shared."""
    total = _total(arch, own, size) // MiB
    memory = ["-m", f"{total}M", "-object", f"memory-backend-memfd,id=ram,size={total}M,share=on"]
    return [
        *memory,
        "-numa",
        "node,memdev=ram",
        *_machine(arch, own),
        *_line("vm0", socket),
        "-append",
        _limit(arch, own),
    ]


def _total(arch: str, own: int, size: int) -> int:
    """All RAM of the machine: the kernel's own, what lies between, and the device's region."""
    room = _room(arch)
    return size + room.above + (own if room.region is not None else region_at(arch, own) - room.base)


def _limit(arch: str, own: int) -> str:
    return _room(arch).limit.format(own=own // MiB, region=region_at(arch, own) // MiB)


def _machine(arch: str, own: int) -> tuple[str, ...]:
    words = _room(arch).machine
    return () if words is None else ("-machine", words.format(own=own // MiB))


def _line(name: str, socket: Path) -> tuple[str, ...]:
    return "-chardev", f"socket,id={name}-line,path={socket}", "-device", f"{DEVICE},id={name},chardev={name}-line"
