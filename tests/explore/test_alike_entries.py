"""Of a run of leaves that are cleared one like the other, most go in one go, and nobody can tell."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import numpy as np
import pytest

from kernels import base_page_table
from memhp.errors import KernelError
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import case
from memhp.explore.cases.actors import boot
from memhp.explore.doors.alike import AlikeEntries
from memhp.explore.doors.run import Actor, KernelProgram, KernelRun
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.op import Stretch
from memhp.explore.engine.search import search
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush, FlushPlan, Table
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.pgtable_remove import Remover, unmap
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span

MACHINE = Configuration("arm64", 4096, 48, "linux-7.2")
PLACE = "mm/page_alloc.c:alloc_pages"
EVERYTHING = Limits(stop_at_failure=False, keep_behaviours=True, keep_states=True, deadlock_is_failure=False)
FIRST, LEAVES = 4, 12
"""Where the leaves are in their table, and how many there are."""
FLUSH = FlushPlan(Flush("flush_tlb_kernel_range", "TLBI VAALE1IS"), 1, 1)


@dataclass
class Leaves:
    """A table of base pages, of which some entries lead to pages of a driver."""

    frame: int = 0
    pages: Span = field(default=Span(0, 0))

    def table(self, k: Kernel) -> Table:
        return base_page_table(k, self.frame)


def machine() -> Kernel:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    leaves = k.statics(Leaves)
    leaves.frame = alloc_pages(k, 0, 0, owner=Owner(Use.TABLE, "PTE"), where=PLACE)[0].start
    (block,) = alloc_pages(k, 4, 0, owner=Owner(Use.KERNEL, "driver"), where=PLACE)
    leaves.pages = Span(block.start, block.start + LEAVES)
    k.hw.store_leaves(leaves.table(k), FIRST, LEAVES, block.start, 0)
    return k


def remover(k: Kernel, *, storage: bool, flush: bool) -> Remover:
    def free(frames: list[Span], height: int) -> None:
        free_pages(k, frames, PLACE)

    return Remover(
        free_table=free,
        free_storage=free if storage else None,
        leaf_flush=(FLUSH, FLUSH) if flush else (),
        table="kept",
    )


def removes(k: Kernel, *, storage: bool = True, flush: bool = True, count: int = LEAVES, more: int = 0) -> None:
    """Clear the first `count` leaves, and `more` bytes of the one behind them."""
    table, size = k.statics(Leaves).table(k), k.config.page_size
    start = table.va + FIRST * size
    unmap(k.hw, table, start, start + count * size + more, remover(k, storage=storage, flush=flush))


def run_of(*actors: Actor, prepare: Callable[[Kernel], None] | None = None) -> KernelRun:
    k = machine()
    if prepare is not None:
        prepare(k)
    run = KernelProgram(k, actors, tuple("AB"[: len(actors)])).run()
    run._is_ours = True  # users' loops may do other things with each entry
    run.tell_apart(frozenset())
    return run


def alone(run: KernelRun) -> tuple[list[int], Hashable]:
    """One actor to its end: the steps that each of its steps took along, and how the machine stands then."""
    while run.enabled(0):
        run.step(0, 0)
    return [done.along for done in run._done], (run.state(), run.behaviour(), vars(run._kernel.hw.ledger).copy())


def in_one_go(run: KernelRun) -> list[int]:
    """How many entries were dealt with in one go, each time."""
    return [together for done in run._done for together, _ in done.alike.values()]


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on, every entry is dealt with by itself."""
    return lambda: monkeypatch.setattr(AlikeEntries, "alike", lambda *_: 0)


def poisoned(k: Kernel) -> None:
    pfn = k.statics(Leaves).pages.start + 6
    k.page_flags.set(pfn, pfn + 1, PageFlags.HWPOISON)


def anothers(k: Kernel) -> None:
    pfn = k.statics(Leaves).pages.start + 6
    k.hw.memory.owners.set(pfn, pfn + 1, Owner(Use.KERNEL, "another"))


def read_only(k: Kernel) -> None:
    leaves = k.statics(Leaves)
    k.hw.store_leaves(leaves.table(k), FIRST + 6, 1, leaves.pages.start + 6, k.hw.fmt.bits(AP=2))


def elsewhere(k: Kernel) -> None:
    leaves = k.statics(Leaves)
    k.hw.store_leaves(leaves.table(k), FIRST + 6, 1, leaves.pages.start + 7, 0)
    k.hw.store_leaves(leaves.table(k), FIRST + 7, 1, leaves.pages.start + 6, 0)


def isolated(k: Kernel) -> None:
    zone = k.zone_of(k.statics(Leaves).pages.start)
    assert zone is not None
    pfn = k.statics(Leaves).pages.start + 6
    zone.isolated.add(pfn, pfn + 1)


def missing(k: Kernel) -> None:
    k.hw.clear_run(k.statics(Leaves).table(k), FIRST + 6, 1, PLACE, FLUSH)


