"""Sections of a memory block that hosts its own struct pages go one by one; those of all lie in the first.

The kernel removes such a block as a whole. What is below its check is done here section by section: by
``arch_remove_memory()``, after which the platform takes the memory.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from functools import partial

from memhp.check import check_all
from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import pfns
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.sparse import pfn_valid
from memhp.linux.mm.util import snapshot_page
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB

RAM = 64 * GiB
"""From here on x86 has memory blocks of many sections."""
READ = "mm/page_owner.c:read_page_owner"
STRUCT_PAGES = frozenset({"memmap-storage", "vmemmap", "altmaps", "frames", "one-owner", "flush-before-free"})
"""Laws that are about struct pages; others miss what removing sections alone leaves: block, resource, memblock."""


def boot_server(config: Config) -> Kernel:
    """A server with a memory block plugged right behind its RAM and added, which hosts its own struct pages."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, RAM),)))
    k.hw.plug(pfns(k, block(k)), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, block(k).start, block(k).size, MHP_MEMMAP_ON_MEMORY)
    return k


def block(k: Kernel) -> Span:
    """The bytes of the block."""
    start = -(-(k.port.ram_start + RAM) // k.memory_block_size) * k.memory_block_size
    return Span(start, start + k.memory_block_size)


def take_sections(*numbers: int) -> Actor:
    """Remove sections of the block in that order, each under ``mem_hotplug_lock``."""
    return partial(_take_sections, numbers)


def _take_sections(numbers: tuple[int, ...], k: Kernel) -> None:
    altmap = k.altmaps[block(k).start // k.memory_block_size]
    size = k.config.section_size
    for number in numbers:
        at = block(k).start + number * size
        with k.hw.locked("mem_hotplug_lock"):
            k.port.arch_remove_memory(k, at, size, altmap)
        k.hw.unplug(pfns(k, Span(at, at + size)), "platform")


def take_block(k: Kernel) -> None:
    """``remove_memory()`` of the block, then the platform takes it."""
    remove_memory(k, block(k).start, block(k).size)
    k.hw.unplug(pfns(k, block(k)), "platform")


def read_struct_page(section: int) -> Actor:
    """Look at the last struct page of a section, if there is one, with hotplug kept out meanwhile.

    ``read_page_owner()`` asks ``pfn_valid()`` likewise, but keeps nobody out; that is another race.
    """
    return partial(_read_struct_page, section)


def _read_struct_page(section: int, k: Kernel) -> Hashable:
    pfn = pfns(k, Span(block(k).start, block(k).start + (section + 1) * k.config.section_size)).end - 1
    with k.hw.locked("mem_hotplug_lock", write=False):
        if not pfn_valid(k, pfn):
            return "no page"
        snapshot_page(k, pfn, READ)
        return "read"


def struct_pages_whole(k: Kernel) -> str | None:
    """The first law about struct pages that does not hold when all is done."""
    return next((f"{each.law}: {each.text}" for each in check_all(k) if each.law in STRUCT_PAGES), None)


SECTIONS: dict[str, Callable[[Kernel], Actor]] = {
    "head-first": lambda k: take_sections(0, 1),
    "tail-first": lambda k: take_sections(1, 0),
    "whole-block": lambda k: take_block,
}
"""By variant: who removes."""


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The block is in and offline; it goes while somebody looks at a struct page of its second section."""
    k = boot_server(variant.config(configuration))
    if variant.name != "whole-block":
        _take_sections(tuple(range(k.memory_block_size // k.config.section_size - 1, 1, -1)), k)
    actors = (SECTIONS[variant.name](k), read_struct_page(1))
    return KernelProgram(k, actors, ("removal", "pfn walker"), check=struct_pages_whole)


SERVERS = (*configurations("linux-5.13", "x86_64"), *mainline("x86_64"))
SELF_HOSTED = {"memmap_on_memory": "Y", "gbpages": False, "hypervisor": False}

CASE = Case(
    name="memmap-first-section",
    actors="removal of one block of many sections, whose first holds the struct pages of all; who looks at one of them",
    build=build,
    geometry="x86 with 64 GiB has blocks of many sections; but for whole-block, the last 14 of 16 are gone already",
    variants=(
        Variant(
            "head-first",
            "the first section goes before the others: no kernel does so",
            "broken",
            SERVERS,
            of_kernel=False,
            options=SELF_HOSTED,
        ),
        Variant(
            "whole-block",
            "the block goes at once: kernels of today",
            "repaired",
            tuple(one for one in SERVERS if one.va_bits == 48),
            options=SELF_HOSTED,
        ),
        Variant(
            "tail-first",
            "from the last section to the first: no kernel does so either",
            "repaired",
            SERVERS,
            of_kernel=False,
            options=SELF_HOSTED,
        ),
    ),
)
