"""How a guest in QEMU gets a served device: memory that the guest does not know of yet, and the line to the device.

QEMU's generic vhost-user device brings no memory. The guest has all of it, the device's region too, from the start;
the kernel is told to use what lies below the region only (``mem=``), until the device's driver adds blocks of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem_wire import CONFIG, VIRTIO_ID_MEM
from memhp.linux.arch.registry import port
from memhp.target.guest.machines import MACHINES, Served
from memhp.target.guest.qemu import GuestSpec
from memhp.units import MiB, align_up

DEVICE = f"vhost-user-test-device-pci,virtio-id={VIRTIO_ID_MEM},num_vqs=1,config_size={CONFIG.size}"
"""QEMU's device for back ends that it knows nothing of (QEMU 11; ``vhost-user-device-pci`` before)."""
ALIGNMENT = 128 * MiB
"""What the region of a device is aligned to: a memory block of a kernel with 4K pages and not much memory."""


def region_at(arch: str, memory: int, *, where: str = "--kernel") -> int:
    """Where a served device's region begins in a guest with `memory` bytes of its own. Raises :class:`BadInput`."""
    served = _served(arch, where)
    if served.region is not None:
        return served.region
    return align_up(port(arch).ram_start + memory, ALIGNMENT)


def _served(arch: str, where: str = "--kernel") -> Served:
    served = MACHINES[arch].served if arch in MACHINES else None
    if served is None:
        can = ", ".join(name for name, row in MACHINES.items() if row.served is not None)
        raise BadInput(f"no device is served to a guest of {arch}", where=where, fix=f"one of {can}")
    return served


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
    served = _served(arch)
    below = own if served.region is not None else region_at(arch, own) - port(arch).ram_start
    return size + served.above + below


def _limit(arch: str, own: int) -> str:
    """What ends the kernel's RAM where the region begins, or where a hole before it does."""
    return f"mem={(region_at(arch, own) if port(arch).mem_is_an_end else own) // MiB}M"


def _machine(arch: str, own: int) -> tuple[str, ...]:
    words = _served(arch).machine
    return () if words is None else ("-machine", words.format(own=own // MiB))


def _line(name: str, socket: Path) -> tuple[str, ...]:
    return "-chardev", f"socket,id={name}-line,path={socket}", "-device", f"{DEVICE},id={name},chardev={name}-line"
