"""What the explorer remembers of page tables: which nothing points to, and which frames are tables once more."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush, Table
from memhp.linux.choices import Arch
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.state import Kernel
from memhp.spans import Span

HERE = "tests"
EVERYTHING = Flush("flush_tlb_all", "sfence.vma")
FREE_ENTRY = 3
"""An entry of the kernel's root table that nothing uses: user addresses."""


def machine(arch: Arch) -> Kernel:
    where = {one.arch: one for one in (Configuration("riscv64", 4096, 48), Configuration("x86_64", 4096, 48))}[arch]
    return boot(Variant("plain", "as released", "repaired", (where,)).config(where))


def new_table(k: Kernel) -> int:
    (frames,) = alloc_pages(k, 0, 0, owner=Owner(Use.TABLE), where=HERE)
    return frames.start


def with_table(arch: Arch) -> tuple[Kernel, Table]:
    """A kernel with a table of its own below an unused root entry."""
    k = machine(arch)
    frame = new_table(k)
    k.hw.store(k.init_mm, FREE_ENTRY, int(k.hw.fmt.encode_pfn(frame)) | k.hw.fmt.valid, HERE)
    return k, k.hw.child(k.init_mm, FREE_ENTRY, frame)


def reasons(k: Kernel, *actors: Actor) -> set[str]:
    """How explorations that go on after a failure end: the laws broken."""
    names = tuple(f"cpu {i}" for i in range(len(actors)))
    run = KernelProgram(k, actors, names).run()
    coverage = search(run, Limits(stop_at_failure=False, keep_behaviours=True)).coverage
    laws: set[str] = set()
    for behaviour in coverage.behaviours:
        assert isinstance(behaviour, tuple)
        laws.update(behaviour[1])
    return laws


def write_through_pointer(k: Kernel) -> None:
    """Read the pointer to a table, then write an entry there."""
    entry = k.hw.load(k.init_mm, FREE_ENTRY)
    if entry:
        child = k.hw.child(k.init_mm, FREE_ENTRY, k.hw.fmt.table_pfn(entry))
        k.hw.store(child, 7, k.hw.fmt.valid, HERE)


def unlink(k: Kernel) -> None:
    """Clear the pointer; the table is kept."""
    k.hw.load(k.init_mm, FREE_ENTRY)
    k.hw.store(k.init_mm, FREE_ENTRY, 0, HERE)


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
def test_a_write_into_a_table_that_was_unlinked_is_lost(arch: Arch) -> None:
    k, _ = with_table(arch)
    assert reasons(k, write_through_pointer, unlink) == {"lost-write"}


def test_the_trace_says_who_unlinked_the_table() -> None:
    k, table = with_table("riscv64")
    run = KernelProgram(k, (write_through_pointer, unlink), ("writer", "unlinker")).run()
    verdict = search(run)
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith(f"lost-write: entry 7 of the table at {table.va:#x} is written, but ")
    assert replay(run, verdict.failure.schedule).reason == verdict.failure.reason


def test_an_entry_may_be_cleared_in_a_table_that_was_unlinked() -> None:
    k, table = with_table("riscv64")
    k.hw.store(table, 7, k.hw.fmt.valid, HERE)

    def clear_through_pointer(k: Kernel) -> None:
        if k.hw.load(k.init_mm, FREE_ENTRY):
            k.hw.store(table, 7, 0, HERE)

    assert reasons(k, clear_through_pointer, unlink) == set()


def test_a_table_that_is_linked_again_takes_writes() -> None:
    k, table = with_table("riscv64")

    def move(k: Kernel) -> None:
        entry = k.hw.load(k.init_mm, FREE_ENTRY)
        k.hw.store(k.init_mm, FREE_ENTRY, 0, HERE)
        k.hw.store(k.init_mm, FREE_ENTRY, entry, HERE)
        k.hw.store(table, 7, k.hw.fmt.valid, HERE)

    assert reasons(k, move) == set()


def test_a_frame_that_is_a_table_again_elsewhere_is_not_the_table_that_was_read() -> None:
    k, table = with_table("riscv64")
    frames = Span(table.frame, table.frame + 1)

    def free_and_reuse(k: Kernel) -> None:
        k.hw.store(k.init_mm, FREE_ENTRY, 0, HERE)
        k.hw.flush(EVERYTHING)
        free_pages(k, [frames], HERE)
        frame = new_table(k)
        assert frame == table.frame, "the lowest free frame is the one just freed"
        k.hw.store(k.init_mm, FREE_ENTRY + 1, int(k.hw.fmt.encode_pfn(frame)) | k.hw.fmt.valid, HERE)

    assert reasons(k, free_and_reuse) == set()
    assert "freed-table" in reasons(k, write_through_pointer, free_and_reuse)


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
@pytest.mark.parametrize("freed", ["before it is unlinked", "before the flush", "after the flush"])
def test_a_table_is_freed_behind_the_flush_that_follows_its_unlinking(arch: Arch, freed: str) -> None:
    """Whether or not the code says beforehand that it frees what an entry leads to and clears that then."""
    k, table = with_table(arch)

    def free(k: Kernel) -> None:
        free_pages(k, [Span(table.frame, table.frame + 1)], HERE)

    def take_down(k: Kernel) -> None:
        k.hw.load(k.init_mm, FREE_ENTRY)
        if freed == "before it is unlinked":
            free(k)
        k.hw.store(k.init_mm, FREE_ENTRY, 0, HERE)
        if freed == "before the flush":
            free(k)
        k.hw.flush(EVERYTHING)
        if freed == "after the flush":
            free(k)

    def take(k: Kernel) -> None:
        alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where=HERE)

    assert reasons(k, take_down, take) == (set() if freed == "after the flush" else {"flush-before-free"})


@pytest.mark.parametrize("flushed", [True, False])
def test_what_a_table_leads_to_may_be_freed_when_nothing_leads_to_that_table_and_all_is_flushed(flushed: bool) -> None:
    """arch/riscv/mm/pgtable.c:pud_free_pmd_page: one entry is cleared and flushed, and two levels of tables are freed,
    the upper of which still points to the lower.
    """
    k, table = with_table("riscv64")
    lower = new_table(k)
    k.hw.store(table, 0, int(k.hw.fmt.encode_pfn(lower)) | k.hw.fmt.valid, HERE)

    def take_down(k: Kernel) -> None:
        k.hw.load(k.init_mm, FREE_ENTRY)
        k.hw.load(table, 0)
        k.hw.store(k.init_mm, FREE_ENTRY, 0, HERE)
        if flushed:
            k.hw.flush(EVERYTHING)
        for frame in (lower, table.frame):
            free_pages(k, [Span(frame, frame + 1)], HERE)
        if not flushed:
            k.hw.flush(EVERYTHING)

    def take(k: Kernel) -> None:
        alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where=HERE)

    assert reasons(k, take_down, take) == (set() if flushed else {"flush-before-free"})
