"""Loops of many shapes: who goes round until another one comes is known to wait, and what comes to its end ends."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from itertools import count, permutations
from typing import Any

import numpy as np
import pytest

from memhp.explore.doors.records import without_records
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.bounded import random_search
from memhp.explore.engine.search import Limits, search
from memhp.hw.ledger import Ledger
from memhp.linux.kernel.rcu import rcu_read_lock, synchronize_rcu
from memhp.linux.state import Kernel
from own_record import machine, own


def verdicts(actors: Iterable[Actor]) -> set[str]:
    """What the search says, of the actors in every order."""
    k = machine()
    orders = permutations(actors)
    return {search(KernelProgram(k, some, tuple("ABC"[: len(some)])).run()).word for some in orders}


def stops(k: Kernel) -> None:
    own(k).word = own(k).other = 1


def in_sections(k: Kernel) -> None:
    while True:
        with rcu_read_lock(k.hw):
            if own(k).word:
                return


def any_is_missing(k: Kernel) -> None:
    while any(not getattr(own(k), name) for name in ("word", "other")):
        pass


def until_one_is_there(k: Kernel) -> None:
    while True:
        for name in ("word", "other"):
            if getattr(own(k), name):
                return


LOOPS = (in_sections, any_is_missing, until_one_is_there)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_another_ends_is_no_livelock(loop: Actor) -> None:
    limits = Limits(steps=3_000)
    for some in permutations((loop, stops)):
        assert search(KernelProgram(machine(), some, ("A", "B")).run(), limits).word == "safe"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_nobody_ends_is_a_livelock(loop: Actor) -> None:
    def half(k: Kernel) -> None:
        own(k).word = int(loop is any_is_missing)

    verdict = search(KernelProgram(machine(), (loop, half), ("A", "B")).run(), Limits(steps=3_000))
    assert verdict.failure is not None and verdict.failure.reason.startswith("livelock: A repeats ")


def test_who_waits_for_readers_that_come_again_and_again_gets_on() -> None:
    def waits(k: Kernel) -> None:
        synchronize_rcu(k.hw)
        own(k).word = 1

    assert verdicts((in_sections, waits)) == {"safe"}


def test_a_for_over_equal_things_within_another_loop_is_not_taken_for_endless() -> None:
    def goes_through(k: Kernel) -> None:
        while True:
            for _ in [None] * 300:
                k.hw.reads("word")
            return

    assert search(KernelProgram(machine(), (goes_through,), ("A",)).run()).word == "safe"


class Rest:
    """What is left, in a list."""

    def __init__(self, count: int) -> None:
        self.left = [0] * count


@pytest.mark.parametrize("left", [deque([0] * 70), bytearray(70), Rest(70), [0] * 70])
def test_a_loop_over_what_gets_less_ends(left: Any) -> None:
    def uses_up(k: Kernel) -> None:
        mine = deepcopy(left)
        parts = mine.left if isinstance(mine, Rest) else mine
        while parts:
            k.hw.reads("word")
            parts.pop()

    assert search(KernelProgram(machine(), (uses_up,), ("A",)).run()).word == "safe"


def test_what_holds_itself_does_not_keep_a_loop_from_being_known() -> None:
    def waits(k: Kernel) -> None:
        ring: list[object] = []
        ring.append(ring)
        while not own(k).word:
            assert ring

    assert verdicts((waits, stops)) == {"safe"}


@pytest.mark.parametrize(("steps", "word"), [(4, "safe"), (3, "undecided")])
def test_an_execution_of_as_many_steps_as_may_be_is_followed(steps: int, word: str) -> None:
    def reads(k: Kernel) -> None:
        k.hw.reads("word")

    program = KernelProgram(machine(), (reads, reads), ("A", "B"))
    assert search(program.run(), Limits(steps=steps), reduce=False).word == word
    too_long = random_search(program.run(), 1, 5, limits=Limits(steps=steps)).coverage.too_long
    assert too_long == (0 if word == "safe" else 5)


class Slotted:
    """A number of one's own that is in no dictionary."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


def by_slot(k: Kernel) -> None:
    mine = Slotted()
    while mine.n < 60:
        k.hw.writes("flag")
        mine.n += 1


def by_iterator(k: Kernel) -> None:
    left = iter(range(60))
    while next(left, None) is not None:
        k.hw.writes("flag")


def by_generator(k: Kernel) -> None:
    left = (number for number in range(60))
    while next(left, None) is not None:
        k.hw.writes("flag")


def by_count(k: Kernel) -> None:
    numbers = count()
    while next(numbers) < 60:
        k.hw.writes("flag")


