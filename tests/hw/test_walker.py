"""The walker: against a naive walk of random trees, and by hand where the manuals have a trap."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.errors import BadInput
from memhp.hw.format import U64, Format
from memhp.hw.ranges import ranges
from memhp.hw.reader import ArrayReader
from memhp.hw.walker import End, leaves, tables, translate, walk
from memhp.linux.formats import FORMATS
from naive_walk import Leaf, Shape, Table, everything
from naive_walk import ranges as naive_ranges
from trees import ROOT_PFN, Tree

NOWHERE = st.integers(1, 0x40)
"""Frames in which a random tree never has a table."""

every_format = pytest.mark.parametrize("name", sorted(FORMATS))


def shape_of(fmt: Format) -> Shape:
    return Shape(fmt.arch, fmt.page_shift, fmt.va_bits, fmt.pa_bits, len(fmt.levels), fmt.empty)


def prots(fmt: Format) -> list[int]:
    if fmt.arch == "riscv64":
        return [fmt.bits(R=1, A=1), fmt.bits(R=1, W=1, A=1, D=1, PBMT=1), fmt.bits(X=1, G=1)]
    if fmt.arch == "arm64":
        return [fmt.bits(AF=1), fmt.bits(AF=1, Contig=1, AttrIndx=1), fmt.bits(AP=2, DBM=1)]
    if fmt.arch == "loongarch64":
        return [fmt.bits(P=1, D=1), fmt.bits(P=1, W=1, MAT=1), fmt.bits(NX=1, PLV=3)]
    return [fmt.bits(RW=1), fmt.bits(RW=1, XD=1, A=1), fmt.bits(US=1, G=1)]


@st.composite
def trees(draw: st.DrawFn, name: str) -> Tree:
    """Runs of leaves that cross from table to table, then rubbish, lost tables and broken leaves in between."""
    fmt = FORMATS[name]
    tree = Tree(fmt)
    frames_there_are = 1 << (fmt.pa_bits - fmt.page_shift)
    for _ in range(draw(st.integers(1, 4))):
        height = draw(st.sampled_from([h for h, level in enumerate(fmt.levels) if level.leaf] + [0]))
        level = fmt.levels[height]
        edge = draw(st.sampled_from([0, 1, level.entries // 2, level.entries - 1])) << fmt.levels[-1].shift
        va = fmt.canonical((edge + (draw(st.integers(0, 2 * level.entries)) << level.shift)) % (1 << fmt.va_bits))
        pfn = draw(st.integers(0, frames_there_are - 1)) & ~(fmt.pages_at(height) - 1)
        prot = draw(st.sampled_from(prots(fmt)))
        for _ in range(draw(st.integers(1, 40))):
            if walk(tree, fmt, ROOT_PFN, va).end == End.HOLE and fmt.is_canonical(va):
                tree.put(va, height, fmt.leaf_entry(pfn, height, prot))
            va, pfn = (va + level.size) % (1 << 64), (pfn + fmt.pages_at(height)) % frames_there_are
    for frame, height in [(t.frame, t.height) for t in naive(tree) if isinstance(t, Table)]:
        row = tree.frames[frame]
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, fmt.levels[height].entries - 1))
            kind = draw(st.sampled_from(["rubbish", "broken", "napot", "lost", "empty"]))
            if kind == "napot" and fmt.napot_mask and height == 0:
                first = at & ~15
                pfn = draw(st.integers(0, frames_there_are - 1)) & ~15 | 8
                row[first : first + draw(st.integers(1, 16))] = fmt.leaf_entry(pfn, 0, prots(fmt)[0] | fmt.napot_mask)
            elif kind == "broken":
                row[at] = int(row[at]) ^ (1 << draw(st.integers(0, 63)))
            elif not fmt.is_none(int(row[at]), height):
                continue
            elif kind == "lost" and height:
                row[at] = fmt.table_entry(draw(NOWHERE))
            elif kind == "empty" and height:
                row[at] = fmt.table_entry(tree.add_table(height - 1))
            elif kind == "rubbish":
                row[at] = draw(st.integers(1, (1 << 64) - 1)) & ~fmt.pfn_mask
    return tree


def naive(tree: Tree) -> list[Leaf | Table]:
    frames = {pfn: row.tolist() for pfn, row in tree.frames.items()}
    return list(everything(shape_of(tree.fmt), frames, ROOT_PFN))


@every_format
@settings(max_examples=25)
@given(data=st.data())
def test_leaves_and_tables_are_those_of_a_naive_walk(name: str, data: st.DataObject) -> None:
    tree = data.draw(trees(name))
    want = naive(tree)
    got = leaves(tree, tree.fmt, ROOT_PFN)
    found = zip(got.va.tolist(), got.pa.tolist(), got.height.tolist(), got.entry.tolist(), strict=True)
    assert list(found) == [leaf for leaf in want if isinstance(leaf, Leaf)]
    there = tables(tree, tree.fmt, ROOT_PFN)
    columns = (there.va, there.height, there.frame, there.present, there.empty)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(
        table for table in want if isinstance(table, Table)
    )
    missing = [(t.frame, t.height, t.va) for t in want if isinstance(t, Table) and not t.here]
    assert sorted(zip(*(column.tolist() for column in got.missing), strict=True)) == sorted(missing)


@every_format
@settings(max_examples=25)
@given(data=st.data(), contiguous=st.booleans())
def test_merged_ranges_are_those_of_a_naive_walk(name: str, data: st.DataObject, contiguous: bool) -> None:
    tree = data.draw(trees(name))
    fmt = tree.fmt
    want = [leaf for leaf in naive(tree) if isinstance(leaf, Leaf)]

    def same(a: Leaf, b: Leaf) -> bool:
        return fmt.attributes(a.entry, a.height) == fmt.attributes(b.entry, b.height)

    got = ranges(tree, fmt, ROOT_PFN, contiguous=contiguous)
    found = list(zip(got.va.tolist(), got.size.tolist(), got.pa.tolist(), strict=True))
    assert found == naive_ranges(shape_of(fmt), want, same, contiguous)
    assert got.leaves == len(want)
    coarse = ranges(tree, fmt, ROOT_PFN, bits=(0,) * len(fmt.levels), contiguous=contiguous)
    found = list(zip(coarse.va.tolist(), coarse.size.tolist(), coarse.pa.tolist(), strict=True))
    assert found == naive_ranges(shape_of(fmt), want, lambda a, b: True, contiguous)


@every_format
@settings(max_examples=25)
@given(data=st.data())
def test_single_and_many_walks_agree_with_the_leaves(name: str, data: st.DataObject) -> None:
    tree = data.draw(trees(name))
    fmt = tree.fmt
    known = [leaf for leaf in naive(tree) if isinstance(leaf, Leaf)]
    vas = [data.draw(st.integers(0, (1 << 64) - 1)) for _ in range(4)]
    vas += [fmt.canonical(va) for va in vas]
    for leaf in known[:6] + known[-6:]:
        vas.append(leaf.va + data.draw(st.integers(0, fmt.levels[leaf.height].size - 1)))
    many = translate(tree, fmt, ROOT_PFN, np.array(vas, dtype=np.uint64))
    for i, va in enumerate(vas):
        hit = [leaf for leaf in known if leaf.va <= va < leaf.va + fmt.levels[leaf.height].size]
        one = walk(tree, fmt, ROOT_PFN, va)
        assert one.pa == (hit[0].pa + va - hit[0].va if hit else None)
        assert (one.end == End.MAPPED) == bool(hit) == bool(many.mapped[i])
        assert int(many.end[i]) == one.end
        assert int(many.pa[i]) == (one.pa or 0)
        assert [step.height for step in one.steps] == list(range(fmt.root_height, fmt.root_height - len(one.steps), -1))


@every_format
@settings(max_examples=25)
@given(data=st.data())
def test_a_window_shows_what_touches_it_and_nothing_else(name: str, data: st.DataObject) -> None:
    tree = data.draw(trees(name))
    fmt = tree.fmt
    known = [leaf for leaf in naive(tree) if isinstance(leaf, Leaf)]
    edges = [leaf.va + offset for leaf in known for offset in (0, 1, fmt.levels[leaf.height].size)] or [0]
    start = data.draw(st.sampled_from(edges)) % (1 << 64)
    end = data.draw(st.sampled_from(edges)) + data.draw(st.integers(0, 1 << 22))
    got = leaves(tree, fmt, ROOT_PFN, va_start=start, va_end=min(end, 1 << 64))
    want = [leaf.va for leaf in known if leaf.va < end and leaf.va + fmt.levels[leaf.height].size > start]
    assert got.va.tolist() == (want if start < end else [])


@every_format
@settings(max_examples=25)
@given(data=st.data())
def test_ranges_with_holes_cover_everything_but_what_is_missing(name: str, data: st.DataObject) -> None:
    tree = data.draw(trees(name))
    fmt = tree.fmt
    got = ranges(tree, fmt, ROOT_PFN, contiguous=False, holes=True)
    ends = got.va + got.size
    assert (ends[:-1] <= got.va[1:]).all()
    missing = sum(fmt.levels[h].size * fmt.levels[h].entries for h in got.missing.height.tolist())
    assert sum(got.size.tolist()) + missing == 1 << fmt.va_bits
    mapped = ranges(tree, fmt, ROOT_PFN, contiguous=False)
    assert mapped.va.tolist() == got.va[got.mapped].tolist()
    finer = ranges(tree, fmt, ROOT_PFN, contiguous=True, holes=True)
    assert finer.va[~finer.mapped].tolist() == got.va[~got.mapped].tolist()
    assert finer.size[~finer.mapped].tolist() == got.size[~got.mapped].tolist()


def sv48() -> tuple[Tree, Format]:
    fmt = FORMATS["riscv64-sv48"]
    return Tree(fmt), fmt


def test_an_address_inside_a_napot_page_keeps_its_place() -> None:
    tree, fmt = sv48()
    entry = (0x80010 | 8) << 10 | fmt.bits(V=1, R=1, W=1, A=1, D=1, N=1)
    for page in range(16):
        tree.put(page << 12, 0, entry)
    found = walk(tree, fmt, ROOT_PFN, 0x3000)
    assert found.pa == 0x8001_3000
    assert found.span == 0x1_0000
    assert translate(tree, fmt, ROOT_PFN, np.array([0x3000, 0xF123], dtype=np.uint64)).pa.tolist() == [
        0x8001_3000,
        0x8001_F123,
    ]
    assert leaves(tree, fmt, ROOT_PFN).pa.tolist() == [0x8001_0000 + (page << 12) for page in range(16)]
    merged = ranges(tree, fmt, ROOT_PFN)
    assert (merged.va.tolist(), merged.size.tolist(), merged.pa.tolist()) == ([0], [0x1_0000], [0x8001_0000])


def test_a_napot_run_that_is_only_partly_there_maps_only_that_part() -> None:
    tree, fmt = sv48()
    entry = (0x80010 | 8) << 10 | fmt.bits(V=1, R=1, N=1)
    for page in (4, 5, 6):
        tree.put(page << 12, 0, entry)
    merged = ranges(tree, fmt, ROOT_PFN)
    assert (merged.va.tolist(), merged.size.tolist(), merged.pa.tolist()) == ([0x4000], [0x3000], [0x8001_4000])


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
def test_a_reserved_entry_ends_a_range_though_its_attributes_are_the_same(contiguous: bool, holes: bool) -> None:
    tree, fmt = sv48()
    good = (0x80010 | 8) << 10 | fmt.bits(V=1, R=1, N=1)
    tree.put(0x0, 0, good)
    tree.put(0x1000, 0, good)
    tree.put(0x2000, 0, good ^ 0b1100 << 10)
    tree.put(0x3000, 0, good)
    large = 0x80000 << 10 | fmt.bits(V=1, R=1)
    tree.put(0x4000_0000, 1, large)
    tree.put(0x4020_0000, 1, large + (0x201 << 10))
    found = ranges(tree, fmt, ROOT_PFN, contiguous=contiguous, holes=holes)
    assert found.va[found.mapped].tolist() == [0x0, 0x3000, 0x4000_0000]
    assert found.size[found.mapped].tolist() == [0x2000, 0x1000, 0x20_0000]


def test_two_napot_pages_to_one_place_are_two_ranges() -> None:
    tree, fmt = sv48()
    for page in range(32):
        tree.put(page << 12, 0, (0x80010 | 8) << 10 | fmt.bits(V=1, R=1, N=1))
    merged = ranges(tree, fmt, ROOT_PFN)
    assert merged.va.tolist() == [0, 0x1_0000]
    assert merged.pa.tolist() == [0x8001_0000, 0x8001_0000]


@pytest.mark.parametrize(
    ("name", "height", "span"),
    [
        ("arm64-4k-va48-pa48", 0, 64 << 10),
        ("arm64-4k-va48-pa48", 1, 32 << 20),
        ("arm64-16k-va47-pa48", 0, 2 << 20),
        ("arm64-16k-va47-pa48", 1, 1 << 30),
        ("arm64-64k-va52-pa52", 0, 2 << 20),
        ("arm64-64k-va52-pa52", 1, 16 << 30),
    ],
)
def test_the_contiguous_hint_widens_the_tlb_entry_but_not_the_address(name: str, height: int, span: int) -> None:
    fmt = FORMATS[name]
    tree = Tree(fmt)
    va = fmt.canonical(0)
    size = fmt.levels[height].size
    tree.map(va, va + 3 * size, height, 5 * size, fmt.bits(AF=1, Contig=1))
    found = walk(tree, fmt, ROOT_PFN, va + size + 0x123)
    assert found.span == span
    assert found.pa == 6 * size + 0x123


def test_a_table_that_the_reader_lacks_is_missing_not_empty() -> None:
    tree, fmt = sv48()
    va = fmt.canonical(0xFFFF_8000_0000_0000)
    tree.map(va, va + 0x1000, 0, 0x1000, fmt.bits(R=1))
    lost = tree.table_at(va, 1)
    del tree.frames[lost]
    assert walk(tree, fmt, ROOT_PFN, va).end == End.MISSING
    assert walk(tree, fmt, ROOT_PFN, va).missing == lost
    assert translate(tree, fmt, ROOT_PFN, np.array([va], dtype=np.uint64)).end.tolist() == [End.MISSING]
    found = ranges(tree, fmt, ROOT_PFN)
    assert (found.missing.frame.tolist(), found.missing.height.tolist(), found.missing.va.tolist()) == (
        [lost],
        [1],
        [va],
    )
    assert tables(tree, fmt, ROOT_PFN).present.tolist() == [True, True, False]


def test_a_reader_that_names_one_lacking_frame_at_a_time_will_do() -> None:
    class OneByOne:
        def __init__(self, rows: dict[int, U64]) -> None:
            self.rows = rows

        def tables(self, pfns: U64) -> U64:
            return np.stack([self.rows[pfn] for pfn in pfns.tolist()])

    tree, fmt = sv48()
    for i in range(6):
        tree.map(i << 30, (i << 30) + 0x20_0000, 1, i << 30, fmt.bits(R=1))
    for i in (1, 2, 4):
        del tree.frames[tree.table_at(i << 30, 1)]
    found = leaves(OneByOne(tree.frames), fmt, ROOT_PFN)
    assert found.va.tolist() == [0, 3 << 30, 5 << 30]
    assert found.missing.va.tolist() == [1 << 30, 2 << 30, 4 << 30]


def test_an_array_of_tables_reads_like_the_tables_themselves() -> None:
    tree, fmt = sv48()
    tree.map(0x4000_0000, 0x4100_0000, 1, 0x8000_0000, fmt.bits(R=1, W=1))
    del tree.frames[tree.table_at(0x40_0000_0000 << 1, 2)]
    a, b = leaves(tree, fmt, ROOT_PFN), leaves(tree.array(), fmt, ROOT_PFN)
    assert all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(a[:4], b[:4], strict=True))
    assert b.missing.frame.size == 1


def test_tables_that_point_at_each_other_are_refused() -> None:
    fmt = FORMATS["riscv64-sv57"]
    rows = np.full((1, 512), fmt.table_entry(ROOT_PFN), dtype=np.uint64)
    with pytest.raises(BadInput, match="refer to more than"):
        ranges(ArrayReader(np.array([ROOT_PFN], dtype=np.uint64), rows), fmt, ROOT_PFN)


def test_a_root_table_may_start_inside_its_frame() -> None:
    fmt = FORMATS["arm64-64k-va48-pa48"]
    tree = Tree(fmt)
    va = 0xFFFF_8000_0000_0000
    tree.map(va, va + 0x1_0000, 0, 0x4000_0000, fmt.bits(AF=1))
    tree.frames[ROOT_PFN] = np.roll(tree.frames[ROOT_PFN], 960)
    assert walk(tree, fmt, ROOT_PFN, va, root_index=960).pa == 0x4000_0000
    assert translate(tree, fmt, ROOT_PFN, np.array([va], dtype=np.uint64), root_index=960).pa.tolist() == [0x4000_0000]
    assert ranges(tree, fmt, ROOT_PFN, root_index=960).va.tolist() == [va]
    assert walk(tree, fmt, ROOT_PFN, va).end == End.HOLE


def test_counting_up_past_the_last_frame_does_not_continue_a_range() -> None:
    fmt = FORMATS["x86_64-4level"]
    tree = Tree(fmt)
    last = fmt.leaf_entry((1 << 40) - 1, 0, 0)
    tree.put(0x1000, 0, last)
    tree.put(0x2000, 0, last + 0x1000)
    tree.put(0x3000, 0, last + 0x2000)
    found = ranges(tree, fmt, ROOT_PFN)
    assert found.va.tolist() == [0x1000, 0x2000]
    assert found.pa.tolist() == [(1 << 52) - 0x1000, 0]
    assert found.size.tolist() == [0x1000, 0x2000]


def test_leaves_of_two_sizes_make_two_ranges() -> None:
    tree, fmt = sv48()
    tree.map(0x1F_F000, 0x20_0000, 0, 0x1F_F000, fmt.bits(R=1))
    tree.map(0x20_0000, 0x60_0000, 1, 0x20_0000, fmt.bits(R=1))
    found = ranges(tree, fmt, ROOT_PFN)
    assert (found.va.tolist(), found.height.tolist()) == ([0x1F_F000, 0x20_0000], [0, 1])


def test_leaves_on_both_sides_of_the_canonical_hole_stay_apart() -> None:
    fmt = FORMATS["riscv64-sv39"]
    tree = Tree(fmt)
    size = fmt.levels[2].size
    tree.put(255 * size, 2, fmt.leaf_entry(0, 2, fmt.bits(R=1)))
    tree.put(fmt.canonical(256 * size), 2, fmt.leaf_entry(size >> 12, 2, fmt.bits(R=1)))
    assert ranges(tree, fmt, ROOT_PFN).va.tolist() == [255 * size, (1 << 64) - 256 * size]


def test_x86_rights_are_those_that_all_levels_grant() -> None:
    fmt = FORMATS["x86_64-4level"]
    tree = Tree(fmt)
    va = 0xFFFF_8880_0000_0000
    tree.map(va, va + 0x2000, 0, 0, fmt.bits(RW=1, US=1))
    table = tree.table_at(va, 1)
    tree.frames[table][0] = int(tree.frames[table][0]) & ~fmt.bits(RW=1) | fmt.bits(XD=1)
    found = ranges(tree, fmt, ROOT_PFN)
    assert found.rights.tolist() == [fmt.bits(US=1, XD=1)]
    assert walk(tree, fmt, ROOT_PFN, va).rights == fmt.bits(US=1, XD=1)


def test_how_a_walk_ends() -> None:
    fmt = FORMATS["x86_64-4level"]
    tree = Tree(fmt)
    tree.put(0x1000, 0, 0x1E2)
    tree.put(0x8000_0000, 1, fmt.bits(P=1, PS=1) | 1 << 13)
    ends = {va: walk(tree, fmt, ROOT_PFN, va).end for va in (0x1000, 0x2000, 0x8000_0000, 1 << 47)}
    assert ends == {0x1000: End.HOLE, 0x2000: End.HOLE, 0x8000_0000: End.RESERVED, 1 << 47: End.NON_CANONICAL}
