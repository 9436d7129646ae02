"""What accesses touch depends on the machine as it is: with it the reduced search sees what every schedule shows."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable

import pytest

from kernels import kernel
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.search import Limits, search
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.mm.vmalloc import Vmalloc, vmalloc
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

HERE = "tests"


def entries(k: Kernel, table: Table) -> list[int]:
    """What stands in a table, without anybody being asked."""
    row = k.hw.memory.arena.row(table.frame)
    assert row is not None
    return [int(entry) for entry in row]


def leaves(k: Kernel) -> Table:
    """The table that maps the vmalloc area `mapped`."""
    table = k.init_mm
    va = k.statics(Vmalloc).vmap_areas["mapped"][0].start
    while table.height:
        index = k.hw.fmt.index(va, table.height)
        table = k.hw.child(table, index, k.hw.fmt.table_pfn(entries(k, table)[index]))
    return table


def page(k: Kernel, number: int, count: int = 1) -> Span:
    """Pages of the vmalloc area."""
    pfn = k.statics(Vmalloc).vmap_areas["mapped"][1][0].start + number
    return Span(pfn, pfn + count)


def clear(number: int) -> Callable[[Kernel], Hashable]:
    def actor(k: Kernel) -> None:
        k.hw.store(leaves(k), number, 0, HERE)

    return actor


def fill(number: int) -> Callable[[Kernel], Hashable]:
    def actor(k: Kernel) -> None:
        k.hw.store_leaves(leaves(k), number, 1, page(k, 2).start, k.port.page_kernel(k), HERE)

    return actor


def flush(k: Kernel) -> None:
    k.port.flush_tlb_all(k)


def flush_range(k: Kernel) -> None:
    k.port.flush_tlb_kernel_range(k, k.statics(Vmalloc).vmap_areas["mapped"][0])


def flush_fixmap(k: Kernel) -> None:
    start = k.layout.fixmap.start
    k.port.flush_tlb_kernel_range(k, Span(start, start + k.config.page_size))


def give_back(number: int, count: int = 1) -> Callable[[Kernel], Hashable]:
    def actor(k: Kernel) -> None:
        k.hw.release(page(k, number, count), Owner(Use.FREE), HERE)

    return actor


def take(number: int) -> Callable[[Kernel], Hashable]:
    def actor(k: Kernel) -> None:
        k.hw.claim(page(k, number), Owner(Use.KERNEL, "taken"), HERE)

    return actor


def one_after_the_other(*actors: Callable[[Kernel], Hashable]) -> Callable[[Kernel], Hashable]:
    def actor(k: Kernel) -> None:
        for one in actors:
            one(k)

    return actor


PROGRAMS = [
    ((clear(0), give_back(0), flush), (take(0),)),
    ((clear(0), flush, give_back(0)), (take(0), flush)),
    ((give_back(0), clear(0), flush), (flush, take(0))),
    ((clear(0), flush), (fill(0), flush)),
    ((clear(0), clear(1), give_back(1)), (fill(0), flush, take(1))),
    ((fill(8), clear(8), give_back(2)), (fill(8), flush, take(2))),
    ((clear(0), give_back(0)), (clear(1), give_back(1), take(0))),
    ((fill(8), flush), (fill(9), flush)),
    ((clear(8), give_back(2)), (fill(8), flush)),
    ((clear(8),), (fill(8), flush)),
    ((give_back(0, 3),), (take(1),)),
    ((clear(0), give_back(0), flush_range), (take(0),)),
    ((clear(0), give_back(0)), (flush_range, take(0))),
    ((clear(0), give_back(0)), (flush_fixmap, take(0), flush)),
    ((clear(0), flush_range, give_back(0), flush_fixmap), (fill(8), clear(8), take(0))),
    ((clear(0), give_back(0), flush), (flush, flush_range)),
    ((clear(0),), (give_back(0),)),
    ((clear(0), clear(1), give_back(0)), (flush_range, give_back(1), flush)),
    ((flush, clear(0), flush_range, give_back(0)), (flush_range, take(0))),
    ((clear(0), flush, give_back(0)), (clear(1), flush, give_back(1), take(0))),
]


@pytest.mark.parametrize("first, second", PROGRAMS)
def test_reduction_loses_no_violation_and_no_behaviour(
    first: tuple[Callable[[Kernel], Hashable], ...], second: tuple[Callable[[Kernel], Hashable], ...]
) -> None:
    k = kernel("arm64", rodata_full=False)
    vmalloc(k, 16 * KiB, "mapped")
    actors = (one_after_the_other(*first), one_after_the_other(*second))

    def found(reduce: bool) -> tuple[set[Hashable], set[str | None], int]:
        reasons: set[str | None] = set()

        def check(machine: Kernel) -> str | None:
            state = (
                tuple(leaves(machine)),
                tuple(entries(machine, leaves(machine))[:10]),
                tuple(str(machine.hw.memory.owners.get(page(machine, number).start)) for number in range(3)),
                sorted(violation.law for violation in machine.hw.violations),
                machine.hw.tlb.exposed_set().size,
                machine.hw.tlb.exposed_frames,
                bool(machine.hw.tlb.stale),
            )
            reasons.add(str(state))
            return None

        run = KernelRun(KernelProgram(k, actors, ("a", "b"), check=check))
        every = Limits(stop_at_failure=False, keep_behaviours=True)
        coverage = search(run, every, reduce=reduce).coverage
        return coverage.behaviours, reasons, coverage.executions

    reduced, exhaustive = found(True), found(False)
    assert reduced[:2] == exhaustive[:2]
    assert reduced[2] <= exhaustive[2]


def test_frames_far_apart_and_entries_that_were_empty_have_nothing_to_do_with_a_flush() -> None:
    k = kernel("arm64", rodata_full=False)
    vmalloc(k, 16 * KiB, "mapped")
    actors = (one_after_the_other(flush, flush, flush), one_after_the_other(fill(8), fill(9)))
    coverage = search(KernelProgram(k, actors, ("a", "b")).run(), Limits(stop_at_failure=False)).coverage
    assert coverage.executions == 1
    others = (one_after_the_other(flush_fixmap, flush_fixmap), one_after_the_other(clear(0), clear(1)))
    assert search(KernelProgram(k, others, ("a", "b")).run(), Limits(stop_at_failure=False)).coverage.executions == 1
    cleared = (one_after_the_other(flush, flush, flush), one_after_the_other(clear(0)))
    coverage = search(KernelProgram(k, cleared, ("a", "b")).run(), Limits(stop_at_failure=False)).coverage
    assert coverage.executions == 4
