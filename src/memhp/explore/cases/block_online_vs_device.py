"""A memory block that hosts its own struct pages goes online while a device's memory gets struct pages.

Both widen the span of their node, one in ZONE_MOVABLE, the other in ZONE_DEVICE. ``mem_hotplug_lock`` keeps them apart;
until 6.7 the block's own part was done before ``online_pages()``, and with it the lock.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

SMALL_PAGES = (
    *configurations("linux-6.6", "x86_64", "arm64", page_size=4 * KiB),
    *configurations("linux-6.12", "x86_64", "arm64", page_size=4 * KiB),
)
EVERYWHERE = tuple(one for one in SMALL_PAGES if one.va_bits == 48)
"""Where a memory block of 128 MiB can host its struct pages."""


def device(k: Kernel) -> Span:
    """The bytes of the device: a section, a section above the DIMM."""
    start = near_dimm(k).end + k.config.section_size
    return Span(start, start + k.config.section_size)


def write_online(k: Kernel) -> None:
    """``echo online_movable > /sys/devices/system/memory/memoryN/state``."""
    state_store(k, near_dimm(k).start // k.memory_block_size, "online_movable")


def bind(k: Kernel) -> None:
    """The device's driver calls ``memremap_pages()``."""
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (device(k),)), 0)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline, and the device is there."""
    k = boot_near(variant.config(configuration))
    add_memory(k, 0, near_dimm(k).start, near_dimm(k).size, MHP_MEMMAP_ON_MEMORY)
    k.hw.plug(pfns(k, device(k)), Owner(Use.DEVICE, "pmem"))
    return KernelProgram(k, (write_online, bind), ("write to state", "memremap"), check=laws_hold)


SELF_HOSTED = {"memmap_on_memory": "Y", "rodata_full": False}

CASE = Case(
    name="block-online-vs-device",
    actors="a memory block with its own struct pages goes online; memremap_pages() of a device on its node",
    build=build,
    geometry="a memory block and a device of one section each",
    variants=(
        Variant(
            "pages-locked",
            "mem_hotplug_lock is taken in online_pages() only, behind mhp_init_memmap_on_memory(): before 6.7",
            "broken",
            EVERYWHERE,
            generic={"block_lock": "pages"},
            options=SELF_HOSTED,
        ),
        Variant(
            "block-locked",
            "memory_block_online() takes it around all that it does",
            "repaired",
            tuple(one for one in EVERYWHERE if one.release == "linux-6.12"),
            options=SELF_HOSTED,
        ),
    ),
)
