"""What kernels are known to leave behind when an allocation fails half-way, and what kills them: rows, and no more.

Each row names the allocation that failed, the kernels it is about, and the laws that may be broken then. The tests of
adds that fail (check/test_failed_adds.py) break each of them; random lives with failures injected anywhere break no
other.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from fnmatch import fnmatch
from typing import NamedTuple

from memhp.linux.choices import Arch
from memhp.linux.config import Config


class Leftover(NamedTuple):
    """Laws that an add or a device's mapping breaks when memory for this is missing."""

    site: str
    arches: tuple[Arch, ...]
    laws: frozenset[str]
    why: str


SECTION = "mm/sparse.c:section_activate"
STRUCT_PAGES = "mm/sparse-vmemmap.c:vmemmap_alloc_block"

STAY = "__add_pages() stops without going back, its callers unmap the whole range: sections added before keep no map"
MAPPED = "arch_add_memory() maps first, and neither it nor its callers take that back when __add_pages() fails"

RISCV: tuple[Arch, ...] = ("riscv64",)
ARM: tuple[Arch, ...] = ("arm64",)
X86: tuple[Arch, ...] = ("x86_64",)

LEFTOVERS = (
    Leftover(SECTION, RISCV + ARM, frozenset({"direct-map"}), STAY),
    Leftover(SECTION, X86, frozenset({"direct-map", "round-trip"}), MAPPED),
    Leftover(STRUCT_PAGES, RISCV + ARM, frozenset({"direct-map"}), STAY),
    Leftover(STRUCT_PAGES, X86, frozenset({"direct-map", "round-trip"}), MAPPED),
)


class Deadly(NamedTuple):
    """Kernels that do not survive that memory for this is missing."""

    site: str
    """With wildcards."""
    arches: tuple[Arch, ...]
    kernels: tuple[str, ...]
    words: str
    """What they die of."""


OLD, MIDDLE, NEW = "linux-5.13", "linux-6.12", "linux-7.2"
"""Kernels; the oldest has no memory hotplug on riscv."""

DEADLY = (
    Deadly("arch/x86/mm/init.c:alloc_low_pages", X86, (OLD, MIDDLE, NEW), "no memory for a page table"),
    Deadly("arch/riscv/mm/init.c:alloc_*_late", RISCV, (MIDDLE, NEW), "no memory for a page table"),
    Deadly("arch/arm64/mm/mmu.c:__pgd_pgtable_alloc", ARM, (OLD, MIDDLE), "no memory for a page table"),
    Deadly("drivers/base/node.c:register_node", ARM + X86, (OLD,), "no memory for the device of node"),
    Deadly("drivers/base/node.c:register_node", RISCV + ARM + X86, (MIDDLE,), "no memory for the device of node"),
    # add_memory_resource() hands arch_remove_memory() no altmap, so that it frees pages that are the device's.
    Deadly("drivers/base/memory.c:add_memory_block", ARM + X86, (OLD,), "is not all struct pages"),
)


def left_behind(config: Config, site: str | None) -> frozenset[str]:
    """The laws that may be broken after the allocation at a site failed."""
    laws = (row.laws for row in LEFTOVERS if row.site == site and config.arch in row.arches)
    return next(laws, frozenset())


def kills(config: Config, site: str | None, words: str) -> bool:
    """Whether a kernel may die with these words when the allocation at a site fails."""
    return site is not None and any(
        fnmatch(site, row.site)
        and config.arch in row.arches
        and config.profile.name in row.kernels
        and row.words in words
        for row in DEADLY
    )
