"""Loads and stores of neighbouring entries that one CPU alone looks at are done together, and nobody can tell."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest

from kernels import base_page_table
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram, KernelRun
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.search import search
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.hw.tlb import Table
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.state import Kernel

MACHINE = Configuration("arm64", 4096, 48, "linux-7.2")
PLACE = "mm/page_alloc.c:alloc_pages"
EVERYTHING = Limits(stop_at_failure=False, keep_behaviours=True, keep_states=True, deadlock_is_failure=False)
PFN = 0x50000
MOST = 7
"""Accesses of both actors, at most, that every schedule can be looked at."""


@dataclass
class Tables:
    """Two tables of base pages, and a word that is read and written without a lock."""

    frames: tuple[int, ...] = ()
    word: int = field(default=0, metadata=marked("word"))
    seen: tuple[int, ...] = ()
    """What an actor has read there."""

    def table(self, k: Kernel, number: int) -> Table:
        return base_page_table(k, self.frames[number], number)


def machine() -> Kernel:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    frames = [alloc_pages(k, 0, 0, owner=Owner(Use.TABLE, "PTE"), where=PLACE)[0].start for _ in range(2)]
    k.statics(Tables).frames = tuple(frames)
    for table in map(partial(k.statics(Tables).table, k), range(2)):
        k.hw.store_leaves(table, 4, 3, PFN + 0x100, 0)
    return k


def loads(hw: Machine, table: Table, at: int, count: int) -> Hashable:
    return tuple(hw.load_run(table, at, count).tolist())


def stores(hw: Machine, table: Table, at: int, count: int) -> Hashable:
    hw.store_leaves(table, at, count, PFN + at, 0)
    return None


def fills(hw: Machine, table: Table, at: int, count: int) -> Hashable:
    seen: list[int] = []
    for first, n in hw.batches(at, at + count, table):
        seen += hw.load_run(table, first, n).tolist()
        hw.store_leaves(table, first, n, PFN + first, 0)
    return tuple(seen)


def clears(hw: Machine, table: Table, at: int, count: int) -> Hashable:
    hw.clear_run(table, at, count, PLACE)
    return None


Does = Callable[[Machine, Table, int, int], Hashable]
COSTS: dict[Does, int] = {loads: 1, stores: 1, fills: 2, clears: 1}
"""Accesses to each entry."""


def does(what: list[tuple[Does, int, int, int]], k: Kernel) -> Hashable:
    tables = k.statics(Tables)
    return tuple(do(k.hw, tables.table(k, number), at, count) for do, number, at, count in what)


def drawn(seed: int) -> tuple[Actor, Actor]:
    """Two actors that do one or two things each to entries of the two tables."""
    random = Random(seed)
    actors: list[Actor] = []
    left = MOST
    for _ in range(2):
        what: list[tuple[Does, int, int, int]] = []
        for _ in range(random.randrange(1, 3)):
            do, count = random.choice(list(COSTS)), random.randrange(1, 4)
            if COSTS[do] * count <= left - (not actors):
                what.append((do, random.randrange(2), random.randrange(1, 7), count))
                left -= COSTS[do] * count
        actors.append(partial(does, what))
    return actors[0], actors[1]


def run_of(actors: tuple[Actor, ...], check: Callable[[Kernel], str | None] | None = None) -> KernelRun:
    return KernelProgram(machine(), actors, tuple("AB"[: len(actors)]), check=check).run()


def ends(actors: tuple[Actor, ...], *, together: bool) -> set[Hashable]:
    run = run_of(actors)
    run.tell_apart(frozenset() if together else None)
    verdict = search(run, EVERYTHING, reduce=together)
    run.close()
    assert verdict.finished
    return verdict.coverage.behaviours


@pytest.mark.parametrize("seed", range(60))
def test_what_becomes_of_tables_is_the_same_with_every_entry_by_itself_in_every_schedule(seed: int) -> None:
    actors = drawn(seed)
    assert ends(actors, together=True) == ends(actors, together=False)


@pytest.mark.parametrize("do", [loads, stores, fills])
def test_entries_that_nobody_else_touches_take_no_turn_of_their_own(do: Does) -> None:
    run = run_of((partial(does, [(do, 0, 100, 300)]), partial(does, [(stores, 1, 100, 300)])))
    run.tell_apart(frozenset())
    verdict = search(run, EVERYTHING)
    run.close()
    assert (verdict.coverage.executions, verdict.coverage.steps) == (1, 2)


def test_a_field_is_read_anew_after_entries_were_loaded() -> None:
    def reads(k: Kernel) -> None:
        tables = k.statics(Tables)
        k.hw.reads("word")
        before = tables.word
        k.hw.load_run(tables.table(k, 0), 100, 8)
        tables.seen = before, tables.word

    def writes(k: Kernel) -> None:
        k.statics(Tables).word = 1

    def in_between(k: Kernel) -> str | None:
        return "in between" if k.statics(Tables).seen == (0, 1) else None

    run = run_of((reads, writes), in_between)
    run.tell_apart(frozenset())
    verdict = search(run)
    run.close()
    assert verdict.failure is not None
    assert verdict.failure.reason == "in between"
