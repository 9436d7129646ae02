"""A small machine with a DIMM right behind its RAM: they share their lowest tables, so that removal empties none.

That keeps executions short where tables are not what a race is about: an emptied table is read to its end first.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.cases.actors import pfns
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB, align_up

NEAR_RAM = 512 * MiB


def boot_near(config: Config, *, tag: str = "dimm", nodes: tuple[int, ...] = (0,)) -> Kernel:
    """A machine with 512 MiB of RAM and a memory block's worth behind it that the kernel does not know yet."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, NEAR_RAM),), nodes=nodes))
    k.hw.plug(pfns(k, near_dimm(k)), Owner(Use.DEVICE, tag))
    return k


def near_dimm(k: Kernel) -> Span:
    """The bytes of the DIMM: one memory block."""
    start = align_up(k.port.ram_start + NEAR_RAM, k.memory_block_size)
    return Span(start, start + k.memory_block_size)


def add_near(k: Kernel, nid: int = 0) -> None:
    """``add_memory()`` of the DIMM."""
    add_memory(k, nid, near_dimm(k).start, near_dimm(k).size, MHP_NONE)


def remove_near(k: Kernel) -> None:
    """``remove_memory()`` of the DIMM, whose block is offline."""
    remove_memory(k, near_dimm(k).start, near_dimm(k).size)