PREPARED: list[tuple[Callable[[Kernel], None] | None, list[int]]] = [
    (None, [LEAVES - 2]),
    (poisoned, [4, 3]),
    (anothers, [4, 3]),
    (isolated, [4, 3]),
    (read_only, [4, 3]),
    (elsewhere, [4, 3]),
    (missing, [4, 3]),
]
"""What is done to the seventh leaf first, and how many are dealt with in one go then."""


@pytest.mark.parametrize(("prepare", "together"), PREPARED, ids=lambda one: getattr(one, "__name__", None))
def test_leaves_that_are_alike_go_in_one_go_and_each_counts_as_it_does_by_itself(
    prepare: Callable[[Kernel], None] | None, together: list[int], one_by_one: Callable[[], None]
) -> None:
    run = run_of(removes, prepare=prepare)
    ended = alone(run)
    assert in_one_go(run) == together
    one_by_one()
    single = run_of(removes, prepare=prepare)
    assert alone(single) == ended
    assert in_one_go(single) == []


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("storage", [False, True])
def test_leaves_whose_pages_go_before_a_flush_go_by_themselves(
    storage: bool, flush: bool, one_by_one: Callable[[], None]
) -> None:
    actor = partial(removes, storage=storage, flush=flush)
    run = run_of(actor)
    ended = alone(run)
    assert in_one_go(run) == ([] if storage and not flush else [LEAVES - 2])
    one_by_one()
    assert alone(run_of(actor)) == ended


def test_a_leaf_of_which_only_a_part_is_to_go_goes_by_itself(one_by_one: Callable[[], None]) -> None:
    actor = partial(removes, count=LEAVES - 1, more=8)
    run = run_of(actor)
    ended = alone(run)
    assert in_one_go(run) == [LEAVES - 3]
    one_by_one()
    assert alone(run_of(actor)) == ended


def test_what_was_dealt_with_in_one_go_is_again_when_it_is_done_once_more(one_by_one: Callable[[], None]) -> None:
    def looks(k: Kernel) -> int:
        return k.hw.load(k.statics(Leaves).table(k), 0)

    def there_and_back(run: KernelRun) -> tuple[list[int], Hashable]:
        for thread in (0, 1):
            run.step(thread, 0)
        run.back(1)
        run.step(1, 0)
        return [done.along for done in run._done], run.state()

    run = run_of(removes, looks)
    ended = there_and_back(run)
    assert in_one_go(run) == [LEAVES - 2]
    one_by_one()
    assert there_and_back(run_of(removes, looks)) == ended


def test_what_comes_after_an_error_in_the_middle_goes_step_by_step_again() -> None:
    def free(frames: list[Span], height: int) -> None:
        if frames[0].size > 1:
            raise KernelError(errno.EIO, "several at once", place=PLACE)

    def fails(k: Kernel) -> bool:
        table, size = k.statics(Leaves).table(k), k.config.page_size
        how = replace(remover(k, storage=True, flush=True), free_storage=free)
        with suppress(KernelError):
            unmap(k.hw, table, table.va + FIRST * size, table.va + (FIRST + LEAVES) * size, how)
        assert k.hw.stepper is not None
        return k.hw.stepper.in_one_go

    run = run_of(fails)
    run.step(0, 0)
    assert in_one_go(run) == [LEAVES - 2]
    assert run.behaviour() == ((False,), (), (None,))


def sorts(k: Kernel) -> None:
    """Entries that lead nowhere, but are not empty, before empty ones."""
    table = k.statics(Leaves).table(k)
    k.hw.clear_run(table, FIRST, LEAVES, PLACE, FLUSH)
    k.hw.store_run(table, FIRST, np.array([1, 1], dtype=np.uint64), PLACE)


def test_empty_entries_are_not_dealt_with_like_those_before_them_that_are_neither_leaf_nor_empty(
    one_by_one: Callable[[], None],
) -> None:
    run = run_of(removes, prepare=sorts)
    ended = alone(run)
    assert in_one_go(run) == [LEAVES - 4]
    one_by_one()
    assert alone(run_of(removes, prepare=sorts)) == ended


