"""Physical memory that lies in runs somewhere: a dump's segments, the files of a virtual machine's RAM."""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
from collections.abc import Iterable, Iterator

import numpy as np

from memhp.hw.format import U64
from memhp.hw.reader import MissingTables
from memhp.spans import Span

FrameRun = tuple[Span, U64]
"""PFNs, and a view of their frames, shape ``[n, page_size // 8]``."""


def whole_frames(data: bytes | mmap.mmap, offset: int, pa: int, size: int, page_size: int) -> Iterator[FrameRun]:
    """The whole frames, if any, in `size` bytes of memory from `pa` on, which lie at `offset`."""
    span = Span(-(-pa // page_size), (pa + size) // page_size)
    if span:
        words = np.frombuffer(data, "<u8", span.size * page_size // 8, offset + span.start * page_size - pa)
        yield span, words.reshape(span.size, -1)


class FrameRuns:
    """A :class:`~memhp.hw.reader.TableReader` of runs of frames. Of frames that several runs have, the run that
    starts last counts.
    """

    def __init__(self, page_size: int, runs: Iterable[FrameRun]) -> None:
        self.page_size = page_size
        self._runs = sorted(runs, key=lambda run: run[0].start)
        self._starts = np.array([span.start for span, _ in self._runs], dtype=np.uint64)
        self._ends = np.array([span.end for span, _ in self._runs], dtype=np.uint64)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The PFNs of the runs, ascending."""
        return tuple(span for span, _ in self._runs)

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, page_size // 8]``. Raises MissingTables for those that no run holds."""
        at = np.searchsorted(self._starts, pfns, side="right").astype(np.int64) - 1
        out = np.empty((pfns.size, self.page_size // 8), dtype=np.uint64)
        found = (at >= 0) & (pfns < self._ends[np.maximum(at, 0)]) if self._runs else at >= 0
        if not found.all():
            raise MissingTables(pfns[~found].tolist())
        order = np.argsort(at, kind="stable")
        cuts = np.flatnonzero(np.diff(at[order])) + 1
        for those in np.split(order, cuts) if pfns.size else ():
            span, rows = self._runs[at[those[0]]]
            out[those] = rows[pfns[those] - np.uint64(span.start)]
        return out
