"""Runs of entries against a loop over single ones."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.hw.format import Format
from memhp.hw.runs import entry_runs
from memhp.linux.formats import FORMATS
from table_bench import PROT


def slow_runs(fmt: Format, entries: list[int], height: int) -> list[tuple[int, int, int, bool]]:
    """(first place, number, first frame, whether leaves), entry by entry."""
    runs: list[tuple[int, int, int, bool]] = []
    for place, entry in enumerate(entries):
        leaf = bool(fmt.is_leaf(entry, height))
        if not leaf and not fmt.is_table(entry, height):
            continue
        pfn = fmt.leaf_pfn(entry, height) if leaf else fmt.table_pfn(entry)
        step = fmt.pages_at(height) if leaf else 1
        if runs:
            at, count, first, kind = runs[-1]
            if at + count == place and kind == leaf and first + count * step == pfn:
                runs[-1] = (at, count + 1, first, kind)
                continue
        runs.append((place, 1, pfn, leaf))
    return runs


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_runs_are_those_that_a_loop_finds(name: str, data: st.DataObject) -> None:
    fmt = FORMATS[name]
    height = data.draw(st.sampled_from([h for h, level in enumerate(fmt.levels) if level.leaf]))
    pages = fmt.pages_at(height)
    kinds = ["none", "invalid", "leaf", "leaf", *(["table", "table"] if height else [])]
    entries: list[int] = []
    pfn = 0x40000 * pages
    for kind, count, jump in data.draw(
        st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 4), st.sampled_from((0, 0, 1, -1))), max_size=6)
    ):
        pfn += jump * pages
        for _ in range(count):
            none, leaf = fmt.empty[height], fmt.leaf_entry(pfn, height, PROT[fmt.arch])
            invalid = leaf & ~fmt.valid
            entries.append({"none": none, "invalid": invalid, "leaf": leaf, "table": fmt.table_entry(pfn)}[kind])
            pfn += 1 if kind == "table" and data.draw(st.booleans()) else pages
    runs = entry_runs(fmt, np.array(entries, dtype=np.uint64), height)
    rows = zip(runs.at.tolist(), runs.length.tolist(), runs.pfn.tolist(), runs.leaf.tolist(), strict=True)
    assert list(rows) == slow_runs(fmt, entries, height)


def test_a_table_and_a_leaf_that_lead_to_neighbours_are_two_runs() -> None:
    fmt = FORMATS["riscv64-sv48"]
    entries = [fmt.leaf_entry(512, 1, 0xE6), fmt.table_entry(1024), fmt.table_entry(1025)]
    runs = entry_runs(fmt, np.array(entries, dtype=np.uint64), 1)
    assert runs.at.tolist() == [0, 1]
    assert runs.leaf.tolist() == [True, False]


def test_runs_are_cut_to_a_part_of_the_entries() -> None:
    fmt = FORMATS["x86_64-4level"]
    entries = np.array([fmt.leaf_entry(512 * n, 1, 0x163) for n in (4, 5, 6, 9)], dtype=np.uint64)
    part = entry_runs(fmt, entries, 1).clipped(1, 4, 512)
    assert part.at.tolist() == [1, 3]
    assert part.frames(512)[0] == (512 * 5, 512 * 7)
    assert part.frames(512)[1] == (512 * 9, 512 * 10)
