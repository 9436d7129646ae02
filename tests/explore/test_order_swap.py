"""Statements of the kernel's code that come the other way round are noticed; ``bench/orders.py`` tries many more."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache

import pytest

from bench.lock_pairs import pairs
from bench.order_table import ORDERS
from memhp.errors import BadInput
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.verdict import Verdict
from memhp.explore.order_swap import Order, locks_around, swapped

NOTICED = (
    (Order("mm.vmalloc", "vfree", "k.port.flush_tlb_kernel_range(", "free_pages("), "vfree | allocate"),
    (Order("mm.vmalloc", "vfree", "vunmap_range_noflush(", "k.port.flush_tlb_kernel_range("), "vfree | allocate"),
    (Order("arch.riscv.mm.pgtable", "_unlink", "_detach(", "_free("), "vmalloc-huge | allocate"),
    (Order("arch.arm64.mm.huge_vmap", "_free", "hw.flush_plan(", "free_tables("), "arm64: vmalloc-huge | allocate"),
    (Order("arch.x86.mm.pgtable", "pmd_free_pte_page", "_detach(", "_free("), "x86-64: vmalloc-huge | allocate"),
)
"""Two statements that must stand in this order, and two paths that meet."""


READ = "set-memory | read"
SPLIT = (
    (Order("arch.riscv.mm.pageattr", "_split_leaf", "hw.fill_children(", "hw.store("), READ),
    (Order("arch.arm64.mm.split_kernel_leaf", "_split_leaf", "hw.store_children(", "hw.store("), f"arm64: {READ}"),
    (Order("arch.x86.mm.pat.set_memory", "_split_large_page", "hw.fill_children(", "hw.store("), f"x86-64: {READ}"),
)
"""A table is filled, then takes a leaf's place; somebody reads what the leaf maps."""


@cache
def programs() -> dict[str, KernelProgram]:
    wanted = {pair for _, pair in (*NOTICED, *SPLIT)}
    return {name: program() for name, program in pairs() if name in wanted}


def decided(pair: str) -> Verdict:
    run = programs()[pair].run()
    run.tell_apart(frozenset())
    try:
        return search(run, Limits(executions=60))
    finally:
        run.close()


@pytest.mark.parametrize(("order", "pair"), NOTICED, ids=[str(order) for order, _ in NOTICED])
def test_what_is_freed_before_it_is_flushed_is_reached_by_others(order: Order, pair: str) -> None:
    with swapped(order):
        turned = decided(pair)
    assert turned.failure is not None
    assert turned.failure.reason.startswith("flush-before-free: ")


@pytest.mark.parametrize(("order", "pair"), SPLIT, ids=[pair for _, pair in SPLIT])
def test_a_table_that_is_filled_where_others_find_it_is_an_oops_for_them(order: Order, pair: str) -> None:
    with swapped(order):
        turned = decided(pair)
    assert turned.failure is not None
    assert turned.failure.reason.startswith(("read: KernelBug: Unable to handle", "read: KernelBug: BUG: unable to"))


def test_a_lock_around_two_statements_is_found_where_a_with_statement_takes_it() -> None:
    of_split, of_copy = ORDERS[2].orders[5], ORDERS[2].orders[7]
    assert (of_split.function, of_copy.function) == ("_split_large_page", "pgd_ctor")
    assert locks_around(of_split) == locks_around(of_copy) == ["PGD_LOCK"]
    assert not locks_around(NOTICED[0][0])


@pytest.mark.parametrize("pair", sorted({pair for _, pair in (*NOTICED, *SPLIT)}))
def test_in_the_kernels_order_the_same_is_safe(pair: str) -> None:
    assert decided(pair).word == "safe"


def test_every_order_of_the_bench_is_one_of_the_code() -> None:
    for order in (order for sort in ORDERS for order in sort.orders):
        with swapped(order):
            pass


def test_statements_that_are_not_there_cannot_be_swapped() -> None:
    with pytest.raises(BadInput, match="wanted one such pair"), swapped(Order("mm.vmalloc", "vfree", "no", "such")):
        pass
