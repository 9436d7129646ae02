"""Contents of page-table frames: a row that is asked for is the memory itself, whatever was added or dropped since."""
# SPDX-License-Identifier: GPL-2.0-or-later

from copy import deepcopy

import numpy as np
import pytest

from memhp.hw import memory
from memhp.hw.memory import Arena
from memhp.spans import Span

ENTRIES = 512


@pytest.mark.parametrize("most", [1, 3, 1 << 12])
def test_what_is_written_by_a_row_is_there_whoever_asks_next(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(memory, "MOST_VIEWS", most)
    arena = Arena(ENTRIES, np.zeros((1, ENTRIES), np.uint64))
    for pfn in range(10, 20):  # it grows meanwhile, into another array
        arena.add(Span(pfn, pfn + 1))
        row = arena.row(pfn)
        assert row is not None
        row[:] = pfn
        for before in range(10, pfn + 1):
            again = arena.row(before)
            assert again is not None and (again == before).all()
            assert (arena.tables(np.array([before], np.uint64)) == before).all()


def test_a_frame_that_is_a_table_once_more_holds_nothing_of_what_it_held() -> None:
    arena = Arena(ENTRIES)
    arena.add(Span(10, 12))
    row = arena.row(10)
    assert row is not None
    row[:] = 7
    arena.drop(Span(10, 11))
    assert arena.row(10) is None
    arena.add(Span(10, 11))
    again = arena.row(10)
    assert again is not None and not again.any()


def test_a_copy_has_rows_of_its_own() -> None:
    arena = Arena(ENTRIES)
    arena.add(Span(10, 11))
    assert arena.row(10) is not None
    copy = deepcopy(arena)
    theirs = copy.row(10)
    assert theirs is not None
    theirs[:] = 7
    ours = arena.row(10)
    assert ours is not None and not ours.any()
