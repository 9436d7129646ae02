"""Where the walker gets its tables from: a machine's memory, a dump, a live guest. Whole tables at a time."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from memhp.hw.format import U64, Format


class MissingTables(KeyError):
    """A reader has no contents for some of the frames it was asked for; `pfns` are all of those."""

    def __init__(self, pfns: Iterable[int]) -> None:
        self.pfns = tuple(int(pfn) for pfn in pfns)
        super().__init__(self.pfns[0])

    def __str__(self) -> str:
        more = f" and {len(self.pfns) - 1} more" if len(self.pfns) > 1 else ""
        return f"no contents of table frame {self.pfns[0]:#x}{more}"


class TableReader(Protocol):
    """Anything that can show the contents of frames that hold page tables."""

    def tables(self, pfns: U64) -> U64:
        """Whole frames (:attr:`~memhp.hw.format.Format.table_shift`), shape ``[n, entries of a frame]``, also where a
        root table fills only part of its frame.

        Raises :class:`MissingTables`, or a plain KeyError that names one frame, for a frame that it cannot show.
        """
        ...


class ArrayReader:
    """Tables that lie in one array: row i holds frame ``pfns[i]``. `pfns` must be ascending and without repeats."""

    def __init__(self, pfns: U64, rows: U64) -> None:
        self.pfns = pfns
        self.rows = rows

    def tables(self, pfns: U64) -> U64:
        """The rows of these frames, shape ``[n, page_size // 8]``. Raises MissingTables."""
        at = np.searchsorted(self.pfns, pfns)
        found = at < self.pfns.size
        found[found] = self.pfns[at[found]] == pfns[found]
        if not found.all():
            raise MissingTables(pfns[~found].tolist())
        chosen: U64 = self.rows[at]
        return chosen


def read_frames(reader: TableReader, pfns: U64, width: int) -> tuple[U64, npt.NDArray[np.bool_]]:
    """These frames, shape ``[n, width]``, and which of them the reader has; rows of others are zero."""
    try:
        return reader.tables(pfns), np.ones(pfns.size, dtype=np.bool_)
    except KeyError as error:
        missing = set(_missing(error))
    present = np.array([pfn not in missing for pfn in pfns.tolist()], dtype=np.bool_)
    while present.any():
        try:
            rows = np.zeros((pfns.size, width), dtype=np.uint64)
            rows[present] = reader.tables(pfns[present])
            return rows, present
        except KeyError as error:
            gone = set(_missing(error))
            present &= np.array([pfn not in gone for pfn in pfns.tolist()], dtype=np.bool_)
    return np.zeros((pfns.size, width), dtype=np.uint64), present


def read_tables(reader: TableReader, fmt: Format, height: int, frames: U64) -> tuple[U64, npt.NDArray[np.bool_]]:
    """The tables of a height that begin in these frames, one a row, and which of them the reader has whole.

    Rows of others are zero. Where a table fills only part of its frame the row is the frame.
    """
    count = fmt.frames_at(height)
    if count == 1:
        return read_frames(reader, frames, fmt.frame_entries)
    each: U64 = np.add.outer(frames, np.arange(count, dtype=np.uint64)).ravel()
    rows, present = read_frames(reader, each, fmt.frame_entries)
    whole: npt.NDArray[np.bool_] = np.logical_and.reduce(present.reshape(-1, count), axis=1)
    joined: U64 = rows.reshape(frames.size, -1)
    return joined if whole.all() else joined * whole[:, None], whole


def _missing(error: KeyError) -> tuple[int, ...]:
    return error.pfns if isinstance(error, MissingTables) else (int(error.args[0]),)
