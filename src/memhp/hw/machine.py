"""The machine and its doors: the only ways in which kernel-side code touches shared state.

Ordinarily a door acts at once, and on a whole run of entries or tables. With a :class:`~memhp.hw.stepper.Stepper` in
place (the explorer's) every single access is first announced to it, which may let another CPU run or an allocation
fail; runs are then taken apart into single accesses in the order in which the kernel's loop makes them. Kernel-side
code cannot tell the difference: loops over entries and tables ask :meth:`Machine.batches` how many to take at a time.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator

import numpy as np

from memhp.errors import KernelBug
from memhp.hw.clock import Clock
from memhp.hw.dirty_log import Written
from memhp.hw.format import U64, Format
from memhp.hw.frame_doors import FrameDoors
from memhp.hw.ledger import Ledger, TableCounts, Violation
from memhp.hw.locks import LockDoors
from memhp.hw.memory import PhysicalMemory, Use
from memhp.hw.replaced import gone, leads_on
from memhp.hw.runs import Bools, empty_rows, frame_spans, leaf_run
from memhp.hw.shared import Counted
from memhp.hw.stepper import Access, Faults, Stepper, of_fields
from memhp.hw.tlb import ALL_ADDRESSES, Flush, FlushPlan, Table, TlbState
from memhp.spans import Span

ALL_BITS = (1 << 64) - 1


class Machine(LockDoors, FrameDoors, Clock):
    """CPUs, physical memory, translations and locks, behind doors."""

    def __init__(self, fmt: Format, *, nr_cpus: int = 1) -> None:
        LockDoors.__init__(self)
        Clock.__init__(self)
        self.fmt = fmt
        self.nr_cpus = nr_cpus
        self.cpu = 0
        """The CPU that runs now."""
        self.levels: dict[str, Counted] = {}
        """Counters that CPUs compare with marks, by name."""
        self.memory = PhysicalMemory(fmt.page_size // 8)
        self.tlb = TlbState(fmt, nr_cpus)
        self.ledger = Ledger()
        self.table_counts = TableCounts()
        self.violations: list[Violation] = []
        self.stepper: Stepper | None = None
        self.faults: Faults | None = None
        """What has allocations fail while no stepper is in place."""
        self.told: dict[tuple[Use, int], list[Span]] = {}
        self.told_busy: set[Span] = set()
        self.written: Written | None = None
        """A log of writes to page tables, while somebody keeps one."""

    @property
    def is_watched(self) -> bool:
        """Whether somebody steps in between accesses: what is done many times alike is then done so."""
        return self.stepper is not None

    # Entries of one table ------------------------------------------------------------------------------------

    def load(self, table: Table, index: int) -> int:
        """Read one entry: ``READ_ONCE()``."""
        if self.stepper is not None:
            self.stepper.step(Access("load", table, index))
        return int(self._row(table, "load")[index])

    def store(self, table: Table, index: int, value: int, where: str = "") -> None:
        """Write one entry: ``set_pte()`` and its kin."""
        if self.stepper is not None:
            self.stepper.step(Access("store", table, index, value))
        row = self._row(table, where)
        old = int(row[index])
        row[index] = value
        self._wrote(table, index, 1)
        if old != value and old != (none := self.fmt.empty[table.height]):
            if value != none and leads_on(self.fmt, self.memory.arena, table.height, old, value):
                return
            self.tlb.unmap(table, index, np.array([old], dtype=np.uint64), where)

    def load_run(self, table: Table, index: int, count: int) -> U64:
        """Read entries ``[index, index + count)``: a copy."""
        if self.stepper is None:
            return self._row(table, "load")[index : index + count].copy()
        if count == 1:
            return self._load_together(table, index, 1).copy()
        values = np.empty(count, dtype=np.uint64)
        done = 0
        while done < count:
            run = self._load_together(table, index + done, count - done)
            values[done : done + len(run)] = run
            done += len(run)
        return values

    def _load_together(self, table: Table, index: int, most: int) -> U64:
        """Read as many entries from `index` on as the stepper lets through at once, at least one and at most `most`."""
        assert self.stepper is not None
        together = self.stepper.loads(table, index, most if self.memory.arena.row(table.frame) is not None else 1)
        if not together:
            return np.array([self.load(table, index)], dtype=np.uint64)
        return self._row(table, "load")[index : index + together]

    def store_run(self, table: Table, index: int, values: U64, where: str = "") -> None:
        """Write entries from `index` on."""
        if self.stepper is not None:
            self._store_each(table, index, values, where)
            return
        run = self._row(table, where)[index : index + len(values)]
        old = run.copy()
        run[:] = values
        self._wrote(table, index, len(values))
        none = np.uint64(self.fmt.empty[table.height])
        if (old != none).any() if none else old.any():
            self.tlb.unmap(table, index, gone(self.fmt, self.memory.arena, table.height, old, values), where)

    def _store_each(self, table: Table, index: int, values: U64, where: str) -> None:
        """Write entries one after the other, as many at once as the stepper lets through."""
        assert self.stepper is not None
        done, count = 0, len(values)
        none = self.fmt.empty[table.height]
        while done < count:
            together = self.stepper.stores(table, index + done, values[done:]) if count - done > 1 else 0
            if not together:
                self.store(table, index + done, int(values[done]), where)
                done += 1
                continue
            first, new = index + done, values[done : done + together]
            run = self._row(table, where)[first : first + together]
            old = gone(self.fmt, self.memory.arena, table.height, run, new)
            run[:] = new
            self._wrote(table, first, together)
            for at in np.flatnonzero(old != none).tolist():  # each by itself: laws name the entry that led there
                self.tlb.unmap(table, first + at, old[at : at + 1], where)
            done += together

    def fill_run(self, table: Table, index: int, values: U64, where: str = "") -> None:
        """Write entries of a new table that nothing leads to yet, so that nobody can tell in which order."""
        self._row(table, where)[index : index + len(values)] = values
        self._wrote(table, index, len(values))

    def store_leaves(self, table: Table, index: int, count: int, pfn: int, prot: int, where: str = "") -> None:
        """Write `count` leaves that map the frames from `pfn` on, one after the other, over entries that are empty."""
        if self.stepper is not None:
            if count == 1:
                self.store(table, index, self.fmt.leaf_entry(pfn, table.height, prot), where)
                return
            leaves = np.empty(count, dtype=np.uint64)
            leaf_run(self.fmt, leaves, pfn, table.height, prot)
            self._store_each(table, index, leaves, where)
            return
        leaf_run(self.fmt, self._row(table, where)[index : index + count], pfn, table.height, prot)
        self._wrote(table, index, count)

    def clear_run(self, table: Table, index: int, count: int, where: str, flush: FlushPlan | None = None) -> None:
        """Clear `count` entries, which hold something as far as the caller knows; with `flush`, invalidate each as soon
        as it is cleared.
        """
        if self.stepper is not None:
            self._clear_each(table, index, count, where, flush)
            return
        run = self._row(table, where)[index : index + count]
        self._clear(run, table, index, where, flush, ALL_BITS)

    def _clear_each(self, table: Table, index: int, count: int, where: str, flush: FlushPlan | None) -> None:
        """Clear entries one after the other, or all before any flush if they go in one go: whatever stands there."""
        assert self.stepper is not None
        none, size = self.fmt.empty[table.height], self.fmt.levels[table.height].size
        if count > 1 and (flush is None or self.stepper.in_one_go):
            self._store_each(table, index, np.full(count, none, dtype=np.uint64), where)
            if flush is not None:
                self.flush_each(flush, table.va + index * size, size, count)
            return
        for i in range(index, index + count):
            self.store(table, i, none, where)
            if flush is not None:
                self.flush_plan(flush, table.va + i * size)

    def expect_clear(self, table: Table, index: int, values: U64, where: str) -> None:
        """Entries from `index` on, which hold `values`, go next; what they lead to is given back before they do."""
        self.tlb.expect(table, index, values, where)

    def leaves_behind(self, table: Table, index: int, values: U64, where: str) -> None:
        """Entries from `index` on, which hold `values`, stay in a table to which nothing leads any more, or soon will
        not: CPUs may hold them until a flush.
        """
        self.tlb.unmap(table, index, values, where)

    def _clear(self, run: U64, table: Table, index: int, where: str, flush: FlushPlan | None, goes: int) -> bool:
        """Clear the entries that have a bit of `goes`; whether that were all that are not empty."""
        none = np.uint64(self.fmt.empty[table.height])
        if goes != ALL_BITS and not int(np.bitwise_and.reduce(run)) & goes:
            stays = (run != none) & ((run & np.uint64(goes)) == 0)
            if stays.any():
                for part in frame_spans(np.flatnonzero(~stays).astype(np.uint64)):
                    self._clear(run[part.start : part.end], table, index + part.start, where, flush, ALL_BITS)
                return False
        changed = int(np.count_nonzero(run != none if none else run))
        self.ledger.stores += changed
        if self.written is not None:
            self.written.entries(table, index, len(run))
        if flush is None:
            self.tlb.unmap(table, index, run, where)
        else:
            self._count_flushes(flush.flush, changed * flush.times, changed * flush.pages)
            self.tlb.cleared(table, index, run)
            if self.tlb.stale:
                step = self.fmt.levels[table.height].size
                first = table.va + index * step
                self.tlb.flush(flush.flush, Span(first, first + len(run) * step), self.cpu)
        run[:] = none
        return True

    def _wrote(self, table: Table, index: int, count: int) -> None:
        """Entries ``[index, index + count)`` have been written."""
        self.ledger.stores += count
        if self.written is not None:
            self.written.entries(table, index, count)

    def is_empty(self, table: Table) -> bool:
        """Whether a table holds nothing: entries are read until one that is not empty."""
        entries = self.fmt.levels[table.height].entries
        none = np.uint64(self.fmt.empty[table.height])
        if self.stepper is None:
            held = self._row(table, "load")[:entries]
            return not ((held != none).any() if none else held.any())
        at = 0
        while at < entries:
            row = self.memory.arena.row(table.frame)
            full = np.flatnonzero(row[at:entries] != none).tolist() if row is not None else []
            run = self._load_together(table, at, full[0] + 1 if full else entries - at)
            if run[-1] != none:
                return False
            at += len(run)
        return True

    def _row(self, table: Table, where: str) -> U64:
        row = self.memory.arena.row(table.frame)
        if row is None:
            text = f"frame {table.frame:#x} is used as a table at {table.va:#x} but holds none"
            self.violations.append(Violation("freed-table", text, where))
            raise KernelBug(f"page-table access to frame {table.frame:#x}, which holds no table", place=where or "hw")
        return row

    # Many tables of one level --------------------------------------------------------------------------------

    @property
    def whole_tables(self) -> bool:
        """Whether a loop may take whole tables at a time; the explorer wants single accesses."""
        return self.stepper is None

    def batches(self, start: int, end: int, table: Table | None = None) -> Iterator[tuple[int, int]]:
        """How a loop over ``[start, end)`` goes: all at once, or one by one for the explorer: (index, count).

        A loop that looks at each entry of `table` and fills it takes those at once that are its CPU's own affair.
        Where allocations may be made to fail, it goes by the parts that may be refused.
        """
        if self.stepper is not None:
            while start < end:
                together = self.stepper.own(table, start, end - start) if table is not None else 0
                yield start, together or 1
                start += together or 1
            return
        if start >= end:
            return
        if self.faults is None:
            yield start, end - start
            return
        for count in self.faults.parts(end - start):
            yield start, count
            start += count

    def alike(self, table: Table, start: int, end: int) -> Iterator[tuple[int, int]]:
        """As :meth:`batches`, for a loop over entries of which many are alike: in one go where nobody can tell."""
        if self.stepper is None:
            yield from self.batches(start, end)
        while self.stepper is not None and start < end:
            self.stepper.comes_to(table, start)
            yield start, 1
            start += 1
            if together := self.stepper.alike(table, start, end - start):
                try:
                    yield start, together
                    self.stepper.were_alike()
                finally:
                    self.stepper.in_one_go = False
                start += together

    def child(self, parent: Table, index: int, frame: int) -> Table:
        """The table that entry `index` of `parent` points to, when that entry holds `frame`."""
        return Table(frame, parent.height - 1, parent.va + index * self.fmt.levels[parent.height].size, parent.mm)

    def fill_children(self, parent: Table, frames: list[Span], pfn: int, prot: int) -> None:
        """Fill whole tables, new children of `parent` in `frames`, with leaves that map the frames from `pfn` on."""
        height = parent.height - 1
        if self.stepper is not None and (seen := self._linked_already(parent, frames)):
            for child in seen:
                self.store_leaves(child, 0, self.fmt.levels[height].entries, pfn, prot)
                pfn += self.fmt.levels[height].entries * self.fmt.pages_at(height)
            return
        pages = self.fmt.levels[height].entries * self.fmt.pages_at(height)
        for span in frames:
            for view in self.memory.arena.views(span):
                leaf_run(self.fmt, view.reshape(-1), pfn, height, prot)
                self.ledger.stores += view.size
                pfn += len(view) * pages

    def store_children(self, parent: Table, frames: list[Span], values: U64) -> None:
        """Fill whole tables, new children of `parent` in `frames`, with entries: `values` has shape [n, entries]."""
        if self.stepper is not None and (seen := self._linked_already(parent, frames)):
            for child, entries in zip(seen, values, strict=True):
                self.store_run(child, 0, entries)
            return
        place = 0
        for span in frames:
            for view in self.memory.arena.views(span):
                view[:] = values[place : place + len(view)]
                self.ledger.stores += view.size
                place += len(view)

    def _linked_already(self, parent: Table, frames: list[Span]) -> list[Table]:
        """Tables in `frames` that an entry of `parent` points to: others may see them while they are filled."""
        row = self._row(parent, "load")
        tables = np.flatnonzero(self.fmt.is_table(row, parent.height)).tolist()
        found = {self.fmt.table_pfn(int(row[at])): at for at in tables}
        pfns = [pfn for span in frames for pfn in range(*span)]
        return [self.child(parent, found[pfn], pfn) for pfn in pfns if pfn in found]

    def look_children(self, parent: Table, frames: U64) -> Iterator[tuple[int, U64]]:
        """Whole tables, children of `parent` in `frames`: (place in `frames`, contents, shape [n, entries]).

        The contents are not to be written, nor kept beyond the next store.
        """
        place = 0
        for span in frame_spans(frames):
            try:
                for view in self.memory.arena.views(span):
                    yield place, view
                    place += len(view)
            except KeyError as missing:
                raise KernelBug(
                    f"entry of table {parent.frame:#x} points to frame {missing.args[0]:#x}, which holds no table",
                    place="hw",
                ) from None

    def clear_children(
        self,
        parent: Table,
        index: int,
        frames: U64,
        where: str,
        flush: FlushPlan | None,
        *,
        goes: int = ALL_BITS,
    ) -> Bools:
        """Clear entries of whole tables, children of `parent` from entry `index` on (see :meth:`clear_run`): those in
        which a bit of `goes` is set. Which of the tables are empty now.
        """
        emptied = np.ones(len(frames), dtype=np.bool_)
        for place, view in self.look_children(parent, frames):
            child = self.child(parent, index + place, int(frames[place]))
            if not self._clear(view.reshape(-1), child, 0, where, flush, goes):
                emptied[place : place + len(view)] = empty_rows(self.fmt, view, child.height)
        return emptied

    def blank_tables(self, frames: list[Span], height: int) -> None:
        """New tables of a height, which nothing leads to yet, hold nothing: ``pmd_init()``, ``kernel_pte_init()``."""
        if self.fmt.empty[height]:
            for span in frames:
                for view in self.memory.arena.views(span):
                    view[:] = self.fmt.empty[height]

    # Translations --------------------------------------------------------------------------------------------

    def flush(self, flush: Flush, span: Span = ALL_ADDRESSES, times: int = 1) -> None:
        """Invalidate what CPUs may hold for the addresses in `span` (bytes); `times` operations do it."""
        if not times:
            return
        if self.stepper is not None:
            self.stepper.step(Access("flush", span))
        self._count_flushes(flush, times, 0 if span == ALL_ADDRESSES else span.size >> self.fmt.page_shift)
        self.tlb.flush(flush, span, self.cpu)

    def flush_plan(self, plan: FlushPlan, va: int) -> None:
        """Carry out a flush function's plan from address `va` on."""
        span = Span(va, va + (plan.pages << self.fmt.page_shift)) if plan.pages else ALL_ADDRESSES
        self.flush(plan.flush, span, plan.times)

    def flush_each(self, plan: FlushPlan, va: int, step: int, count: int) -> None:
        """Carry out the same plan `count` times, at addresses `step` bytes apart from `va` on."""
        if self.stepper is not None and not self.stepper.in_one_go:
            for i in range(count):
                self.flush_plan(plan, va + i * step)
        elif plan.times:
            size = max(count * step, plan.pages << self.fmt.page_shift)
            span = Span(va, va + size) if plan.pages else ALL_ADDRESSES
            if self.stepper is not None:
                self.stepper.step(Access("flush", span))
            self._count_flushes(plan.flush, count * plan.times, count * plan.pages)
            self.tlb.flush(plan.flush, span, self.cpu)

    def _count_flushes(self, flush: Flush, times: int, pages: int) -> None:
        if times:
            self.ledger.flushes[flush] += times
            self.ledger.flushed_pages[flush] += pages

    # What CPUs share outside page tables ----------------------------------------------------------------------

    def reads(self, *names: str) -> None:
        """Shared fields outside page tables are about to be read without a lock: ``READ_ONCE()``, a plain load."""
        if self.stepper is not None and names:
            self.stepper.step(of_fields(*names, write=False))

    def writes(self, field: str) -> None:
        """A shared field is about to be written without the lock that its readers hold: ``WRITE_ONCE()``."""
        if self.stepper is not None:
            self.stepper.step(Access("write", field))

    def atomic(self, field: str) -> None:
        """A counter or flag that CPUs share is about to be read and changed in one go: ``percpu_ref_*``."""
        if self.stepper is not None:
            self.stepper.step(Access("atomic", field))

    def adds(self, field: str) -> None:
        """The running CPU is about to change its own of the counters of a field, one for each: ``this_cpu_add()``."""
        if self.stepper is not None:
            self.stepper.step(Access("add", field))

    def wait(self, ready: Callable[[], bool], why: str, on: str = "") -> None:
        """Sleep until `ready()`: ``wait_for_completion()``. KernelBug when nobody is left to bring that about.

        `on` is the field that `ready` looks at, as whoever changes it names it at :meth:`atomic` or :meth:`writes`.
        """
        self.might_sleep(f"wait for {why}")
        if self.stepper is not None:
            self.stepper.wait(ready, why, on)
            return
        while not ready() and self._timers:
            self.advance(self._timers[0][0] - self.now)
        if not ready():
            raise KernelBug(f"CPU {self.cpu} waits for ever: {why}", place="hw")

    def spin(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Look at the field `on` again and again until `ready()`, without sleeping: ``cpu_relax()``."""
        if self.stepper is not None:
            self.stepper.wait(ready, why, on)
        elif not ready():
            raise KernelBug(f"CPU {self.cpu} spins for ever: {why}", place="hw")
