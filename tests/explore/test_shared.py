"""Kernel state that CPUs share announces itself, and an actor's first step is a step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

MACHINE = Configuration("riscv64", 4 * KiB, 39)
OWNER = Owner(Use.KERNEL, "test")
KEPT = Limits(stop_at_failure=False, keep_behaviours=True)


@pytest.fixture(scope="module")
def at_the_mark() -> tuple[Kernel, Span]:
    """A machine with nothing left above the min watermark, and a page in use that may be freed."""
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    last = Span(0, 0)
    while got := alloc_pages(k, 0, 0, count=1 << 20, owner=OWNER, where="test"):
        last = got[-1]
    return k, Span(last.start, last.start + 1)


def free_one(page: Span) -> Actor:
    def actor(k: Kernel) -> None:
        free_pages(k, [page], "test")

    return actor


def take_one(k: Kernel) -> Hashable:
    with k.hw.locked("any_lock"):
        pass
    k.pointers["pages"] = len(alloc_pages(k, 0, 0, owner=OWNER, where="test"))
    return k.pointers["pages"]


@pytest.mark.parametrize("freer_first", [True, False])
@pytest.mark.parametrize("want", [0, 1])
def test_a_watermark_read_without_the_lock_meets_the_page_that_is_freed(
    at_the_mark: tuple[Kernel, Span], want: int, *, freer_first: bool
) -> None:
    k, page = at_the_mark
    actors = (free_one(page), take_one) if freer_first else (take_one, free_one(page))
    program = KernelProgram(
        k, actors, ("one", "other"), check=lambda k: None if k.pointers["pages"] == want else "pages: another number"
    )
    assert decide(program.run()).word == search(program.run(), reduce=False).word == "broken"
    reduced, every = (search(program.run(), KEPT, reduce=reduce).coverage.behaviours for reduce in (True, False))
    assert reduced == every
    assert len(every) == 2


def test_far_above_the_mark_allocations_do_not_meet_at_it() -> None:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    run = KernelProgram(k, (take_one, free_one(alloc_pages(k, 0, 0, owner=OWNER, where="test")[0])), ("a", "b")).run()
    run.tell_apart(frozenset())
    assert search(run).coverage.executions == 2  # the orders in which zone->lock is taken


def test_what_an_actor_does_before_its_first_access_does_not_happen_at_time_zero() -> None:
    """What it reads there is read when its turn has come, like everything else that it does."""
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.pointers["given"] = 0

    def give(k: Kernel) -> None:
        k.pointers["given"] = 1

    def take(k: Kernel) -> int:
        return k.pointers["given"]

    found = search(KernelProgram(k, (give, take), ("giver", "taker")).run(), KEPT, reduce=False)
    assert {behaviour[0][1] for behaviour in found.coverage.behaviours} == {0, 1}  # type: ignore[index]