@pytest.mark.parametrize("pages", [1, 5])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_translations_left_from_before_go_with_the_flush_that_they_go_with_one_by_one(
    times: int, pages: int, one_by_one: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A translation of an entry behind those that are cleared is there still; only the last flush reaches it."""
    monkeypatch.setattr(sys.modules[__name__], "FLUSH", FLUSH._replace(times=times, pages=pages))
    actor = partial(removes, storage=False, count=LEAVES - 2)

    def left(k: Kernel) -> None:
        k.hw.clear_run(k.statics(Leaves).table(k), FIRST + LEAVES - 1, 1, PLACE)

    run = run_of(actor, prepare=left)
    ended = alone(run), len(run._kernel.hw.tlb.stale)
    one_by_one()
    single = run_of(actor, prepare=left)
    assert (alone(single), len(single._kernel.hw.tlb.stale)) == ended


def upper(k: Kernel) -> Table:
    """A table of 2 MiB leaves, under which a table of base pages would be that of :class:`Leaves`."""
    return Table(k.statics(Leaves).frame, 1, k.layout.vmalloc.span.start >> 30 << 30)


def removes_upper(k: Kernel) -> None:
    table, size = upper(k), k.hw.fmt.levels[1].size
    start = table.va + FIRST * size
    unmap(k.hw, table, start, start + LEAVES * size, remover(k, storage=False, flush=True))


def fill_upper(k: Kernel) -> None:
    leaves = k.statics(Leaves)
    k.hw.clear_run(leaves.table(k), FIRST, LEAVES, PLACE, FLUSH)
    k.hw.store_leaves(upper(k), FIRST, LEAVES, leaves.pages.start >> 9 << 9, 0)


def test_leaves_above_base_pages_touch_what_they_do_one_by_one(one_by_one: Callable[[], None]) -> None:
    run = run_of(removes_upper, prepare=fill_upper)
    run.step(0, 0)
    together, touched = in_one_go(run), set(apart(run.touched_along))
    one_by_one()
    single = run_of(removes_upper, prepare=fill_upper)
    single.step(0, 0)
    assert sum(together) > LEAVES // 2
    assert touched == set(apart(single.touched_along))


def apart(touched: Iterable[tuple[Hashable, int]]) -> Iterator[tuple[Hashable, int]]:
    """What was touched, of stretches each part by itself."""
    for target, mode in touched:
        if isinstance(target, Stretch):
            yield from (((*target.of, at), mode) for at in range(target.start, target.end))
        else:
            yield target, mode


def loads(k: Kernel, at: int) -> int:
    return k.hw.load(k.statics(Leaves).table(k), at)


def stores(k: Kernel, at: int) -> None:
    leaves = k.statics(Leaves)
    k.hw.store_leaves(leaves.table(k), at, 1, leaves.pages.start + 100, 0)


def clears(k: Kernel, at: int) -> None:
    k.hw.clear_run(k.statics(Leaves).table(k), at, 1, PLACE)


def takes(k: Kernel, at: int) -> tuple[int, ...]:
    return tuple(span.start for span in alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "taken"), where=PLACE))


@pytest.mark.parametrize("at", [FIRST, FIRST + 1, FIRST + 3, FIRST + 4, FIRST + 5])
@pytest.mark.parametrize("other", [loads, stores, clears])
def test_where_another_actor_comes_between_leaves_every_schedule_comes_to_what_it_does_one_by_one(
    other: Callable[[Kernel, int], Hashable], at: int
) -> None:
    def ends(*, together: bool) -> set[Hashable]:
        run = run_of(partial(removes, storage=False, count=5), lambda k: other(k, at))
        run.tell_apart(frozenset() if together else None)
        verdict = search(run, EVERYTHING, reduce=together)
        run.close()
        assert verdict.finished
        return verdict.coverage.behaviours

    assert ends(together=True) == ends(together=False)


def test_where_another_allocates_pages_it_gets_what_it_does_with_every_leaf_by_itself(
    one_by_one: Callable[[], None],
) -> None:
    def ends() -> tuple[set[Hashable], int, int]:
        run = run_of(removes, partial(takes, at=0))
        verdict = search(run, EVERYTHING)
        run.close()
        return verdict.coverage.behaviours, verdict.coverage.executions, verdict.coverage.steps

    together = ends()
    one_by_one()
    assert together == ends()


RACES = [
    ("vmalloc-vs-hot-remove", "V5", "arm64-64K-48-arm64-hotremove-v7"),
    ("vmalloc-vs-hot-remove", "V7", "arm64-16K-47-linux-6.12"),
    ("pagemap-lookup-vs-unmap", "generic", "arm64-16K-48-linux-6.12"),
    ("pfn-walker-vs-offline", "hotplug-lock", "arm64-16K-47-linux-6.12"),
    ("pfn-valid-vs-remove", "grace-period", "arm64-64K-48-linux-6.12"),
    ("split-vs-remove", "partial-removal", "arm64-4K-39-linux-7.2"),
]
"""Case, variant, configuration."""


def drawn(run: KernelRun, seed: int) -> tuple[list[int], Hashable]:
    """Steps are drawn, now and then some taken back: what each has taken along, and how all stands at the end."""
    run.back(0)
    random = Random(seed)
    for _ in range(200):
        threads = [thread for thread in range(len(run.pending)) if run.enabled(thread)]
        if not threads or run.broken:
            break
        run.step(random.choice(threads), 0)
        if random.random() < 1 / 25:
            run.back(max(0, len(run._done) - random.randrange(1, 10)))
    return [done.along for done in run._done], (run.state(), run.broken, [done.op.text for done in run._done])


@pytest.mark.parametrize(("name", "variant", "configuration"), RACES)
def test_schedules_of_races_are_the_same_with_every_entry_by_itself(
    name: str, variant: str, configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = case(name)
    run = one.program(variant, configuration).run()
    run.tell_apart(frozenset())
    search(run, one.limits)
    shared, found = run.shared, []
    together = 0
    for seed in range(4):
        found.append(drawn(run, seed))
        together += sum(in_one_go(run))
    assert together
    monkeypatch.setattr(AlikeEntries, "alike", lambda *_: 0)
    single = one.program(variant, configuration).run()
    single.tell_apart(shared)
    assert [drawn(single, seed) for seed in range(4)] == found
