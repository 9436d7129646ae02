"""Physical memory that lies in runs somewhere: a dump's segments, the files of a virtual machine's RAM."""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
from collections.abc import Iterable, Iterator

import numpy as np

from memhp.hw.format import U64, Format
from memhp.hw.reader import MissingTables
from memhp.spans import Span

FrameRun = tuple[Span, U64]
"""Numbers of frames of tables, and a view of them, shape ``[n, fmt.frame_entries]``, as they lie in memory."""


def whole_frames(data: bytes | mmap.mmap, offset: int, pa: int, size: int, fmt: Format) -> Iterator[FrameRun]:
    """The whole frames of tables, if any, in `size` bytes of memory from `pa` on, which lie at `offset`."""
    each = 1 << fmt.table_shift
    span = Span(-(-pa // each), (pa + size) // each)
    if span:
        count = span.size * fmt.frame_entries
        words = np.frombuffer(data, fmt.memory_dtype, count, offset + span.start * each - pa)
        yield span, words.reshape(span.size, -1)


class FrameRuns:
    """A :class:`~memhp.hw.reader.TableReader` of runs of frames. Of frames that several runs have, the run that
    starts last counts.
    """

    def __init__(self, fmt: Format, runs: Iterable[FrameRun]) -> None:
        self.fmt = fmt
        self._runs = sorted(runs, key=lambda run: run[0].start)
        self._starts = np.array([span.start for span, _ in self._runs], dtype=np.uint64)
        self._ends = np.array([span.end for span, _ in self._runs], dtype=np.uint64)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The frames of the runs, ascending."""
        return tuple(span for span, _ in self._runs)

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, fmt.frame_entries]``. Raises MissingTables for those that no run holds."""
        at = np.searchsorted(self._starts, pfns, side="right").astype(np.int64) - 1
        out = np.empty((pfns.size, self.fmt.frame_entries), dtype=np.uint64)
        found = (at >= 0) & (pfns < self._ends[np.maximum(at, 0)]) if self._runs else at >= 0
        if not found.all():
            raise MissingTables(pfns[~found].tolist())
        order = np.argsort(at, kind="stable")
        cuts = np.flatnonzero(np.diff(at[order])) + 1
        for those in np.split(order, cuts) if pfns.size else ():
            span, rows = self._runs[at[those[0]]]
            out[those] = rows[pfns[those] - np.uint64(span.start)]
        return out
