"""Huge pages of hugetlbfs meet those who dissolve, move and recover them: mm/hugetlb.c under ``hugetlb_lock``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial

import pytest

from memhp.errors import KernelError
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot, laws_hold
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.explore.lock_removal import removed, sites
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.hugetlb import FROZEN, Hugetlb, add_huge_pages, dissolve_free_hugetlb_folios
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.migrate import do_migrate_range
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.page_isolation import start_isolate_page_range, undo_isolate_page_range
from memhp.linux.mm.users import Kind, allocate, free
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB
from steppers import Recorder

MACHINES = (Configuration("arm64", 4 * KiB, 48, "linux-7.2"), Configuration("x86_64", 4 * KiB, 48, "linux-6.12"))
ORDER = 9
Prepare = Callable[[Kernel], tuple[Actor, ...]]
WHERE = "mm/hugetlb.c:only_alloc_fresh_hugetlb_folio"


@dataclass
class Refused:
    """Which of two dissolvings was refused."""

    who: str = ""


@cache
def machine(configuration: Configuration) -> Kernel:
    return boot(Variant("as it is", "", "repaired", (configuration,)).config(configuration))


def pool(k: Kernel, count: int, use: Use = Use.HUGETLB_FREE) -> list[Span]:
    """Huge pages of that use."""
    got = alloc_pages(k, ORDER, 0, count=count, movable=True, owner=FROZEN, where=WHERE)
    add_huge_pages(k, got, Owner(use))
    return [Span(at, at + (1 << ORDER)) for span in got for at in range(span.start, span.end, 1 << ORDER)]


def dissolve(k: Kernel, page: Span) -> None:
    dissolve_free_hugetlb_folios(k, *page)


def program(prepare: Prepare, on: Configuration) -> KernelProgram:
    """What `prepare` has two actors do, on a machine that it prepares for them."""
    k = deepcopy(machine(on))
    return KernelProgram(k, prepare(k), ("one", "other"), check=laws_hold)


def two_dissolve(k: Kernel) -> tuple[Actor, ...]:
    (page,) = pool(k, 1)
    return (partial(dissolve, page=page),) * 2


def fails_and_dissolves(k: Kernel) -> tuple[Actor, ...]:
    (page,) = pool(k, 1)

    def goes_bad(k: Kernel) -> None:
        memory_failure(k, page.start + 5)

    return goes_bad, partial(dissolve, page=page)


def fails_and_moves(k: Kernel) -> tuple[Actor, ...]:
    (page,) = pool(k, 1, Use.HUGETLB)
    pool(k, 1)

    def goes_bad(k: Kernel) -> str:
        try:
            memory_failure(k, page.start + 5)
        except KernelError as error:
            return error.reason
        return "recovered"

    def move(k: Kernel) -> int:
        return do_migrate_range(k, *page).moved

    return goes_bad, move


@pytest.mark.parametrize("on", MACHINES, ids=str)
@pytest.mark.parametrize("prepare", [two_dissolve, fails_and_dissolves, fails_and_moves])
def test_a_free_huge_page_goes_back_to_the_buddy_once(prepare: Prepare, on: Configuration) -> None:
    """Who comes second finds under hugetlb_lock that it is no huge page any more: dissolve_free_hugetlb_folio()."""
    verdict = decide(program(prepare, on).run())
    assert (verdict.word, verdict.failure) == ("safe", None)


@pytest.mark.parametrize("prepare", [two_dissolve, fails_and_dissolves])
def test_without_hugetlb_lock_two_give_it_back(prepare: Prepare) -> None:
    (site,) = (one for one in sites() if str(one) == "mm/hugetlb.py:dissolve_free_hugetlb_folio HUGETLB_LOCK")
    with removed(site):
        failure = decide(program(prepare, MACHINES[0]).run()).failure
    assert failure is not None and failure.reason.startswith(("data race", "one-owner", "frames: the pool"))


@pytest.mark.parametrize("on", MACHINES, ids=str)
@pytest.mark.parametrize("unlucky", ["one", "other"])
@pytest.mark.parametrize("names", [("one", "other"), ("other", "one")])
def test_of_two_free_huge_pages_with_one_promised_whichever_is_dissolved_second_stays(
    on: Configuration, unlucky: str, names: tuple[str, str]
) -> None:
    """available_huge_pages() counts free_huge_pages, which the first has changed: any of the two may be refused."""
    k = deepcopy(machine(on))
    pages = dict(zip(("one", "other"), pool(k, 2), strict=True))
    k.statics(Hugetlb).promised["a mapping"] = (Use.HUGETLB_FREE, 1)

    def tried(k: Kernel, who: str) -> None:
        try:
            dissolve(k, pages[who])
        except KernelError:
            with k.hw.locked("told"):
                k.statics(Refused).who = who

    run = KernelProgram(
        k,
        tuple(partial(tried, who=name) for name in names),
        names,
        check=lambda k: "refused" if k.statics(Refused).who == unlucky else None,
    ).run()
    assert search(run).word == "broken"


def isolates_and_undoes(k: Kernel, page: Span) -> None:
    start_isolate_page_range(k, *page, offline=False)
    undo_isolate_page_range(k, *page)


@pytest.mark.parametrize("at", [0, 1])
def test_who_takes_a_huge_page_out_of_the_pool_looks_at_isolation_without_the_zone_lock(at: int) -> None:
    """dequeue_hugetlb_folio_node_exact(): is_migrate_isolate_page() reads the bit with READ_ONCE(), under hugetlb_lock
    only, while another CPU sets it under zone->lock: the mover may take the first page of the pool or the second, and
    neither is a data race.
    """
    k = deepcopy(machine(MACHINES[0]))
    (used,) = pool(k, 1, Use.HUGETLB)
    free = pool(k, 2)

    def move(k: Kernel) -> int:
        return do_migrate_range(k, *used).moved

    program = KernelProgram(k, (move, partial(isolates_and_undoes, page=free[0])), ("move", "isolate"))
    assert decide(program.run()).word == "safe"
    program = KernelProgram(
        k,
        (move, partial(isolates_and_undoes, page=free[0])),
        ("move", "isolate"),
        check=lambda k: "taken" if k.hw.memory.use_of(free[at].start) is Use.HUGETLB else None,
    )
    assert search(program.run()).word == "broken"


def grows(k: Kernel) -> None:
    allocate(k, k.config.pmd_size, "hugetlb-reserved", "a mapping")


def shrinks(k: Kernel) -> None:
    free(k, "a mapping")


def uses_and_ends(k: Kernel) -> None:
    allocate(k, k.config.pmd_size, "hugetlb", "another")
    free(k, "another")


@pytest.mark.parametrize("on", MACHINES, ids=str)
@pytest.mark.parametrize("first", [grows, shrinks, uses_and_ends])
def test_pools_that_users_change_meet_who_dissolves_and_moves_under_the_lock(first: Actor, on: Configuration) -> None:
    """prep_and_add_allocated_folios(), remove_pool_hugetlb_folio() and hugetlb_acct_memory() hold hugetlb_lock."""
    k = deepcopy(machine(on))
    (used,) = pool(k, 1, Use.HUGETLB)
    (page,) = pool(k, 1)
    if first is shrinks:
        grows(k)

    def moves_and_dissolves(k: Kernel) -> str:
        do_migrate_range(k, *used)
        try:
            dissolve(k, page)
        except KernelError as error:
            return error.reason
        return "dissolved"

    actors = (first, moves_and_dissolves)
    verdict = decide(KernelProgram(k, actors, ("user", "other"), check=laws_hold).run())
    assert (verdict.word, verdict.failure) == ("safe", None)


@pytest.mark.parametrize("kind", ["hugetlb", "hugetlb-free", "hugetlb-reserved"])
def test_memory_becomes_huge_pages_and_ceases_to_be_such_under_the_lock(kind: Kind) -> None:
    k = deepcopy(machine(MACHINES[0]))
    k.hw.stepper = recorder = Recorder()
    allocate(k, 2 * k.config.pmd_size, kind, "a user")
    free(k, "a user")
    k.hw.stepper = None
    held = False
    for access in recorder.accesses:
        if access.target == "hugetlb_lock":
            held = access.kind == "lock"
        assert held or access.kind != "retag"
    assert sum(access.kind == "retag" for access in recorder.accesses) >= 2
