"""What CPUs count together: memory groups by their blocks, pools by their free huge pages, and each CPU for itself."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from contextlib import suppress

import pytest

from generated_programs import KEPT
from memhp.errors import BadInput, KernelError
from memhp.explore.case import Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_groups import memory_group_register_static, memory_group_unregister
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.hugetlb import FROZEN, available_huge_pages, end_promise
from memhp.linux.mm.page_alloc import alloc_pages, free_pages, take_pages_off_buddy
from memhp.linux.mm.rmqueue import free_cma_pages
from memhp.linux.mm.users import allocate
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB
from own_record import MACHINE, machine, own
from searched import PLACE, has_seen, verdicts

# Steps that the code names itself -------------------------------------------------------------------------------------


def test_who_counts_itself_in_and_waits_for_the_other_reads_again_and_again() -> None:
    """What belongs to the step that was named is one access, not all of a loop: a barrier ends."""

    def comes(k: Kernel) -> None:
        k.hw.atomic("word")
        own(k).word += 1
        while own(k).word != 2:
            pass

    assert verdicts((comes, comes), exhaustive=False) == {"safe"}


def test_what_was_stored_may_be_another_s_when_it_is_read_whether_the_store_was_named_or_not() -> None:
    def stores_and_looks(k: Kernel) -> None:
        k.hw.writes("word")
        own(k).word = 1
        own(k).saw = own(k).word if own(k).word != 1 else None

    def stores(k: Kernel) -> None:
        own(k).word = 2

    assert verdicts((stores_and_looks, stores), has_seen) == {"broken"}


# Memory groups, pools of huge pages ---------------------------------------------------------------------------------


def test_two_who_drop_one_memory_group_free_it_twice() -> None:
    """drivers/base/memory.c:memory_group_unregister() looks it up, and frees it, without a lock."""
    k = machine()
    mgid = memory_group_register_static(k, 0, 512)

    def drops(k: Kernel) -> None:
        with suppress(KernelError):
            memory_group_unregister(k, mgid)

    failure = search(KernelProgram(k, (drops, drops), ("A", "B")).run()).failure
    assert failure is not None and failure.reason.startswith("use-after-free: memory_group ")


def test_two_who_end_one_promise_of_huge_pages_do_it_one_after_the_other() -> None:
    """mm/hugetlb.c:hugetlb_acct_memory() holds hugetlb_lock for all of it."""
    k = machine()
    allocate(k, k.config.pmd_size, "hugetlb-reserved", "mapping")

    def ends(k: Kernel) -> Hashable:
        return end_promise(k, "mapping")

    run = KernelProgram(k, (ends, ends), ("A", "B")).run()
    found = search(run, Limits(keep_behaviours=True)).coverage.behaviours
    assert {state[0] for state in found} == {(True, False), (False, True)}  # type: ignore[index]


def test_a_pool_counts_what_was_put_into_it_and_not_what_somebody_marked() -> None:
    """``free_huge_pages`` is a counter under hugetlb_lock; pages are not counted when somebody asks for it."""
    k = machine()
    (page,) = alloc_pages(k, 9, 0, movable=True, owner=FROZEN, where=PLACE)

    def marks(k: Kernel) -> None:
        k.hw.retag(page, Owner(Use.HUGETLB_FREE), PLACE)

    def counts(k: Kernel) -> None:
        with k.hw.locked("hugetlb_lock"):
            own(k).saw = available_huge_pages(k, Use.HUGETLB_FREE) or None

    assert verdicts((marks, counts), has_seen) == {"safe"}
    assert verdicts((marks, counts), laws_hold) == {"broken"}


# Free pages of CMA -----------------------------------------------------------------------------------------------


def with_cma() -> tuple[Kernel, Span]:
    """A machine with a CMA area, of which a page is in use, and nothing else left that kernel memory may have."""
    config = Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE)
    start = config.port.ram_start
    area = Span(start + 512 * MiB, start + 576 * MiB)
    k = start_kernel(MachineSpec("explored", config, (Ram(start, GiB),), cma=(area,)))
    page = Span(area.start // config.page_size, area.start // config.page_size + 1)
    assert take_pages_off_buddy(k, page, Owner(Use.MOVABLE, "process"), PLACE)
    while alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL, "the rest"), where=PLACE):
        pass
    return k, page


def test_free_pages_of_cma_are_counted_without_a_lock_for_who_may_not_have_them() -> None:
    """mm/page_alloc.c:zone_watermark_fast() reads NR_FREE_PAGES and then NR_FREE_CMA_PAGES: one page of an area that is
    freed in between is taken off, and not counted; no order gives kernel memory a page that the area has.
    """
    k, page = with_cma()
    zone = k.zone_of(page.start)
    assert zone is not None and free_cma_pages(zone) == 16383

    def frees(k: Kernel) -> None:
        free_pages(k, [page], PLACE)

    def allocates(k: Kernel) -> Hashable:
        return len(alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "kernel"), where=PLACE))

    for actors in ((allocates, frees), (frees, allocates)):
        run = KernelProgram(k, actors, ("A", "B")).run()
        found = search(run, KEPT)
        assert found.failure is None
        assert {frozenset(state[0]) for state in found.coverage.behaviours} == {frozenset({None, 0})}  # type: ignore[index]
        assert found.coverage.executions > 2


# What is counted by CPU ---------------------------------------------------------------------------------------------


def counts_itself(k: Kernel) -> None:
    k.hw.adds("by cpu")
    counts = own(k).by_cpu
    counts[k.hw.cpu] = counts.get(k.hw.cpu, 0) + 1


def sums(k: Kernel) -> None:
    own(k).saw = sum(own(k).by_cpu.values()) or None


def test_counters_of_cpus_are_added_to_in_any_order_and_summed_up_in_one() -> None:
    counting = KernelProgram(machine(), (counts_itself,) * 3, ("A", "B", "C"))
    assert search(counting.run()).classes == 1
    assert verdicts((counts_itself, sums), has_seen) == {"broken"}


@pytest.mark.parametrize(
    "changes",
    [
        lambda k: setattr(own(k), "last", k.hw.cpu),
        lambda k: own(k).by_cpu.update({5: 1}),
        lambda k: own(k).by_cpu.clear(),
        lambda k: len(own(k).by_cpu),
        lambda k: own(k).last,
    ],
)
def test_who_adds_to_its_own_counter_looks_at_nothing_else_in_that_step(changes: Actor) -> None:
    def adds(k: Kernel) -> None:
        k.hw.adds("by cpu")
        changes(k)

    with pytest.raises(BadInput, match=r"by cpu: after k.hw.adds\(\) only the CPU's own entry"):
        verdicts((adds, adds))
