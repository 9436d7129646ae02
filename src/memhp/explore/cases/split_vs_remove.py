"""A page of the direct map changes, for which the large leaf above it is split; part of what the leaf maps is removed.

Both work in one leaf, or in one contiguous run of leaves: its first memory block is removed, and a page of its second
block gets its ordinary attributes, as when secret memory is freed. Who removes part of a leaf takes all of it away, or
walks into what is no table; nobody splits it before.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from functools import partial

from memhp.errors import KernelError
from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.drivers.base.memory_state import device_offline, device_online
from memhp.linux.drivers.base.notify import Chains, memory_notify
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_valid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, align_up

LAST_BLOCK = "split-refused-last-block"
DIMM_VARIANTS = ("partial-removal", "split-refused", LAST_BLOCK)
"""Variants in which the leaf is that of a DIMM; in the others it maps boot memory."""
DIMM_AT = 8 * GiB


LEAF = GiB
"""Bytes of the largest leaf of the direct map, a PUD leaf, or of a contiguous run of PMD leaves (arm64, 16K pages)."""


def remove_part(start: int, k: Kernel) -> None:
    """A block is asked to go offline, and is removed: ``offline_and_remove_memory()``.

    Of offlining, only what the notifiers are asked is left. Raises EPERM where one refuses.
    """
    block = pfns(k, Span(start, start + k.memory_block_size))
    with k.hw.locked("mem_hotplug_lock"):
        refusal = memory_notify(k, "MEM_GOING_OFFLINE", block.start, block.size)
        if refusal:
            raise KernelError(refusal.errno, refusal.reason, place="mm/memory_hotplug.c:offline_pages")
    remove_memory(k, start, k.memory_block_size)


def change_page(pfn: int, k: Kernel) -> None:
    """A page gets its ordinary attributes: ``secretmem_free_folio()``. On arm64 a run of pages, as ``execmem`` does."""
    if k.config.arch == "arm64":
        set_direct_map_valid_noflush(k, pfn, run_of_pages(k), valid=True)
    else:
        set_direct_map_default_noflush(k, pfn)


def run_of_pages(k: Kernel) -> int:
    """Pages of a contiguous run of PMD leaves, or of one PMD leaf where such a run is larger than a memory block."""
    leaf = k.hw.fmt.levels[1]
    return (leaf.size * leaf.cont if leaf.size * leaf.cont <= k.memory_block_size else leaf.size) >> k.config.page_shift


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The leaf is there; of two of its blocks one is offline, and that is yet to be asked for, the other in use."""
    config = variant.config(configuration)
    start = config.port.ram_start
    k = start_kernel(MachineSpec("explored", config, (Ram(start, 3 * GiB),)))
    first = DIMM_AT if variant.name in DIMM_VARIANTS else align_up(start + 1, LEAF)
    leaf, size = Span(first, first + LEAF), k.memory_block_size
    gone, used = (leaf.end - size, leaf.start) if variant.name == LAST_BLOCK else (leaf.start, leaf.start + size)
    if variant.name in DIMM_VARIANTS:
        k.hw.plug(pfns(k, leaf), Owner(Use.DEVICE, "dimm"))
        add_memory(k, 0, leaf.start, leaf.size, MHP_NONE)
        device_online(k, used // size, "online")
    else:
        notifiers, k.statics(Chains).memory = k.statics(Chains).memory, []
        device_offline(k, gone // size)
        k.statics(Chains).memory = notifiers
    pfn = used >> config.page_shift
    count = run_of_pages(k) if config.arch == "arm64" else 1
    take_pages_off_buddy(k, Span(pfn, pfn + count), Owner(Use.KERNEL, "in use"), "mm/secretmem.c:secretmem_fault")
    actors = (partial(remove_part, gone), partial(change_page, pfn))
    names = ("hot-remove", "set_direct_map")
    if variant.name == LAST_BLOCK:  # what goes wrong begins with the split
        actors, names = actors[::-1], names[::-1]
    return KernelProgram(k, actors, names, check=laws_hold)


ARM64 = tuple(one for one in configurations("linux-7.2", "arm64") if one.page_size != 64 * KiB)
"""Where live leaves are split. With 64K pages a PMD leaf is a memory block, and runs of them do not fit the start of
RAM."""
NEVER_MEET = "offlining is refused before it reads any page table: the two never meet"


def _mainline(arch: Arch, *widths: int) -> tuple[Configuration, ...]:
    return tuple(one for one in mainline(arch) if one.va_bits in widths)


BBML2 = {"bbml2": True}

CASE = Case(
    name="split-vs-remove",
    actors="set_direct_map splitting a large leaf; partial hot-remove of the range under it",
    build=build,
    geometry=(
        "the block's pages are isolated and offline before the race, only the notifiers are asked during it; "
        "with 16K pages split-refused only for the last block: that of the first has too many orders"
    ),
    variants=(
        Variant(
            "boot-memory-removable",
            "boot memory may go offline and be removed block by block (arm64 before the notifier)",
            "broken",
            ARM64,
            {"bootmem_remove": "unchecked"},
            options=BBML2,
        ),
        Variant(
            "riscv-as-it-is",
            "boot memory may be removed, and its leaves are larger than a memory block",
            "broken",
            _mainline("riscv64", 48, 57),
            finding="On riscv64 and x86-64 nothing keeps part of a boot leaf from being removed",
        ),
        Variant(
            "x86-as-it-is",
            "boot memory may be removed, and its leaves are larger than a memory block",
            "broken",
            _mainline("x86_64", 48, 57),
            finding="On riscv64 and x86-64 nothing keeps part of a boot leaf from being removed",
        ),
        Variant(
            "partial-removal",
            "boot memory stays, but a DIMM may be removed block by block",
            "broken",
            ARM64,
            {"bootmem_remove": "notifier"},
            options=BBML2,
        ),
        Variant(
            "bootmem-notifier",
            "boot memory may not go offline (prevent_bootmem_remove_notifier)",
            "repaired",
            tuple(replace(one, note=NEVER_MEET) for one in ARM64),
            {"bootmem_remove": "notifier"},
            options=BBML2,
        ),
        Variant(
            "split-refused",
            "no range goes offline whose edges lie within a leaf (can_unmap_without_split of 7.2)",
            "repaired",
            tuple(one for one in ARM64 if one.page_size == 4 * KiB),
            options=BBML2,
        ),
        Variant(
            LAST_BLOCK,
            "the same; what goes offline is the last memory block of a run of leaves that is losing its hint",
            "repaired",
            tuple(one for one in ARM64 if one.page_size == 16 * KiB),
            options=BBML2,
            finding="A run of leaves that is being split may lose its last memory block",
        ),
    ),
)
