"""Modelled machines for tests of the laws: booted, grown by a DIMM, with a block of it online and one offline."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Literal

from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.profiles import Arch, profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

RAM_START: dict[Arch, int] = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": 0x100000, "loongarch64": 2 * GiB}
VA_BITS: dict[Arch, int] = {"riscv64": 39, "arm64": 48, "x86_64": 48, "loongarch64": 48}
HOTPLUG_AT = 8 * GiB


def config(name: Arch, release: str = "linux-6.12", *, memmap_on_memory: Literal["N", "Y"] = "N") -> Config:
    """A kernel with 4K pages."""
    return Config(
        arch=name,
        profile=profile(release),
        page_size=4 * KiB,
        va_bits=VA_BITS[name],
        memmap_on_memory=memmap_on_memory,
    ).validate()


def booted(kernel: Config, memory: int = GiB) -> Kernel:
    """A machine with `memory` bytes of RAM, two CPUs and one node, just booted."""
    return start_kernel(MachineSpec("vm", kernel, (Ram(RAM_START[kernel.arch], memory),), reserved=16 * MiB))


def frames(k: Kernel, start: int, size: int) -> Span:
    """Bytes as PFNs."""
    return Span(start >> k.config.page_shift, (start + size) >> k.config.page_shift)


def plug(k: Kernel, blocks: int, at: int = HOTPLUG_AT) -> Span:
    """Plug memory blocks at physical address `at` and add them, offline: their PFNs."""
    size = blocks * k.memory_block_size
    span = frames(k, at, size)
    k.hw.plug(span, Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, at, size, MHP_MEMMAP_ON_MEMORY if k.config.memmap_on_memory != "N" else MHP_NONE)
    return span


def online(k: Kernel, block: int, how: str = "online_movable") -> None:
    """Write a state into a memory block's file."""
    state_store(k, block, how)


def unplug(k: Kernel, span: Span) -> None:
    """Offline and remove memory, and take the device out."""
    shift = k.config.page_shift
    offline_and_remove_memory(k, span.start << shift, span.size << shift)
    k.hw.unplug(span, "platform")


def grown(kernel: Config) -> Kernel:
    """A machine to which two blocks were added: the first is online in Movable, the second offline."""
    k = booted(kernel)
    span = plug(k, 2)
    online(k, k.block_id(span.start))
    return k


def with_process(k: Kernel, name: str = "init") -> Kernel:
    """The same machine with a process."""
    k.port.copy_pgd(k, name)
    return k


def without_choice(kernel: Config, **changed: object) -> Config:
    """The same kernel with other choices of its architecture's record."""
    return replace(kernel, profile=kernel.profile.choosing(kernel.arch, changed))
