"""Locks that are taken under another one need no turn of their own where that keeps them in order."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

import pytest

from memhp.explore.engine.limits import Limits
from memhp.explore.engine.nesting import outermost
from memhp.explore.engine.op import ALONE, SHARED
from memhp.explore.engine.search import search
from memhp.explore.programs.program import Program, ProgramRun
from memhp.explore.programs.shared import Body, Shared

EVERYTHING = Limits(stop_at_failure=False, keep_behaviours=True)
OUTER, INNER = ("lock", "outer"), ("lock", "inner")


def is_lock(target: Hashable) -> bool:
    return isinstance(target, tuple) and target[0] == "lock"


def nested(thread: int, mode: int) -> list[tuple[int, list[tuple[Hashable, int]]]]:
    """The inner lock is taken and let go under the outer one, which is held so."""
    outer: tuple[Hashable, int] = (OUTER, mode)
    return [(thread, [outer]), (thread, [(INNER, ALONE), (INNER, ALONE)]), (thread, [outer])]


@pytest.mark.parametrize(
    ("modes", "found"),
    [((ALONE, ALONE), {OUTER}), ((ALONE, SHARED), {OUTER}), ((SHARED, SHARED), {INNER})],
)
def test_a_lock_that_one_of_two_holds_alone_keeps_in_order_what_both_do_under_it(
    modes: tuple[int, int], found: set[Hashable]
) -> None:
    touches = [*nested(0, modes[0]), *nested(1, modes[1])]
    assert outermost({OUTER, INNER}, touches, is_lock) == found


def test_a_lock_that_is_let_go_keeps_nothing_in_order_any_more() -> None:
    touches = [(thread, [(one, ALONE), (one, ALONE)]) for thread in (0, 1) for one in (OUTER, INNER)]
    assert outermost({OUTER, INNER}, touches, is_lock) == {OUTER, INNER}


def test_a_lock_that_was_not_asked_about_keeps_others_in_order_too() -> None:
    assert outermost({INNER}, [*nested(0, ALONE), *nested(1, ALONE)], is_lock) == set()


def adds(*locks: str) -> Body:
    """Add one to x under these locks, the first outermost."""

    def body(memory: Shared) -> None:
        for lock in locks:
            memory.lock(lock)
        memory.store("x", memory.load("x") + 1)
        for lock in reversed(locks):
            memory.unlock(lock)

    return body


def searched(*bodies: Body) -> tuple[ProgramRun, int]:
    run = Program(bodies, {"x": 0}).run()
    run.tell_apart(frozenset())
    return run, search(run, EVERYTHING).coverage.executions


def test_of_nested_locks_only_the_outer_one_takes_turns() -> None:
    run, executions = searched(adds("a", "b", "c"), adds("a", "b", "c"))
    assert (run.shared, executions) == (frozenset({"a"}), 2)


def test_a_lock_that_somebody_takes_without_the_outer_one_takes_turns_too() -> None:
    run, executions = searched(adds("a", "b"), adds("a", "b"), adds("b"))
    assert run.shared == frozenset({"a", "b"})
    assert (
        executions
        == search(Program((adds("a", "b"), adds("a", "b"), adds("b")), {"x": 0}).run(), EVERYTHING).coverage.executions
    )


def test_a_deadlock_is_found_though_each_lock_is_taken_under_the_other() -> None:
    run = Program((adds("a", "b"), adds("b", "a")), {"x": 0}).run()
    run.tell_apart(frozenset())
    failure = search(run).failure
    assert failure is not None
    assert failure.reason.startswith("deadlock")
