"""Read/write semaphores that favour writers, in small programs: nothing is missed of them either."""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import permutations

import pytest

from generated_programs import KEPT, agree_with_every_schedule
from memhp.explore.engine.search import Limits, search
from memhp.explore.programs.cells import FREE
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Body, Shared


def reads(memory: Shared) -> None:
    with memory.semaphore("mem", write=False):
        pass


def reads_again(memory: Shared) -> None:
    with memory.semaphore("mem", write=False):
        reads(memory)


def writes(memory: Shared) -> None:
    with memory.semaphore("mem", write=True):
        pass


def decided(*bodies: object) -> str:
    return search(Program(bodies, {"mem": FREE}).run(), Limits()).word  # type: ignore[arg-type]


def test_who_reads_already_and_reads_again_while_a_writer_waits_is_in_a_deadlock() -> None:
    assert decided(reads_again, writes) == "broken"
    assert decided(writes, reads_again) == "broken"
    assert decided(reads_again, reads_again) == "safe"
    assert decided(reads, writes, writes) == "safe"


def counts(memory: Shared) -> None:
    with memory.semaphore("mem", write=False):
        memory.update("x", lambda old: old)


def changes(memory: Shared) -> None:
    with memory.semaphore("mem", write=True):
        memory.update("x", lambda old: old + 1)  # type: ignore[operator]


def elsewhere(memory: Shared) -> None:
    memory.store("y", 1)


ORDERS = list(dict.fromkeys(permutations((counts, elsewhere, changes, counts))))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(body.__name__ for body in order))
def test_two_readers_and_a_writer_meet_in_every_way_whatever_a_fourth_does(order: tuple[Body, ...]) -> None:
    run = Program(order, {"mem": FREE, "x": 0, "y": 0}).run()
    reduced, every = (search(run, KEPT, reduce=reduce).coverage for reduce in (True, False))
    assert reduced.classes == every.classes


@pytest.mark.parametrize("seeds", [range(first, first + 20) for first in range(0, 80, 20)], ids=lambda seeds: seeds[0])
def test_what_generated_programs_do_is_what_every_schedule_does(seeds: range) -> None:
    assert agree_with_every_schedule(seeds, fair=True)
