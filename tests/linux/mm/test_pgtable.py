"""Building and removing kernel page tables: against a plain array, and step by step against all at once."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.errors import KernelBug
from memhp.hw.format import Format
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush, FlushPlan, Table
from memhp.hw.walker import leaves, tables, translate
from memhp.linux.arch.arm64.format import CONTIGUOUS
from memhp.linux.formats import FORMATS
from memhp.linux.mm.pgtable_populate import Builder, FixmapSlot, RootLock, ensure_table, populate
from memhp.linux.mm.pgtable_remove import Remover, free_empty_tables, unmap
from memhp.spans import Span
from table_bench import EVERYTHING, FLUSH, FORMS, PROT, STORAGE, Bench

formats = pytest.mark.parametrize("name", FORMS)


@dataclass(frozen=True)
class Step:
    """Units ``[first, first + count)`` of the window are mapped, to frames that are `skew` units off, or unmapped."""

    maps: bool
    first: int
    count: int
    skew: int = 0


@dataclass(frozen=True)
class Life:
    """What happens to a window of a bench. Units are as large as the smallest leaf."""

    heights: list[int]
    size: int
    steps: list[Step]

    def unit(self, fmt: Format) -> int:
        return fmt.levels[self.heights[0]].size

    def pfn(self, fmt: Format, step: Step) -> int:
        """The first frame of a step; equal skews give equal frames to equal places."""
        return STORAGE.start + (step.first + step.skew) * fmt.pages_at(self.heights[0])


@st.composite
def lives(draw: st.DrawFn, fmt: Format) -> Life:
    lowest = draw(st.sampled_from([h for h, level in enumerate(fmt.levels) if level.leaf and h < fmt.root_height]))
    larger = [h for h, level in enumerate(fmt.levels) if level.leaf and h > lowest]
    heights = [lowest, *(h for h in larger if draw(st.booleans()))]
    count = fmt.levels[lowest].entries
    size = 2 * count + 700
    whole = max(1, fmt.levels[heights[-1]].size // fmt.levels[lowest].size)
    places = st.one_of(st.integers(0, size), st.sampled_from([n for n in (0, 700, 700 + count, size) if n <= size]))
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        maps = draw(st.booleans())
        a, b = sorted((draw(places), draw(places)))
        if not maps:
            # No leaf lies across the edge of what goes: what happens to such leaves is told apart below.
            a, b = (a - 700) // whole * whole + 700 if a else 0, (b - 700) // whole * whole + 700
        steps.append(Step(maps, max(a, 0), max(0, b - max(a, 0)), draw(st.sampled_from((0, 1, count)))))
    return Life(heights, size, steps)


def invalidate(bench: Bench, va: int, end: int, mask: int) -> None:
    """Some leaves of a range (bytes), every fifth, lose the bits of `mask`: neither none nor present from then on."""
    stepper, bench.hw.stepper = bench.hw.stepper, None
    found = leaves(bench.hw.memory, bench.fmt, bench.root.frame, va_start=va, va_end=end)
    for at, height in list(zip(found.va.tolist(), found.height.tolist(), strict=True))[::5]:
        table = bench.root
        while table.height > height:
            index = bench.fmt.index(at, table.height)
            table = bench.hw.child(table, index, bench.fmt.table_pfn(bench.hw.load(table, index)))
        index = bench.fmt.index(at, height)
        bench.hw.store(table, index, bench.hw.load(table, index) & ~mask)
        bench.hw.flush_plan(EVERYTHING, 0)
    bench.hw.stepper = stepper


def live(
    bench: Bench,
    life: Life,
    builder: Builder,
    remover: Remover,
    limits: Span | None = None,
    *,
    invalid: int = 0,
) -> None:
    """Carry the steps out; what is mapped loses the bits `invalid` in places."""
    unit, pages = life.unit(bench.fmt), bench.fmt.pages_at(life.heights[0])
    base = bench.window(unit)
    for step in life.steps:
        va, end = base + step.first * unit, base + (step.first + step.count) * unit
        if step.maps:
            pfn = STORAGE.start + (step.first + step.skew) * pages
            populate(bench.hw, bench.root, va, end, pfn, PROT[bench.fmt.arch], builder)
            if invalid:
                invalidate(bench, va, end, invalid)
        elif step.count:
            unmap(bench.hw, bench.root, va, end, remover)
            if limits is not None:
                again = replace(remover, table="clear-flush-free")
                free_empty_tables(bench.hw, bench.root, va, end, limits, again)


@formats
class TestAgainstAnArray:
    """An array of frame numbers, one a unit, says what is mapped: what is there stays, what goes is gone."""

    @settings(max_examples=25)
    @given(data=st.data())
    def test_every_address_translates_as_the_array_says(self, name: str, data: st.DataObject) -> None:
        bench = Bench(FORMS[name])
        life = data.draw(lives(bench.fmt))
        unit, pages = life.unit(bench.fmt), bench.fmt.pages_at(life.heights[0])
        base = bench.window(unit)
        builder = bench.builder(life.heights, link=data.draw(st.sampled_from(("before-fill", "after-fill"))))
        naive = np.zeros(life.size, dtype=np.uint64)
        vas = np.arange(life.size, dtype=np.uint64) * np.uint64(unit) + np.uint64(base)
        for step in life.steps:
            live(bench, replace(life, steps=[step]), builder, bench.remover())
            part = naive[step.first : step.first + step.count]
            if step.maps:
                part[part == 0] = (life.pfn(bench.fmt, step) + np.arange(step.count) * pages)[part == 0]
            else:
                part[:] = 0
            found = translate(bench.hw.memory, bench.fmt, bench.root.frame, vas)
            np.testing.assert_array_equal(found.mapped, naive != 0)
            np.testing.assert_array_equal(found.pa[found.mapped] >> np.uint64(bench.fmt.page_shift), naive[naive != 0])
        assert not bench.hw.violations

    @settings(max_examples=10)
    @given(data=st.data())
    def test_nothing_is_left_of_what_was_mapped_but_the_tables_that_root_entries_keep(
        self, name: str, data: st.DataObject
    ) -> None:
        bench = Bench(FORMS[name])
        life = data.draw(lives(bench.fmt))
        keep = data.draw(st.booleans())
        live(bench, life, bench.builder(life.heights), bench.remover(keep_root_children=keep))
        kept = bench.tables()[bench.fmt.root_height - 1] if keep else 0
        base = bench.window(life.unit(bench.fmt))
        end = base + life.size * life.unit(bench.fmt)
        unmap(bench.hw, bench.root, base, end, bench.remover(keep_root_children=keep))
        assert bench.tables() == +Counter({bench.fmt.root_height: 1, bench.fmt.root_height - 1: kept})
        ledger = bench.hw.ledger
        assert ledger.tables_allocated.total() == ledger.tables_freed.total() + kept


def policies(bench: Bench) -> dict[str, tuple[dict[str, Any], dict[str, Any], Span | None]]:
    """Builder and remover options of real kernels, and the limits of a second descent."""
    slot = FixmapSlot((1 << 64) - (1 << 21), FlushPlan(FLUSH, 1, 1))
    arm64_removed = {"table_flush": FlushPlan(Flush("pgtable", "walk cache"), 1, 1), "keep_root_children": False}
    page = bench.fmt.page_size
    end = bench.window(page) + 700 * page
    return {
        "riscv": (
            {"occupied": "keep"},
            {"free_storage": bench.put_away, "present": (bench.fmt.valid,) * len(bench.fmt.levels)},
            None,
        ),
        "x86": (
            {"link": "after-fill", "lock": "page_table_lock"},
            {
                "free_storage": bench.put_away,
                "storage": "free-then-clear",
                "after_leaf_table": lambda _: EVERYTHING,
                "lock": "page_table_lock",
                "present": (bench.fmt.valid,) * len(bench.fmt.levels),
            },
            None,
        ),
        "arm64": (
            {"slot": slot, "root": RootLock("swapper_pgdir_lock", slot), "contiguous": CONTIGUOUS},
            {
                **arm64_removed,
                "free_storage": bench.put_away,
                "leaf_flush": tuple(FlushPlan(FLUSH, 1, 1) for _ in bench.fmt.levels),
                "table": "kept",
                "root": RootLock("swapper_pgdir_lock", slot),
            },
            Span(0, end),
        ),
        "arm64 V5": (
            {},
            {
                **arm64_removed,
                "free_storage": bench.put_away,
                "storage": "free-then-clear",
                "table": "clear-flush-free",
                "after_leaf_table": lambda size: FlushPlan(FLUSH, size // page, size // page),
            },
            None,
        ),
    }


@formats
@pytest.mark.parametrize("policy", ["riscv", "x86", "arm64", "arm64 V5"])
@settings(max_examples=5)
@given(data=st.data())
def test_single_accesses_do_what_whole_runs_do(name: str, policy: str, data: st.DataObject) -> None:
    fmt = FORMS[name]
    life, invalid = data.draw(lives(fmt)), data.draw(st.booleans())
    benches = (Bench(fmt), Bench(fmt, stepped=True))
    for bench in benches:
        build, remove, limits = policies(bench)[policy]
        if fmt.arch != "arm64":
            build = {key: value for key, value in build.items() if key != "contiguous"}
        if bench.fmt.pointer_mask:
            remove.pop("present", None)
        builder, remover = bench.builder(life.heights, **build), bench.remover(**remove)
        live(bench, life, builder, remover, limits, invalid=bench.fmt.valid if invalid else 0)
    whole, single = benches
    assert whole.contents() == single.contents()
    assert whole.hw.ledger == single.hw.ledger
    assert whole.stored == single.stored
    assert whole.hw.tlb.exposed_frames == single.hw.tlb.exposed_frames
    assert whole.hw.memory.owners == single.hw.memory.owners
    assert whole.hw.violations == single.hw.violations == []


class TestContiguousHint:
    """arm64 sets the hint on a naturally aligned group of leaves that is mapped whole to as aligned frames."""

    @pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if fmt.arch == "arm64"])
    @pytest.mark.parametrize("stepped", [False, True], ids=["whole runs", "single accesses"])
    @settings(max_examples=10)
    @given(data=st.data())
    def test_it_stands_in_whole_aligned_groups_only(self, name: str, stepped: bool, data: st.DataObject) -> None:
        bench = Bench(FORMS[name], stepped=stepped)
        height = data.draw(st.sampled_from([h for h in (0, 1) if h < bench.fmt.root_height]))
        level, pages = bench.fmt.levels[height], bench.fmt.pages_at(height)
        first = data.draw(st.integers(0, 3 * level.cont))
        count = data.draw(st.integers(1, min(2 * level.entries, 600)))
        skew = data.draw(st.sampled_from((0, 0, 1, level.cont)))
        base = bench.window(level.size) // (level.size * level.cont) * level.size * level.cont
        va = base + first * level.size
        populate(
            bench.hw,
            bench.root,
            va,
            va + count * level.size,
            STORAGE.start + (first + skew) * pages,
            PROT["arm64"],
            bench.builder([height], contiguous=CONTIGUOUS),
        )
        found = leaves(bench.hw.memory, bench.fmt, bench.root.frame)
        assert len(found.va) == count
        for at, entry in zip(range(first, first + count), found.entry.tolist(), strict=True):
            group = at // level.cont * level.cont
            hinted = first <= group and group + level.cont <= first + count and skew % level.cont == 0
            assert bool(entry & CONTIGUOUS) == hinted, at


RISCV = FORMATS["riscv64-sv48"]
MiB2 = RISCV.levels[1].size


@pytest.fixture
def riscv() -> Bench:
    return Bench(RISCV)


class TestWhatIsThere:
    def test_a_table_in_the_way_of_a_leaf_is_mapped_in_or_left_alone(self, riscv: Bench) -> None:
        va = riscv.window(MiB2)
        populate(riscv.hw, riscv.root, va, va + 4096, STORAGE.start, PROT["riscv64"], riscv.builder([0]))
        for occupied, mapped in (("keep", 1), ("bug-or-keep", 1), ("descend", 512)):
            how = riscv.builder([0, 1], occupied=occupied)
            populate(riscv.hw, riscv.root, va, va + MiB2, STORAGE.start, PROT["riscv64"], how)
            assert len(leaves(riscv.hw.memory, RISCV, riscv.root.frame).va) == mapped

    def test_a_leaf_in_the_way_of_a_table_stays_or_is_a_bug(self, riscv: Bench) -> None:
        va = riscv.window(MiB2)
        populate(riscv.hw, riscv.root, va, va + MiB2, STORAGE.start, PROT["riscv64"], riscv.builder([1]))
        populate(riscv.hw, riscv.root, va, va + 4096, STORAGE.start, PROT["riscv64"], riscv.builder([0]))
        assert leaves(riscv.hw.memory, RISCV, riscv.root.frame).height.tolist() == [1]
        with pytest.raises(KernelBug, match="a leaf stands where a table"):
            how = riscv.builder([0], occupied="bug-or-keep")
            populate(riscv.hw, riscv.root, va, va + 4096, STORAGE.start, PROT["riscv64"], how)

    def test_another_frame_in_the_way_of_a_base_page_stays_or_is_a_bug(self, riscv: Bench) -> None:
        va = riscv.window(4096)
        for occupied in ("keep", "keep", "bug-or-descend"):
            how = riscv.builder([0], occupied=occupied)
            populate(riscv.hw, riscv.root, va, va + 4096, STORAGE.start, PROT["riscv64"], how)
        with pytest.raises(KernelBug, match="maps another frame"):
            populate(riscv.hw, riscv.root, va, va + 4096, STORAGE.start + 1, PROT["riscv64"], how)

    def test_a_leaf_that_goes_in_part_goes_whole_unless_somebody_objects(self, riscv: Bench) -> None:
        va = riscv.window(MiB2)
        parts = []

        def refuse(_table: Table, _index: int, part: Span) -> bool:
            parts.append(part)
            return False

        populate(riscv.hw, riscv.root, va, va + 2 * MiB2, STORAGE.start, PROT["riscv64"], riscv.builder([1]))
        unmap(riscv.hw, riscv.root, va + 4096, va + MiB2 + 8192, riscv.remover(part_leaf=refuse))
        assert parts == [Span(va + 4096, va + MiB2), Span(va + MiB2, va + MiB2 + 8192)]
        assert len(leaves(riscv.hw.memory, RISCV, riscv.root.frame).va) == 2
        unmap(riscv.hw, riscv.root, va + 4096, va + MiB2 + 8192, riscv.remover())
        assert len(leaves(riscv.hw.memory, RISCV, riscv.root.frame).va) == 0

    def test_tables_on_the_way_are_made_once_and_end_at_a_leaf(self, riscv: Bench) -> None:
        va = riscv.window(MiB2)
        how = riscv.builder([0])
        table = ensure_table(riscv.hw, riscv.root, va, 0, how)
        assert table is not None and table.va == va // MiB2 * MiB2 and table.height == 0
        assert ensure_table(riscv.hw, riscv.root, va, 0, how) == table
        assert riscv.hw.ledger.tables_allocated == Counter({2: 1, 1: 1, 0: 1})
        populate(riscv.hw, riscv.root, va + MiB2, va + 2 * MiB2, STORAGE.start, PROT["riscv64"], riscv.builder([1]))
        assert ensure_table(riscv.hw, riscv.root, va + MiB2, 0, how) is None


class TestFloorAndCeiling:
    """A table goes in the second descent only if it is empty and translates nothing outside the limits."""

    @settings(max_examples=40)
    @given(st.integers(0, 2048), st.integers(1, 1024), st.integers(-600, 600), st.integers(-600, 600))
    def test_leaf_tables(self, first: int, count: int, floor: int, ceiling: int) -> None:
        bench = Bench(RISCV)
        base = bench.root.va + 300 * RISCV.levels[-1].size
        va, end = base + first * 4096, base + (first + count) * 4096
        limits = Span(va + floor * 4096, end + ceiling * 4096)
        populate(bench.hw, bench.root, va, end, STORAGE.start, PROT["riscv64"], bench.builder([0]))
        before = set(range(va // MiB2, -(-end // MiB2)))
        unmap(bench.hw, bench.root, va, end, bench.remover(table="kept"))
        free_empty_tables(bench.hw, bench.root, va, end, limits, bench.remover(table="clear-flush-free"))
        found = tables(bench.hw.memory, RISCV, bench.root.frame)
        left = set((found.va[found.height == 0] // np.uint64(MiB2)).tolist())
        assert left == {t for t in before if not limits.covers(Span(t * MiB2, (t + 1) * MiB2))}


class TestReachable:
    """What the order of clearing, flushing and freeing leaves reachable."""

    def map_and_remove(self, bench: Bench, **options: Any) -> None:
        va = bench.window(4096)
        populate(bench.hw, bench.root, va, va + 1024 * 4096, STORAGE.start, PROT["riscv64"], bench.builder([0]))
        unmap(bench.hw, bench.root, va, va + 1024 * 4096, bench.remover(free_storage=bench.put_away, **options))

    @pytest.mark.parametrize("stepped", [False, True], ids=["whole runs", "single accesses"])
    def test_storage_freed_before_the_flush_is_exposed_until_it(self, stepped: bool) -> None:
        for storage in ("clear-then-free", "free-then-clear"):
            bench = Bench(RISCV, stepped=stepped)
            self.map_and_remove(bench, storage=storage, keep_root_children=False)
            freed = bench.hw.ledger.tables_freed.total()
            assert bench.hw.tlb.exposed_frames == 1024 + freed > 1024
            assert bench.hw.tlb.exposed_set().size == 1024 + freed
            bench.hw.flush_plan(EVERYTHING, 0)
            assert not bench.hw.tlb.exposed and not bench.hw.tlb.stale

    @pytest.mark.parametrize("stepped", [False, True], ids=["whole runs", "single accesses"])
    def test_a_flush_for_each_leaf_and_table_exposes_nothing(self, stepped: bool) -> None:
        bench = Bench(RISCV, stepped=stepped)
        page = FlushPlan(FLUSH, 1, 1)
        self.map_and_remove(
            bench,
            leaf_flush=(page,) * 4,
            table="clear-flush-free",
            table_flush=FlushPlan(Flush("pgtable", "walk cache"), 1, 1),
            keep_root_children=False,
        )
        assert bench.hw.tlb.exposed_frames == 0 and not bench.hw.tlb.stale

    def test_a_flush_of_leaves_leaves_table_pointers(self) -> None:
        bench = Bench(RISCV)
        self.map_and_remove(bench, leaf_flush=(FlushPlan(FLUSH, 1, 1),) * 4, table="clear-flush-free")
        exposed = bench.hw.tlb.exposed_frames
        assert exposed == bench.hw.ledger.tables_freed.total() > 0
        bench.hw.flush(FLUSH)
        assert bench.hw.tlb.exposed
        claimed = bench.hw.tlb.exposed[0].frames
        bench.hw.claim(claimed, Owner(Use.KERNEL), "test")
        assert [violation.law for violation in bench.hw.violations] == ["flush-before-free"]
