"""Hot-remove frees struct pages and tables; somebody allocates them while a TLB or walk cache still reaches them.

What hardware holds is never loaded by an actor: any CPU may have any valid entry at any time, a leaf in its TLB or a
pointer to a table in its walk cache, until a flush that covers the entry has reached it. The law ``flush-before-free``
is broken when a frame is handed to somebody new before that. It does not say that anybody uses the old translation.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.lone_dimm import add_lone, allocation, boot_lone, remove_lone
from memhp.explore.doors.run import KernelProgram
from memhp.linux.choices import Arch

FINDING = "riscv64 and x86-64 give frames back before the flush that covers them"
"""The heading in docs/findings.md."""
SV39 = "the tables that root entries point to stay for good, so none is freed: walk caches hold nothing that goes"


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while others allocate.

    One takes a page, as large as a table; one takes a block as large as the struct pages behind a PMD leaf, where the
    kernel maps them so (single pages that are freed make no such block before the last of them is).
    """
    k = boot_lone(variant.config(configuration))
    add_lone(k)
    actors, names = [remove_lone, allocation(0)], ["hot-remove", "allocation of a page"]
    if k.config.vmemmap_huge:
        actors.append(allocation(k.config.format.levels[1].shift - k.config.page_shift))
        names.append("allocation of a block")
    return KernelProgram(k, tuple(actors), tuple(names), check=laws_hold)


def _mainline(arch: Arch) -> tuple[Configuration, ...]:
    return mainline(arch)


ONE_DESCENT = configurations("linux-6.12", "riscv64", "x86_64")
"""Where leaves and tables go in one descent, with one flush at the end."""


CASE = Case(
    name="free-before-flush",
    actors="hot-remove; any CPU's TLB and walk cache, and who is handed what was freed",
    build=build,
    geometry="one memory block; the lowest tables of its direct map or of its struct pages are its own",
    variants=(
        Variant(
            "riscv-posted",
            "as posted in May 2023: storage and tables are freed as they are met, one flush at the end",
            "broken",
            tuple(one for one in configurations("riscv-hotplug-v1") if one.va_bits == 57),
        ),
        Variant(
            "riscv-order",
            "storage is freed behind its cleared entry, tables before theirs is cleared, one flush at the end",
            "broken",
            _mainline("riscv64"),
            finding=FINDING,
        ),
        Variant(
            "x86-order",
            "storage and tables are freed before their entries are cleared, one flush at the end",
            "repaired",
            _mainline("x86_64"),
            finding=FINDING,
        ),
        Variant(
            "tables-early",
            "storage is kept until after the flush, emptied tables are not: the walk cache alone",
            "broken",
            tuple(replace(one, note=SV39) if one.va_bits == 39 else one for one in ONE_DESCENT),
            {"storage_freed": "after-flush"},
        ),
        Variant(
            "storage-early",
            "emptied tables are kept until after the flush, storage is not: the TLB alone",
            "broken",
            ONE_DESCENT,
            {"table_freed": "after-flush"},
        ),
        Variant(
            "flush-then-free",
            "entries are cleared, one flush, then all is freed, as mmu_gather does for user mappings",
            "repaired",
            ONE_DESCENT,
            {"storage_freed": "after-flush", "table_freed": "after-flush"},
        ),
        Variant(
            "flush-each",
            "each entry is cleared and flushed before what it led to is freed, in one descent",
            "repaired",
            ONE_DESCENT,
            {"storage_freed": "after-flush", "table_freed": "after-flush", "leaf_flush": "each-range"},
        ),
        Variant(
            "arm64-order",
            "each entry is cleared and flushed before what it led to is freed, tables in a second descent",
            "repaired",
            _mainline("arm64"),
            options={"rodata_full": False},
        ),
    ),
)
