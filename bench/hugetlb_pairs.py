"""Pairs of kernel paths that meet at huge pages of hugetlbfs, for bench/locks.py: no race has such pages.

One huge page is in use, and two are free in the pool, unless the pair's names say otherwise: `starved`, where no free
memory is left.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial

from lock_pairs import RISCV
from memhp.explore.case import Variant
from memhp.explore.cases.actors import boot, laws_hold, refused
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.alloc_contig import replace_free_hugepage_folios
from memhp.linux.mm.hugetlb import FROZEN, add_huge_pages, dissolve_free_hugetlb_folios
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.migrate import do_migrate_range
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.users import allocate, free
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span

FRESH = "mm/hugetlb.c:only_alloc_fresh_hugetlb_folio"
PAIRS = (
    ("dissolve", "dissolve"), ("dissolve", "failure"), ("dissolve", "replace"), ("failure", "replace"),
    ("move", "dissolve"), ("move", "failure-in-use"), ("move", "move"), ("move-starved", "failure-in-use-starved"),
    ("failure", "offline"), ("use", "dissolve"), ("use", "move"), ("use", "use-next"),
)  # fmt: skip


@cache
def machine(starved: bool) -> tuple[Kernel, Span, list[Span]]:
    """The machine, the huge page in use, and those of the pool, of which there are none where memory is short."""
    newest = {"poison_pcp_lock": profile("7.2").poison_pcp_lock}
    k = boot(Variant("as it is", "", "repaired", (RISCV,), generic=newest).config(RISCV))
    order = k.config.format.levels[1].shift - k.config.page_shift

    def huge(use: Use, count: int) -> list[Span]:
        got = alloc_pages(k, order, 0, count=count, movable=True, owner=FROZEN, where=FRESH)
        add_huge_pages(k, got, Owner(use))
        return [Span(at, at + (1 << order)) for span in got for at in range(span.start, span.end, 1 << order)]

    (used,) = huge(Use.HUGETLB, 1)
    free = [] if starved else huge(Use.HUGETLB_FREE, 2)
    if starved:
        alloc_pages(k, 0, 0, count=1 << 20, movable=True, owner=Owner(Use.MOVABLE, "others"), where=FRESH)
    return k, used, free


def _actors(used: Span, free: list[Span]) -> dict[str, Actor]:
    page = free[0] if free else used
    return {
        "dissolve": lambda k: dissolve_free_hugetlb_folios(k, *page),
        "failure": lambda k: memory_failure(k, page.start + 5),
        "replace": lambda k: replace_free_hugepage_folios(k, *page),
        "move": lambda k: do_migrate_range(k, *used).moved,
        "failure-in-use": lambda k: memory_failure(k, used.start + 5),
        "use": partial(_use, tag="a mapping"),
        "use-next": partial(_use, tag="another"),
        "offline": lambda k: state_store(k, _last_block(k), "offline"),
    }


def _use(k: Kernel, tag: str) -> None:
    """The pool grows by a page that a mapping reserves, and is as it was."""
    allocate(k, k.config.pmd_size, "hugetlb-reserved", tag)
    free(k, tag)


def _last_block(k: Kernel) -> int:
    """The memory block at the end of RAM, all of it free."""
    return k.block_id(max(zone.end_pfn for zone in k.zones()) - 1)


def hugetlb_pairs() -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes the program of each pair."""
    for one, other in PAIRS:
        yield f"huge pages: {one} | {other}", partial(_program, one, other)


def _program(one: str, other: str) -> KernelProgram:
    k, used, free = machine(one.endswith("-starved"))
    actors = _actors(used, free)
    both = tuple(refused(actors[name.removesuffix("-starved")]) for name in (one, other))
    names = (one, other if other != one else f"{other} too")
    return KernelProgram(deepcopy(k), both, names, check=laws_hold)
