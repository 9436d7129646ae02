"""Kernel state that CPUs share announces itself, and an actor's first step is a step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import alloc_pages, free_pages, zone_watermark_fast
from memhp.linux.mm.vmalloc import vmalloc
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

MACHINE = Configuration("riscv64", 4 * KiB, 39)
OWNER = Owner(Use.KERNEL, "test")
KEPT = Limits(stop_at_failure=False, keep_behaviours=True)


@dataclass
class Seen:
    """What an actor of this file has seen."""

    number: int = 0


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
    k.statics(Seen).number = len(alloc_pages(k, 0, 0, owner=OWNER, where="test"))
    return k.statics(Seen).number


@pytest.mark.parametrize("freer_first", [True, False])
@pytest.mark.parametrize("want", [0, 1])
def test_a_watermark_read_without_the_lock_meets_the_page_that_is_freed(
    at_the_mark: tuple[Kernel, Span], want: int, *, freer_first: bool
) -> None:
    k, page = at_the_mark
    actors = (free_one(page), take_one) if freer_first else (take_one, free_one(page))
    program = KernelProgram(
        k, actors, ("one", "other"), check=lambda k: None if k.statics(Seen).number == want else "pages: another number"
    )
    assert decide(program.run()).word == search(program.run(), reduce=False).word == "broken"


@pytest.mark.parametrize("freer_first", [True, False])
def test_a_look_at_the_mark_alone_ends_as_in_every_schedule(
    at_the_mark: tuple[Kernel, Span], *, freer_first: bool
) -> None:
    """An allocation makes many steps more, too many for all their orders."""

    def look(k: Kernel) -> int:
        with k.hw.locked("any_lock"):
            pass
        (zone,) = (zone for zone in k.zones() if zone.populated)
        return zone_watermark_fast(zone, zone.watermark_min, 0, 1)

    k, page = at_the_mark
    actors = (free_one(page), look) if freer_first else (look, free_one(page))
    program = KernelProgram(k, actors, ("one", "other"))
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
    k.statics(Seen).number = 0

    def give(k: Kernel) -> None:
        k.statics(Seen).number = 1

    def take(k: Kernel) -> int:
        return k.statics(Seen).number

    found = search(KernelProgram(k, (give, take), ("giver", "taker")).run(), KEPT, reduce=False)
    assert {behaviour[0][1] for behaviour in found.coverage.behaviours} == {0, 1}  # type: ignore[index]


def machine() -> Kernel:
    return boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))


def mark(*, lock: bool) -> Actor:
    """Give the first page flags, with a lock or without one."""

    def actor(k: Kernel) -> None:
        if lock:
            with k.hw.locked("a_lock"):
                k.page_flags.set(0x80000, 0x80001, PageFlags.OFFLINE)
        else:
            k.page_flags.set(0x80000, 0x80001, PageFlags.OFFLINE)

    return actor


def look(k: Kernel) -> None:
    with k.hw.locked("a_lock"):
        k.page_flags.get(0x80000)


@pytest.mark.parametrize("reverse", [True, False])
def test_accesses_that_no_lock_orders_are_a_data_race_with_both_places(*, reverse: bool) -> None:
    actors: tuple[Actor, ...] = (mark(lock=False), look)
    names: tuple[str, ...] = ("marker", "reader")
    if reverse:
        actors, names = actors[::-1], names[::-1]
    program = KernelProgram(machine(), actors, names)
    for verdict in (decide(program.run()), search(program.run()), search(program.run(), reduce=False)):
        assert verdict.word == "broken"
        assert verdict.failure is not None
        assert verdict.failure.reason.startswith("data race: ")
        assert "write of page_flags by marker" in verdict.failure.reason
        assert "read of page_flags by reader" in verdict.failure.reason
    found = decide(program.run()).failure
    assert found is not None
    assert "(holding a_lock)" in found.reason and "(holding no lock)" in found.reason
    trace = replay(program.run(), found.schedule)
    assert (trace.end, trace.reason) == ("broken", found.reason)


def test_accesses_under_one_lock_or_to_other_ranges_do_not_race() -> None:
    def elsewhere(k: Kernel) -> None:
        k.page_flags.set(0x80001, 0x80002, PageFlags.OFFLINE)

    for actors in ((mark(lock=True), look), (elsewhere, look), (look, look)):
        assert decide(KernelProgram(machine(), actors, ("one", "other")).run()).word == "safe"


def test_page_flags_change_atomically_and_are_read_without_a_lock() -> None:
    """``SetPageReserved()`` and ``SetPageHWPoison()`` of one page are bit operations: neither loses the other's."""

    def reserve(k: Kernel) -> None:
        k.page_flags.set_flags(0x90000, 0x90001, PageFlags.RESERVED)

    def poison(k: Kernel) -> None:
        k.page_flags.set_flags(0x90000, 0x90002, PageFlags.HWPOISON)

    def read(k: Kernel) -> Hashable:
        return k.page_flags.get(0x90000) or PageFlags.NONE

    run = KernelProgram(machine(), (reserve, poison, read), ("one", "other", "reader")).run()
    for reduce in (True, False):
        found = search(run, KEPT, reduce=reduce)
        assert found.word == "safe"
        both = PageFlags.RESERVED | PageFlags.HWPOISON
        assert {behaviour[0][2] for behaviour in found.coverage.behaviours} == {  # type: ignore[index]
            PageFlags.NONE, PageFlags.RESERVED, PageFlags.HWPOISON, both,
        }  # fmt: skip


def test_an_atomic_change_of_a_flag_races_with_a_plain_one_and_not_behind_it() -> None:
    def poison(k: Kernel) -> None:
        k.page_flags.set_flags(0x80000, 0x80001, PageFlags.HWPOISON)

    def poison_behind(k: Kernel) -> None:
        with k.hw.locked("a_lock"):
            poison(k)

    raced = decide(KernelProgram(machine(), (mark(lock=True), poison), ("initialiser", "other")).run())
    assert raced.failure is not None and raced.failure.reason.startswith("data race: ")
    assert decide(KernelProgram(machine(), (mark(lock=True), poison_behind), ("a", "b")).run()).word == "safe"


def test_a_law_that_breaks_comes_before_a_data_race() -> None:
    program = KernelProgram(machine(), (mark(lock=False), look), ("one", "other"), check=lambda k: "a law: broken")
    failure = decide(program.run()).failure
    assert failure is not None
    assert failure.reason == "a law: broken"


def test_two_vmallocs_at_once_do_not_race() -> None:
    program = KernelProgram(
        machine(), (lambda k: vmalloc(k, 4 * KiB, "a"), lambda k: vmalloc(k, 4 * KiB, "b")), ("one", "other")
    )
    verdict = decide(program.run(), Limits(executions=200))
    assert verdict.failure is None or "vmap_areas" not in verdict.failure.reason
