"""A set of integers, as the runs that it is made of."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Sequence

from memhp.spans.span import Span
from memhp.spans.span_map import FEW_RUNS, SpanMap


class SpanSet:
    """A set of integers kept as disjoint, non-touching spans."""

    __slots__ = ("_map", "_size")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._map: SpanMap[bool] = SpanMap((start, end, True) for start, end in spans)
        self._size = sum(end - start for start, end, _ in self._map)

    def __iter__(self) -> Iterator[Span]:
        """The spans, ascending."""
        return iter([Span(start, end) for start, end, _ in self._map])

    def __len__(self) -> int:
        """The number of spans."""
        return len(self._map)

    def __bool__(self) -> bool:
        return bool(self._map)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self._map.get(value) is not None

    def __eq__(self, other: object) -> bool:
        return self._map == other._map if isinstance(other, SpanSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "SpanSet(" + ", ".join(f"[{s.start:#x},{s.end:#x})" for s in self) + ")"

    def copy(self) -> "SpanSet":
        """An independent copy."""
        new = SpanSet()
        new._map = self._map.copy()
        new._size = self._size
        return new

    @property
    def size(self) -> int:
        """How many integers the set holds."""
        return self._size

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in."""
        if start < end:
            met = self._map.next_run(start)
            self._size += end - start - (self._map.covered(start, end) if met and met[0] < end else 0)
            self._map.set(start, end, True)

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        if start < end:
            met = self._map.next_run(start)
            whole = met is not None and met[0] <= start and end <= met[1]
            self._size -= end - start if whole else self._map.covered(start, end)
            self._map.clear(start, end)

    def add_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`add` of each of many spans, which ascend and do not overlap."""
        about = (spans[0].start, spans[-1].end) if spans else (0, 0)
        before = self._map.covered(*about)
        self._map.set_each(spans, True)
        self._size += self._map.covered(*about) - before

    def remove_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`remove` of each of many spans, which ascend and do not overlap."""
        about = (spans[0].start, spans[-1].end) if spans else (0, 0)
        before = self._map.covered(*about)
        self._map.clear_each(spans)
        self._size -= before - self._map.covered(*about)

    @classmethod
    def joined(cls, spans: Iterable[tuple[int, int]]) -> "SpanSet":
        """The set of spans that come in ascending order by start; they may touch and overlap."""
        new = cls()
        starts, ends = new._map._starts, new._map._ends
        for start, end in spans:
            if ends and start <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            elif start < end:
                starts.append(start)
                ends.append(end)
        new._map._values = [True] * len(starts)
        new._size = sum(ends) - sum(starts)
        return new

    def differences(self, other: "SpanSet") -> list[Span]:
        """Where two sets differ, ascending."""
        return self._map.differences(other._map)

    def run_at(self, at: int) -> Span | None:
        """The span that holds one integer, or None."""
        run = self._map.run_at(at)
        return Span(run[0], run[1]) if run else None

    def first_fit(self, size: int, start: int, end: int) -> Span | None:
        """The lowest place in ``[start, end)`` where the set holds whole multiples of `size`: see SpanMap."""
        return self._map.first_fit(size, start, end)

    def fits(self, size: int, start: int, end: int, most: int) -> list[Span]:
        """What :meth:`first_fit` finds, and finds behind that, until there are `most` multiples of `size`."""
        return self._map.fits(size, start, end, most)

    def runs(self, start: int, end: int) -> Iterator[Span]:
        """The parts of ``[start, end)`` in the set, ascending."""
        return (Span(s, e) for s, e, _ in self._map.runs(start, end))

    def gaps(self, start: int, end: int) -> Iterator[Span]:
        """The parts of ``[start, end)`` not in the set, ascending."""
        return self._map.gaps(start, end)

    def minus(self, other: "SpanSet") -> list[Span]:
        """What this set has and the other has not, ascending, of each span by itself: one pass over both."""
        if len(self) <= FEW_RUNS:
            return [gap for span in self for gap in other.gaps(*span)]
        if self == other:
            return []
        found = []
        others = [*other, Span(self._map.end, self._map.end)]
        at = 0
        for span in self:
            start = span.start
            while others[at].end < span.end:
                if others[at].end > start:
                    found.append(Span(start, max(start, others[at].start)))
                    start = others[at].end
                at += 1
            found.append(Span(start, max(start, min(span.end, others[at].start))))
        return [gap for gap in found if gap]

    def covers(self, start: int, end: int) -> bool:
        """Whether all of ``[start, end)`` is in the set."""
        return self._map.covers(start, end)

    def covered(self, start: int, end: int) -> int:
        """How many integers of ``[start, end)`` are in the set."""
        return self._map.covered(start, end)
