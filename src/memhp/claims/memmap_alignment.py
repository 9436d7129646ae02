"""Hocko's question: can what is left of a memory block be misaligned when its struct pages fill whole PMDs?

Every combination of sizes that a kernel can be built with is tried, whichever of them anybody uses.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from memhp.claims.claim import Finding, answered
from memhp.linux.arch.registry import port
from memhp.linux.choices import MemmapOnMemory
from memhp.linux.drivers.base.block_size import MAX_BLOCK_SIZE
from memhp.linux.mm.memory_hotplug_memmap import MemmapGeometry
from memhp.linux.profiles import MAINLINE
from memhp.units import KiB, MiB, exact_size, is_aligned

SECTIONS = {4 * KiB: 128 * MiB, 16 * KiB: 128 * MiB, 64 * KiB: 512 * MiB}
"""Section sizes by page size; memory blocks are one or more of them, up to 2 GiB."""

STRUCT_PAGES = (56, 64, 80)
"""Bytes of ``struct page``: without memory cgroups, ordinarily, with a memory error detector's shadow pointers."""

RULES: tuple[tuple[MemmapOnMemory, bool], ...] = (("one-block", False), ("many-blocks", False), ("many-blocks", True))
"""5.13's conditions, today's, and today's with ``force``."""


class Case(NamedTuple):
    """One point of the space."""

    numbers: MemmapGeometry
    rules: MemmapOnMemory
    huge_pages: bool
    """Whether pageblocks are at most a PMD, as in kernels built with huge pages."""

    @property
    def misaligned(self) -> bool:
        """Whether struct pages fill whole PMDs, and what they leave is not whole pageblocks."""
        numbers = self.numbers
        pageblock = numbers.pageblock_nr_pages * numbers.page_size
        return is_aligned(numbers.vmemmap_size, numbers.pmd_size) and not is_aligned(numbers.remaining_size, pageblock)

    @property
    def accepted(self) -> bool:
        """Whether the kernel says yes all the same."""
        return not any(each.unmet for each in self.numbers.conditions(self.rules))


def cases() -> Iterator[Case]:
    """The whole space: page, PMD, pageblock, memory block and struct page sizes, under each set of rules.

    Pageblocks have any order up to that of a PMD and the buddy's largest, as ``PAGE_BLOCK_MAX_ORDER`` allows, and the
    buddy's largest where no huge pages are built (include/linux/pageblock-flags.h).
    """
    for page_size, struct_page_size, (rules, force) in product(SECTIONS, STRUCT_PAGES, RULES):
        pmd_order = (page_size // 8).bit_length() - 1
        for order in range(1, port("arm64").max_page_order[page_size] + 1):
            block_size = SECTIONS[page_size]
            while block_size <= MAX_BLOCK_SIZE:
                numbers = MemmapGeometry(
                    page_size, page_size << pmd_order, 1 << order, block_size, struct_page_size, force
                )
                yield Case(numbers, rules, order <= pmd_order)
                block_size *= 2


def remaining_size() -> Finding:
    """mom-6: search the whole space for a rest that is misaligned."""
    searched = list(cases())
    found = [case for case in searched if case.misaligned]
    built = [case for case in found if case.huge_pages]
    accepted = [case for case in found if case.accepted and not case.numbers.force]
    parts = [f"{len(searched)} configurations searched: {len(built)} with pageblocks of at most a PMD"]
    parts.append(f"{len(found) - len(built)} with larger ones, as kernels without huge pages have")
    if found:
        usual_first = sorted(found, key=lambda case: abs(case.numbers.struct_page_size - 64))
        parts[-1] += f": {'; '.join(dict.fromkeys(map(_witness, usual_first)))}"
    parts.append(f"the separate check is what refuses them: {len(accepted)} get by it (force rounds up instead)")
    possible = found and not built and not accepted
    return answered(("linux-5.13", *MAINLINE), bool(possible), "; ".join(parts))


def _witness(case: Case) -> str:
    numbers = case.numbers
    pageblock = numbers.pageblock_nr_pages * numbers.page_size
    return (
        f"{exact_size(numbers.page_size)} pages, {exact_size(numbers.block_size)} blocks: struct pages of "
        f"{numbers.struct_page_size} bytes take {exact_size(numbers.vmemmap_size)}, and "
        f"{exact_size(numbers.remaining_size)} are not whole pageblocks of {exact_size(pageblock)}"
    )
