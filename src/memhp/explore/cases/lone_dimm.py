"""A DIMM whose lowest tables are its own, so that its removal frees them, and what drivers and the kernel do with it.

Tables that map boot memory as well never become empty. How far up a DIMM must stand to share none with it depends on
the page size: a table of struct pages with 4K pages and PMD leaves serves 64 GiB of memory, with 16K pages and base
pages 8 GiB, with 64K pages 512 GiB; where the vmemmap starts in the middle of one, it takes twice as much.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from functools import partial

from memhp.explore.cases.actors import pfns
from memhp.explore.doors.run import Actor
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB

LONE_AT = {4 * KiB: 128 * GiB, 16 * KiB: 16 * GiB, 64 * KiB: 1024 * GiB}
"""By page size: an address whose struct pages share no lowest table with those of boot memory."""


def boot_lone(config: Config, *, dimms: int = 1, nodes: tuple[int, ...] = (0,)) -> Kernel:
    """A machine with 1 GiB of RAM and DIMMs next to each other, a memory block each, that the kernel does not know."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),), nodes=nodes))
    for number in range(dimms):
        k.hw.plug(pfns(k, lone_dimm(k, number)), Owner(Use.DEVICE, f"dimm{number}"))
    return k


def lone_dimm(k: Kernel, number: int = 0) -> Span:
    """The bytes of a DIMM."""
    start = LONE_AT[k.config.page_size] + number * k.memory_block_size
    return Span(start, start + k.memory_block_size)


def add_lone(k: Kernel, number: int = 0, flags: int = MHP_NONE) -> None:
    """``add_memory()`` of a DIMM."""
    dimm = lone_dimm(k, number)
    add_memory(k, 0, dimm.start, dimm.size, flags)


def remove_lone(k: Kernel, number: int = 0) -> None:
    """``remove_memory()`` of a DIMM, whose block is offline."""
    dimm = lone_dimm(k, number)
    remove_memory(k, dimm.start, dimm.size)


def allocation(order: int) -> Actor:
    """Anybody's allocation of a block of pages."""
    return partial(_allocate, order)


def _allocate(order: int, k: Kernel) -> Hashable:
    owner = Owner(Use.KERNEL, "someone else")
    return tuple(alloc_pages(k, order, 0, owner=owner, where="mm/page_alloc.c:alloc_pages"))
