"""A leaf of the direct map is split while other CPUs read what it maps, or page tables are dumped.

Nobody asks before it reads memory: the CPU walks kernel page tables as it needs to, and the dump takes no lock that
whoever splits takes on arm64 and x86-64. The new table maps what the leaf did, so that it does not matter which of the
two they find, as long as they find one. By arm64's architecture an entry that is live may not be replaced by another
kind at once, but only after it was invalid and flushed (break before make), unless the CPU has BBML2: for what others
use that is no way, so kernels before 6.18 do not split there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import NEAR_RAM, boot_near
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.mm.pgd import INIT_MM
from memhp.linux.mm.ptdump import ptdump_walk_pgd
from memhp.linux.place import here, kernel_function
from memhp.linux.set_memory import set_direct_map_default_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

BREAK, DUMPED = "break-before-make", ("ptdump", "ptdump-bbml2")


def pages(k: Kernel) -> Span:
    """Two pages of boot memory in the middle of a leaf."""
    start = (k.port.ram_start + NEAR_RAM // 2) >> k.config.page_shift
    return Span(start, start + 2)


def change_page(k: Kernel) -> None:
    """The first page gets its ordinary attributes, for which the leaf above it is split."""
    set_direct_map_default_noflush(k, pages(k).start)


@kernel_function("arch/arm64/mm/mmu.c:split_kernel_leaf_mapping_locked")
def split_by_break_before_make(k: Kernel) -> None:
    """The leaf above the first page goes, then the table that maps the same comes."""
    hw, table = k.hw, k.init_mm
    va = k.layout.phys_to_virt(pages(k).start << k.config.page_shift)
    while not hw.fmt.is_leaf(entry := hw.load(table, hw.fmt.index(va, table.height)), table.height):
        table = hw.child(table, hw.fmt.index(va, table.height), hw.fmt.table_pfn(entry))
    _replace(k, table, hw.fmt.index(va, table.height), entry)


def _replace(k: Kernel, table: Table, index: int, entry: int) -> None:
    hw, fmt, height = k.hw, k.hw.fmt, table.height
    (frame,) = alloc_tables(k, height - 1, 1, here())
    hw.fill_children(table, [frame], fmt.leaf_pfn(entry, height), fmt.attributes(entry, height))
    start = table.va + index * fmt.levels[height].size
    hw.ledger.tables_allocated[height - 1] += 1
    hw.store(table, index, 0, here())
    k.port.flush_tlb_kernel_range(k, Span(start, start + fmt.levels[height].size))
    hw.store(table, index, fmt.encode_pfn(frame.start) | k.config.format.table_bits, here())


def read_page(k: Kernel) -> Hashable:
    """Somebody reads what lies in the second page: a CPU's own walk of the tables."""
    return k.port.kernel_access(k, INIT_MM, k.layout.phys_to_virt(pages(k).start + 1 << k.config.page_shift))


def dump(k: Kernel) -> Hashable:
    """``cat /sys/kernel/debug/kernel_page_tables``, as far as the two pages: how many entries were shown."""
    start, end = (k.layout.phys_to_virt(pfn << k.config.page_shift) for pfn in pages(k))
    return ptdump_walk_pgd(k, Span(start, end))


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The two pages are in use; the first one is secret memory's until now."""
    k = boot_near(variant.config(configuration))
    take_pages_off_buddy(k, pages(k), Owner(Use.KERNEL, "in use"), "mm/secretmem.c:secretmem_fault")
    change = split_by_break_before_make if variant.name == BREAK else change_page
    other = (dump, "ptdump") if variant.name in DUMPED else (read_page, "reader")
    return KernelProgram(k, (change, other[0]), ("set_direct_map", other[1]), check=laws_hold)


LEAVES = tuple(one for one in mainline("riscv64", "x86_64") if one.va_bits == 48)
ARM64 = configurations("linux-7.2", "arm64", page_size=4 * KiB)
BBML2 = {"bbml2": True}

CASE = Case(
    name="split-vs-walk",
    actors="set_direct_map splits a leaf; a CPU reads what the leaf maps, or page tables are dumped",
    build=build,
    geometry="one page changes, the next one is read; the dump shows the one that changes",
    variants=(
        Variant(
            BREAK,
            "the leaf is invalid and flushed before the table is there, as arm64 without BBML2 would have to do it",
            "broken",
            ARM64,
            options=BBML2,
            of_kernel=False,
        ),
        Variant(
            "bbml2",
            "the table is filled, then takes the leaf's place, on a CPU that bears that",
            "repaired",
            ARM64,
            options=BBML2,
        ),
        Variant(DUMPED[1], "the same, while page tables are dumped", "repaired", ARM64, options=BBML2),
        Variant("in-place", "the table is filled, then takes the leaf's place", "repaired", LEAVES),
        Variant(DUMPED[0], "the same, while page tables are dumped", "repaired", LEAVES),
    ),
)
