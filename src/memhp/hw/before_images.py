"""What tables held before they were touched: the cost of looking back grows with the tables that a step touches.

While one is installed in the :class:`~memhp.hw.memory.Arena`, each table frame is copied the first time that somebody
takes its row, whether to read or to write, or gives it back. PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np

from memhp.hw.format import U64
from memhp.spans import Span, SpanSet


class BeforeImages:
    """The contents of touched table frames as they were; None for those that held no table."""

    def __init__(self) -> None:
        self.rows: dict[int, U64 | None] = {}
        self._seen = SpanSet()

    def __contains__(self, frame: object) -> bool:
        return frame in self.rows

    def keep(self, frames: Span, rows: U64) -> None:
        """Copy the rows, shape [n, entries], of frames that are not copied yet."""
        for gap in list(self._seen.gaps(*frames)):
            copy = np.array(rows[gap.start - frames.start : gap.end - frames.start])
            self.rows.update(zip(range(gap.start, gap.end), copy, strict=True))
            self._seen.add(*gap)

    def fresh(self, frames: Span) -> None:
        """Frames hold tables from now on, and did not before."""
        for gap in list(self._seen.gaps(*frames)):
            self.rows.update(dict.fromkeys(range(gap.start, gap.end)))
            self._seen.add(*gap)
