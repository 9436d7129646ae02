"""Whoever looks at something meets whoever changes it, whichever comes first and whatever it was before."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kernels import base_page_table
from memhp.errors import BadInput, KernelBug
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Verdict
from memhp.hw.lifetime import walk
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mmzone import PageFlags, Section
from memhp.linux.state import Kernel
from memhp.spans import Span

MACHINE = Configuration("arm64", 4096, 48, "linux-7.2")
PLACE = "mm/page_alloc.c:alloc_pages"
Check = Callable[[Kernel], str | None]
SOMEBODY = Owner(Use.KERNEL, "somebody")
NOWHERE = Span(0, 0)
FAR = 20
"""A section behind all that there are."""


@dataclass
class Mine:
    """What actors share, and what one of them saw."""

    table: int = 0
    page: Span = NOWHERE
    two: Span = NOWHERE
    items: list[int] | None = field(default_factory=list)
    saw: object = None

    def entries(self, k: Kernel) -> Table:
        return base_page_table(k, self.table)


def machine() -> Kernel:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    mine = k.statics(Mine)
    mine.table = alloc_pages(k, 0, 0, owner=Owner(Use.TABLE, "PTE"), where=PLACE)[0].start
    mine.page = alloc_pages(k, 0, 0, owner=SOMEBODY, where=PLACE)[0]
    mine.two = alloc_pages(k, 1, 0, owner=SOMEBODY, where=PLACE)[0]
    k.hw.release(mine.two, Owner(Use.DEVICE), PLACE)
    k.hw.store_leaves(mine.entries(k), 4, 1, mine.page.start, 0)
    return k


def searched(actors: tuple[Actor, ...], check: Check | None, *, reduce: bool = True) -> Verdict:
    run = KernelProgram(machine(), actors, tuple("AB"[: len(actors)]), check=check).run()
    if reduce:
        run.tell_apart(frozenset())
    verdict = search(run, reduce=reduce)
    run.close()
    return verdict


def clears_and_flushes(k: Kernel) -> None:
    table = k.statics(Mine).entries(k)
    k.hw.clear_run(table, 4, 1, PLACE)
    size = k.config.page_size
    k.port.flush_tlb_kernel_range(k, Span(table.va + 4 * size, table.va + 5 * size))


def unplugs(k: Kernel) -> None:
    page = k.statics(Mine).page
    k.hw.unplug(page, "driver.c:unplugs")
    k.hw.plug(page, Owner(Use.DEVICE))
    k.hw.claim(page, SOMEBODY, PLACE)


def makes_two_tables(k: Kernel) -> None:
    k.hw.claim(k.statics(Mine).two, Owner(Use.TABLE, "PTE"), PLACE)


def reads_a_table(k: Kernel) -> None:
    k.hw.load(Table(k.statics(Mine).two.start, 0, 0), 0)


def takes_the_list_away(k: Kernel) -> None:
    k.statics(Mine).items = None


def needs_the_list(k: Kernel) -> None:
    if k.statics(Mine).items is None:
        raise KernelBug("no list", place="own.c:needs_the_list")


def makes_a_list(k: Kernel) -> None:
    k.statics(Mine).items = [1]


def counts_sections(k: Kernel) -> None:
    k.statics(Mine).saw = len(k.mem_section)


def adds_a_section(k: Kernel) -> None:
    k.mem_section.set(FAR, FAR + 1, Section(0, online=False, early=False))


def reads_flags(k: Kernel) -> None:
    k.statics(Mine).saw = k.page_flags.run_at(next(iter(k.page_flags))[0])


def poisons(k: Kernel) -> None:
    at = next(iter(k.page_flags))[0]
    k.page_flags.set_flags(at, at + 1, PageFlags.HWPOISON)


def a_new_section_is_seen(k: Kernel) -> str | None:
    return "seen" if k.statics(Mine).saw == len(k.mem_section) else None


def poison_is_seen(k: Kernel) -> str | None:
    saw = k.statics(Mine).saw
    return "seen" if isinstance(saw, tuple) and PageFlags.HWPOISON in saw[2] else None


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "check", "reason"),
    [
        (clears_and_flushes, unplugs, None, "flush-before-free"),
        (makes_two_tables, reads_a_table, None, "freed-table"),
        (takes_the_list_away, needs_the_list, None, ""),
        (counts_sections, adds_a_section, a_new_section_is_seen, "seen"),
        (reads_flags, poisons, poison_is_seen, "seen"),
    ],
)
def test_what_goes_wrong_in_one_order_is_found_whoever_is_named_first(
    one: Actor, other: Actor, check: Callable[[Kernel], str | None] | None, reason: str, turned: bool, reduce: bool
) -> None:
    verdict = searched((other, one) if turned else (one, other), check, reduce=reduce)
    assert verdict.failure is not None
    assert reason in verdict.failure.reason


@pytest.mark.parametrize("actors", [(takes_the_list_away, makes_a_list), (makes_a_list, takes_the_list_away)])
def test_two_writes_of_a_field_race_though_one_puts_a_list_there_and_the_other_none(actors: tuple[Actor, ...]) -> None:
    failure = searched(actors, None).failure
    assert failure is not None
    assert failure.reason.startswith("data race: write of ")


@pytest.mark.parametrize("actors", [(takes_the_list_away, needs_the_list), (needs_the_list, takes_the_list_away)])
def test_a_read_of_a_field_that_holds_a_list_races_with_a_write_of_none(actors: tuple[Actor, ...]) -> None:
    verdict = searched(actors, None)
    assert verdict.coverage.races


def test_a_loop_within_one_access_of_many_entries_makes_no_round_of_the_loop_around_it() -> None:
    def loads_again_and_again(k: Kernel) -> None:
        for _ in [None] * 120:
            k.hw.load_run(k.statics(Mine).entries(k), 0, 2)

    def stores(k: Kernel) -> None:
        k.hw.store(k.statics(Mine).entries(k), 1, 0)

    assert searched((loads_again_and_again, stores), None).word == "safe"


def test_pages_given_back_together_are_looked_at_each() -> None:
    k = machine()
    mine = k.statics(Mine)
    mine.two = alloc_pages(k, 1, 0, owner=SOMEBODY, where=PLACE)[0]
    k.hw.retag(Span(mine.two.start + 1, mine.two.end), Owner(Use.MEMMAP), PLACE)
    above = next(hop.table for hop in walk(k.hw, k.init_mm, k.layout.memmap(*mine.two).start) if hop.table.height == 1)
    entry = next(index for index in range(512) if not k.hw.load_run(above, index, 1)[0])
    k.hw.store(above, entry, int(k.hw.fmt.table_entry(mine.table)), PLACE)
    struct_pages = k.hw.child(above, entry, mine.table)
    k.hw.store_leaves(struct_pages, 5, 1, mine.two.start + 1, 0)

    def reads_and_gives_back(k: Kernel) -> None:
        k.hw.load(struct_pages, 0)
        gives_back_two(k)

    def gives_back_two(k: Kernel) -> None:
        two = k.statics(Mine).two
        k.hw.release(two, Owner(Use.FREE), PLACE)
        k.hw.claim(two, SOMEBODY, PLACE)

    run = KernelProgram(k, (reads_and_gives_back,), ("A",)).run()
    failure = search(run).failure
    run.close()
    assert failure is not None
    assert "flush-before-free" in failure.reason


def test_what_is_put_where_no_field_is_is_refused() -> None:
    k = machine()
    k.my_list = []  # type: ignore[attr-defined]
    run = KernelProgram(k, (reads_flags,), ("A",), of_user=True).run()
    with pytest.raises(BadInput, match="my_list: a Kernel has no such field"):
        search(run)
