"""State of many sorts is heard, so the search that leaves schedules out finds what the one without finds, whichever
actor is named first.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from itertools import permutations

import pytest

from memhp.errors import BadInput
from memhp.explore.cases.actors import laws_hold
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.bounded import random_search
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Verdict
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import any_of
from memhp.linux.kernel.rcu import call_rcu
from memhp.linux.lib.percpu_refcount import PercpuRef, percpu_ref_kill
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.zonelists import Zonelists
from memhp.linux.mmzone import ZoneRef, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from own_record import machine, own
from searched import PLACE, has_seen, verdicts


def reason(*actors: Actor) -> str:
    """What goes wrong; "" where nothing does."""
    verdict = search(KernelProgram(machine(), actors, tuple("ABC"[: len(actors)])).run())
    return "" if verdict.failure is None else verdict.failure.reason


# What RCU callbacks do ---------------------------------------------------------------------------------------------


def goes_under_a_lock(k: Kernel) -> None:
    with k.hw.locked("lock"):
        own(k).gone = 1


def gives_back(k: Kernel) -> None:
    call_rcu(k.hw, lambda: goes_under_a_lock(k))


def kills(k: Kernel) -> None:
    ref = own(k).ref = PercpuRef("ref", lambda: goes_under_a_lock(k))
    percpu_ref_kill(k.hw, ref)


def looks_under_the_lock(k: Kernel) -> None:
    with k.hw.locked("lock"):
        own(k).saw = True if own(k).gone else None


def looks_twice(k: Kernel) -> None:
    with k.hw.locked("lock"):
        first = own(k).gone
    with k.hw.locked("lock"):
        own(k).saw = True if own(k).gone != first else None


def tries(k: Kernel) -> None:
    if k.hw.trylock("lock"):
        k.hw.unlock("lock")
    else:
        own(k).saw = "taken"


@pytest.mark.parametrize("gives", [gives_back, kills])
@pytest.mark.parametrize("looks", [looks_under_the_lock, looks_twice, tries])
def test_the_callback_may_take_a_lock_before_who_took_it_first(gives: Actor, looks: Actor) -> None:
    assert verdicts((looks, gives), has_seen) == {"broken"}


def test_locks_in_another_order_in_a_callback_are_a_deadlock() -> None:
    def one(k: Kernel) -> None:
        with k.hw.locked("first", ordered=False), k.hw.locked("second", ordered=False):
            pass

    def other(k: Kernel) -> None:
        with k.hw.locked("second", ordered=False), k.hw.locked("first", ordered=False):
            pass

    def gives(k: Kernel) -> None:
        call_rcu(k.hw, lambda: other(k))

    assert verdicts((one, gives)) == {"broken"}
    assert reason(one, gives) == "deadlock: A at lock second, RCU callbacks at lock first"


# The order of keys, and what is looked at later ----------------------------------------------------------------------


def inserts(key: str) -> Actor:
    def insert(k: Kernel) -> None:
        with k.hw.locked(f"lock of {key}"):
            own(k).table[key] = 1

    return insert


@pytest.mark.parametrize("last", ["x", "y"])
def test_in_which_order_keys_come_to_a_dictionary_is_state(last: str) -> None:
    def check(k: Kernel) -> str | None:
        return "bad" if list(own(k).table) == ["a", "y" if last == "x" else "x", last] else None

    assert verdicts((inserts("x"), inserts("y")), check) == {"broken"}


def test_who_goes_through_a_list_without_the_lock_in_which_he_began_races() -> None:
    def begins_under_the_lock(k: Kernel) -> None:
        with k.hw.locked("lock"):
            walk = iter(own(k).numbers)
            next(walk)
        next(walk)

    def appends(k: Kernel) -> None:
        with k.hw.locked("lock"):
            own(k).numbers.append(1)

    assert verdicts((begins_under_the_lock, appends)) == {"broken"}
    assert reason(begins_under_the_lock, appends).startswith("data race: read of Own.numbers by A")


def test_the_keys_of_a_dictionary_are_as_it_is_when_they_are_looked_at() -> None:
    def keeps_the_keys(k: Kernel) -> None:
        with k.hw.locked("lock of x"):
            keys = own(k).table.keys()
            before = "x" in keys
        with k.hw.locked("lock of x"):
            own(k).saw = True if ("x" in keys) != before else None

    assert verdicts((keeps_the_keys, inserts("x")), has_seen) == {"broken"}


def test_the_owners_of_frames_are_as_they_were_when_they_were_asked_for() -> None:
    def asks(k: Kernel) -> None:
        frames = own(k).plain
        runs = k.hw.owners.runs(frames, frames + 1)
        k.hw.reads("word")
        own(k).saw = next(runs)[2].tag if own(k).other == 0 else None

    def check(k: Kernel) -> str | None:
        return "seen" if own(k).saw == "later" else None

    def changes(k: Kernel) -> None:
        pfn = own(k).plain
        own(k).other = 1
        k.hw.release(Span(pfn, pfn + 1), Owner(Use.FREE), PLACE)
        k.hw.claim(Span(pfn, pfn + 1), Owner(Use.KERNEL, "later"), PLACE)

    k = machine()
    own(k).plain = alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "now"), where=PLACE)[0].start
    for some in permutations((asks, changes)):
        for reduce in (True, False):
            assert search(KernelProgram(k, some, ("A", "B"), check=check).run(), reduce=reduce).word == "safe"


def test_the_runs_of_a_map_are_as_they_were_when_they_were_asked_for() -> None:
    def asks(k: Kernel) -> None:
        with k.hw.locked("lock"):
            runs = own(k).spans.runs(0, 9)
        own(k).saw = True if list(runs) not in ([], [(0, 1, 1)]) else None

    def sets(k: Kernel) -> None:
        with k.hw.locked("lock"):
            own(k).spans.set(0, 1, 1)

    assert verdicts((asks, sets), has_seen) == {"safe"}


def test_who_goes_through_a_marked_container_goes_through_what_was_in_it_then() -> None:
    def goes_through(k: Kernel) -> None:
        seen = set()
        for value in own(k).marked.values():
            k.hw.reads("word")
            seen.add(value)
        own(k).saw = True if len(seen) > 1 else None

    def changes_both(k: Kernel) -> None:
        k.hw.atomic("marked")
        marked = own(k).marked
        marked["a"] = marked["b"] = 2

    assert verdicts((goes_through, changes_both), has_seen) == {"safe"}


def test_what_others_put_in_while_somebody_goes_through_it_is_no_error_under_a_lock() -> None:
    def goes_through(k: Kernel) -> None:
        with k.hw.locked("lock of x"):
            walk = iter(own(k).table)
            next(walk)
        with k.hw.locked("lock of x"):
            assert next(walk, "x") == "x"

    assert verdicts((goes_through, inserts("x"))) == {"safe"}


def test_who_changes_the_size_of_what_he_goes_through_makes_an_error() -> None:
    def empties(k: Kernel) -> None:
        for key in own(k).table:
            del own(k).table[key]

    for reduce in (True, False):
        with pytest.raises(BadInput, match="A raised RuntimeError: what is gone through has changed its size"):
            search(KernelProgram(machine(), (empties,), ("A",)).run(), reduce=reduce)


# Elements, conditions, all of the zonelists ---------------------------------------------------------------------------


def sets_element(at: int) -> Actor:
    def sets(k: Kernel) -> None:
        own(k).numbers[at] = 1

    return sets


def reads_element(at: int) -> Actor:
    def reads(k: Kernel) -> None:
        own(k).saw = own(k).numbers[at]

    return reads


@pytest.mark.parametrize(("one", "other", "word"), [(0, 1, "safe"), (0, 0, "broken"), (1, -1, "broken")])
def test_elements_of_a_list_race_if_they_are_the_same(one: int, other: int, word: str) -> None:
    assert verdicts((sets_element(one), sets_element(other))) == {word}
    assert verdicts((sets_element(one), reads_element(other))) == {word}


def test_what_a_wait_looks_at_besides_is_read_in_its_step() -> None:
    def waits(k: Kernel) -> None:
        k.hw.wait(lambda: own(k).word == 1 and own(k).plain >= 0, "the word", on="word")

    def tells(k: Kernel) -> None:
        own(k).word = 1

    def writes(k: Kernel) -> None:
        own(k).plain = 1

    assert verdicts((waits, tells, writes)) == {"broken"}
    assert "data race: " in reason(waits, tells, writes) and "Own.plain by A" in reason(waits, tells, writes)
    assert verdicts((waits, tells)) == {"safe"}


@pytest.mark.parametrize(
    "look",
    [
        lambda k: own(k).word == 1 and own(k).other == 0,
        lambda k: own(k).word == 1 and k.hw.now == 0,
        lambda k: own(k).word == 1 and k.hw.trylock("lock"),
    ],
)
def test_a_wait_that_looks_at_what_it_does_not_name_is_an_error_in_any_order(look: Callable[[Kernel], bool]) -> None:
    def waits(k: Kernel) -> None:
        k.hw.wait(lambda: look(k), "the word", on="word")

    def tells(k: Kernel) -> None:
        own(k).word = 1

    def changes(k: Kernel) -> None:
        own(k).other = 1

    for some in permutations((waits, tells, changes)):
        for reduce in (True, False):
            with pytest.raises(BadInput, match="a wait on word does '"):
                search(KernelProgram(machine(), some, ("A", "B", "C")).run(), reduce=reduce)


def test_who_goes_through_zonelists_meets_a_change_of_any_entry() -> None:
    def sets(k: Kernel) -> None:
        k.statics(Zonelists).zonerefs.set(5, 6, ZoneRef(0, ZoneType.DMA32))

    def goes_through(k: Kernel) -> None:
        own(k).saw = True if [at for at, _, _ in k.statics(Zonelists).zonerefs if at == 5] else None

    assert verdicts((sets, goes_through), has_seen) == {"broken"}


def test_fields_that_are_called_alike_are_so_in_all_numbers() -> None:
    name = "node0.node_zonelists[1]._zonerefs[5]"
    assert any_of(name) == any_of("node0.node_zonelists[0]._zonerefs[0]") != name


# The clock and the log ------------------------------------------------------------------------------------------------


def sees(look: Callable[[Machine], object]) -> Actor:
    def saw(k: Kernel) -> None:
        own(k).saw = look(k.hw) or None

    return saw


@pytest.mark.parametrize(
    ("does", "look"),
    [
        (lambda k: k.hw.advance(1000), lambda hw: hw.now),
        (lambda k: k.hw.arm(5, lambda: None), lambda hw: hw.next_due()),
        (lambda k: k.hw.log("here"), lambda hw: [line for line in hw.log_lines if line.text == "here"]),
    ],
)
def test_the_clock_its_timers_and_the_log_are_shared(does: Actor, look: Callable[[Machine], object]) -> None:
    assert verdicts((does, sees(look)), has_seen) == {"broken"}


def test_two_lines_to_the_log_are_not_put_in_order() -> None:
    verdict = search(KernelProgram(machine(), (lambda k: k.hw.log("a"), lambda k: k.hw.log("b")), ("A", "B")).run())
    assert verdict.classes == 1


# Random schedules, pages that go bad ----------------------------------------------------------------------------------


def randomly(*actors: Actor) -> Verdict:
    return random_search(KernelProgram(machine(), actors, ("A", "B")).run(), 1, 20)


def test_random_schedules_look_for_data_races() -> None:
    failure = randomly(sets_element(0), sets_element(0)).failure
    assert failure is not None and failure.reason.startswith("data race: ")
    assert randomly(sets_element(0), sets_element(1)).failure is None


def test_a_page_that_goes_bad_is_not_freed_by_who_lets_go_of_it_meanwhile() -> None:
    """mm/memory-failure.c:get_hwpoison_page takes a reference, unless the page has none any more."""
    k = machine()
    (page,) = alloc_pages(k, 0, 0, movable=True, owner=Owner(Use.MOVABLE, "process"), where=PLACE)

    def frees(k: Kernel) -> None:
        free_pages(k, [page], "mm/memory.c:zap_pte_range")

    def goes_bad(k: Kernel) -> None:
        memory_failure(k, page.start)

    for some in permutations((frees, goes_bad)):
        assert search(KernelProgram(k, some, ("A", "B"), check=laws_hold).run()).word == "safe"