def by_array(k: Kernel) -> None:
    numbers = np.zeros(1, dtype=int)
    while numbers[0] < 60:
        k.hw.writes("flag")
        numbers[0] += 1


def by_error(k: Kernel) -> None:
    error = ValueError(0)
    while error.args[0] < 60:
        k.hw.writes("flag")
        error.args = (error.args[0] + 1,)


class Holder:
    """Something of one's own that holds more of one's own."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def bump(self) -> int:
        """One more."""
        self.held += 1
        return int(self.held)


def by_object_in_object(k: Kernel) -> None:
    mine = Holder(Holder(0))
    while mine.held.held < 60:
        k.hw.writes("flag")
        mine.held.held += 1


def by_set_in_object(k: Kernel) -> None:
    mine = Holder(set(range(60)))
    while mine.held:
        k.hw.writes("flag")
        mine.held.pop()


def by_closure(k: Kernel) -> None:
    left = 60

    def budget() -> int:
        nonlocal left
        left -= 1
        return left

    def goes(left_over: Any) -> None:
        while left_over():
            k.hw.writes("flag")

    goes(budget)


def by_method(k: Kernel) -> None:
    def goes(more: Any) -> None:
        while more() < 60:
            k.hw.writes("flag")

    goes(Holder(0).bump)


def in_the_middle(k: Kernel) -> None:
    many = [0] * 201
    while many[100] < 60:
        k.hw.writes("flag")
        many[100] += 1


COUNTING = (
    by_slot, by_iterator, by_generator, by_count, by_array, by_error, by_object_in_object, by_set_in_object, by_closure,
    by_method, in_the_middle,
)  # fmt: skip


@pytest.mark.parametrize("counts", COUNTING)
def test_a_loop_that_counts_where_no_variable_is_seen_to_change_ends(counts: Actor) -> None:
    program = KernelProgram(machine(), (counts, lambda k: k.hw.writes("flag")), ("A", "B"))
    assert search(program.run(), Limits(executions=2, stop_at_failure=False)).coverage.livelocks == 0


def test_who_polls_by_getting_and_putting_until_it_is_gone_waits() -> None:
    """Both steps of a round go by one name, so the last two are alike one by one, and are no round."""

    def user(k: Kernel) -> None:
        while True:
            k.hw.atomic("word")
            if own(k).word < 0:
                return
            own(k).word += 1
            k.hw.atomic("word")
            own(k).word -= 1

    def remover(k: Kernel) -> None:
        k.hw.wait(lambda: not own(k).word, "users to leave", on="word")
        k.hw.atomic("word")
        own(k).word = -1

    assert verdicts((user, remover)) == {"safe"}


def test_who_lets_a_lock_go_in_each_round_lets_others_have_it_whoever_else_goes_round() -> None:
    """The third one polls for what comes after the second has had the lock: it is let go on, and is no livelock's."""

    def polls_under_the_lock(k: Kernel) -> None:
        while not own(k).word:
            with k.hw.locked("lock"):
                pass

    def takes_the_lock_once(k: Kernel) -> None:
        with k.hw.locked("lock"):
            own(k).word = 1
        own(k).other = 1

    def polls(k: Kernel) -> None:
        while not own(k).other:
            pass

    assert verdicts((polls_under_the_lock, takes_the_lock_once, polls)) == {"safe"}


def test_a_loop_that_prints_a_line_each_time_goes_round_all_the_same() -> None:
    """Nobody goes by what is printed. Counters of entries written and requests answered are no more than that."""

    def prints(k: Kernel) -> None:
        while not own(k).word:
            k.hw.log("not yet")
            own(k).other = 1
            own(k).other = 0

    def nothing(k: Kernel) -> None:
        own(k).saw = None

    def ends(k: Kernel) -> None:
        own(k).word = 1

    assert verdicts((prints, ends)) == {"safe"}
    verdict = search(KernelProgram(machine(), (prints, nothing), ("A", "B")).run(), Limits(steps=3_000))
    assert verdict.failure is not None and verdict.failure.reason.startswith("livelock: A repeats ")


def test_records_are_left_out_and_are_there_again() -> None:
    k = machine()
    k.hw.log("a line")
    k.hw.ledger.stores += 2
    lines, ledger = list(k.hw.log_lines), k.hw.ledger.copy()
    assert ledger.tables_allocated
    with without_records(k):
        assert (k.hw.log_lines, k.hw.ledger) == ([], Ledger())
    assert (k.hw.log_lines, k.hw.ledger) == (lines, ledger)
