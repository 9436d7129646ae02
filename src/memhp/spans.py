"""Half-open spans of integers (bytes or PFNs), sets of them, and maps from spans to values.

Per-page facts of a machine with billions of pages live here: cost grows with the number of *runs* of equal
pages, never with pages. All spans are half-open, ``[start, end)``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")

FEW_RUNS = 16
"""Maps of so few runs are compared run by run."""


class Span(NamedTuple):
    """A half-open run of integers ``[start, end)``, in bytes or PFNs as the owner says."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many integers the span holds."""
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.start <= value < self.end

    def covers(self, other: "Span") -> bool:
        """Whether `other` lies wholly inside."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: "Span") -> bool:
        """Whether the two share at least one integer."""
        return self.start < other.end and other.start < self.end

    def clip(self, other: "Span") -> "Span":
        """The part shared with `other`; empty (and false) when there is none."""
        start = max(self.start, other.start)
        return Span(start, max(start, min(self.end, other.end)))

    def scaled(self, shift: int) -> "Span":
        """The span in a unit `shift` bits smaller (PFNs to bytes: ``span.scaled(PAGE_SHIFT)``)."""
        return Span(self.start << shift, self.end << shift)


class SpanMap(Generic[V]):
    """A map from disjoint spans to values; neighbours with equal values are always one run.

    Look-up is O(log runs); a change moves only the list tails behind it.
    """

    __slots__ = ("_ends", "_starts", "_values")

    def __init__(self, items: Iterable[tuple[int, int, V]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []
        for start, end, value in items:
            self.set(start, end, value)

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def end(self) -> int:
        """Where the last run ends; 0 without one."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        """Every run as ``(start, end, value)``, ascending."""
        return iter(list(zip(self._starts, self._ends, self._values, strict=True)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpanMap):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        runs = ", ".join(f"[{start:#x},{end:#x})={value!r}" for start, end, value in self)
        return f"{type(self).__name__}({runs})"

    def copy(self) -> "SpanMap[V]":
        """An independent copy; values are shared."""
        new: SpanMap[V] = SpanMap()
        new._starts, new._ends, new._values = self._part(0, len(self._starts))
        return new

    def _part(self, lo: int, hi: int) -> tuple[list[int], list[int], list[V]]:
        return self._starts[lo:hi], self._ends[lo:hi], self._values[lo:hi]

    def get(self, at: int) -> V | None:
        """The value at one integer, or None."""
        i = bisect_right(self._starts, at) - 1
        return self._values[i] if i >= 0 and at < self._ends[i] else None

    def run_at(self, at: int) -> tuple[int, int, V] | None:
        """The whole run that holds one integer, or None."""
        i = bisect_right(self._starts, at) - 1
        return (self._starts[i], self._ends[i], self._values[i]) if i >= 0 and at < self._ends[i] else None

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """Every run that meets ``[start, end)``, clipped to it, ascending. Safe while the map changes."""
        part = self._part(bisect_right(self._ends, start), bisect_left(self._starts, end))
        for s, e, v in zip(*part, strict=True):
            yield max(s, start), min(e, end), v

    def next_run(self, at: int) -> tuple[int, int, V] | None:
        """The first run that ends behind `at`: the one that holds it, or the next one above; None behind the last."""
        i = bisect_right(self._ends, at)
        return (self._starts[i], self._ends[i], self._values[i]) if i < len(self._starts) else None

    def first_fit(self, size: int, start: int, end: int) -> Span | None:
        """The lowest place in ``[start, end)`` where runs hold whole multiples of `size`, a power of two.

        What comes back is all that the first such run has to give: from a multiple of `size` to a multiple of `size`.
        """
        mask = size - 1
        starts, ends = self._starts, self._ends
        for i in range(bisect_right(ends, start), len(starts)):
            if starts[i] >= end:
                break
            lo = (max(starts[i], start) + mask) & ~mask
            hi = min(ends[i], end) & ~mask
            if lo < hi:
                return Span(lo, hi)
        return None

    def fits(self, size: int, start: int, end: int, most: int) -> list[Span]:
        """What :meth:`first_fit` finds, and would find behind that, until there are `most` multiples of `size`."""
        found: list[Span] = []
        mask = size - 1
        starts, ends = self._starts, self._ends
        for i in range(bisect_right(ends, start), len(starts)):
            if starts[i] >= end or most <= 0:
                break
            lo = (max(starts[i], start) + mask) & ~mask
            hi = min(min(ends[i], end) & ~mask, lo + most * size)
            if lo < hi:
                found.append(Span(lo, hi))
                most -= (hi - lo) // size
        return found

    def gaps(self, start: int, end: int) -> Iterator[Span]:
        """The parts of ``[start, end)`` that no run covers, ascending."""
        at = start
        for s, e, _ in self.runs(start, end):
            if s > at:
                yield Span(at, s)
            at = e
        if at < end:
            yield Span(at, end)

    def covers(self, start: int, end: int) -> bool:
        """Whether every integer of ``[start, end)`` has a value."""
        return next(self.gaps(start, end), None) is None

    def covered(self, start: int, end: int) -> int:
        """How many integers of ``[start, end)`` have a value."""
        return sum(e - s for s, e, _ in self.runs(start, end))

    def differences(self, other: "SpanMap[V]") -> "list[Span]":
        """Where two maps say different things, ascending: spans that differ in every integer, and may touch.

        Equal stretches cost what comparing lists costs; each difference costs a few steps of halving.
        """
        return list(self._differences(other, (0, len(self._starts)), (0, len(other._starts))))

    def _differences(self, other: "SpanMap[V]", mine: tuple[int, int], theirs: tuple[int, int]) -> "Iterator[Span]":
        """Differences between the runs ``[lo, hi)`` of this map and those of the other, all within the same limits."""
        (a, b), (c, d) = mine, theirs
        parts = self._part(a, b), other._part(c, d)
        if parts[0] == parts[1]:
            return
        cut = self._common_cut(other, mine, theirs) if b - a + d - c > FEW_RUNS else None
        if cut is not None:
            yield from self._differences(other, (a, cut[0]), (c, cut[1]))
            yield from self._differences(other, (cut[0], b), (cut[1], d))
            return
        one, two = (dict.fromkeys(ends) | dict(zip(starts, values, strict=True)) for starts, ends, values in parts)
        here = there = None
        for start, end in pairwise(sorted(one.keys() | two.keys())):
            here, there = one.get(start, here), two.get(start, there)
            if here != there:
                yield Span(start, end)

    def _common_cut(
        self, other: "SpanMap[V]", mine: tuple[int, int], theirs: tuple[int, int]
    ) -> tuple[int, int] | None:
        """A place near the middle where no run of either map goes across: the index of the first run behind it in each.

        None where there is none nearby.
        """
        (a, b), (c, d) = mine, theirs
        middle = (a + b) // 2
        for i in range(max(middle - FEW_RUNS, a + 1), min(middle + FEW_RUNS, b)):
            at = self._starts[i]
            j = bisect_left(other._starts, at, c, d)
            if j == c or other._ends[j - 1] <= at:
                return i, j
        return None

    def set(self, start: int, end: int, value: V) -> None:
        """Give every integer of ``[start, end)`` this value, whatever it had before."""
        if start >= end:
            return
        lo, hi, head, tail = self._cut(start, end)
        starts, ends, values = [start], [end], [value]
        if head is not None:
            if head[2] == value and head[1] == start:
                starts[0] = head[0]
            else:
                starts.insert(0, head[0])
                ends.insert(0, head[1])
                values.insert(0, head[2])
        elif lo and self._ends[lo - 1] == start and self._values[lo - 1] == value:
            lo -= 1
            starts[0] = self._starts[lo]
        if tail is not None:
            if tail[2] == value:
                ends[-1] = tail[1]
            else:
                starts.append(tail[0])
                ends.append(tail[1])
                values.append(tail[2])
        elif hi < len(self._starts) and self._starts[hi] == end and self._values[hi] == value:
            ends[-1] = self._ends[hi]
            hi += 1
        self._starts[lo:hi] = starts
        self._ends[lo:hi] = ends
        self._values[lo:hi] = values

    def clear(self, start: int, end: int) -> None:
        """Take the value away from every integer of ``[start, end)``."""
        if start >= end:
            return
        lo, hi, head, tail = self._cut(start, end)
        kept = [run for run in (head, tail) if run is not None]
        self._starts[lo:hi] = [run[0] for run in kept]
        self._ends[lo:hi] = [run[1] for run in kept]
        self._values[lo:hi] = [run[2] for run in kept]

    def set_each(self, spans: Sequence[Span], value: V) -> None:
        """As :meth:`set` of each of many spans, which ascend and do not overlap: one pass over the runs about them."""
        self._overlay(spans, [value])

    def clear_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`clear` of each of many spans, which ascend and do not overlap."""
        self._overlay(spans, [])

    def _overlay(self, spans: Sequence[Span], value: list[V]) -> None:
        """Put a value, or none, over what `spans` had."""
        if not spans:
            return
        lo = bisect_left(self._ends, spans[0].start)
        hi = bisect_right(self._starts, spans[-1].end)
        old = zip(self._starts[lo:hi], self._ends[lo:hi], self._values[lo:hi], strict=True)
        starts: list[int] = []
        ends: list[int] = []
        values: list[V] = []

        def put(start: int, end: int, these: V) -> None:
            if ends and ends[-1] == start and values[-1] == these:
                ends[-1] = end
            elif start < end:
                starts.append(start)
                ends.append(end)
                values.append(these)

        run = next(old, None)
        for start, end in spans:
            while run is not None and run[0] < end:
                if run[0] < start:
                    put(run[0], min(run[1], start), run[2])
                if run[1] > end:
                    run = end, run[1], run[2]
                    break
                run = next(old, None)
            if value:
                put(start, end, value[0])
        while run is not None:
            put(*run)
            run = next(old, None)
        self._starts[lo:hi], self._ends[lo:hi], self._values[lo:hi] = starts, ends, values

    def _cut(self, start: int, end: int) -> tuple[int, int, tuple[int, int, V] | None, tuple[int, int, V] | None]:
        """The index range of runs that meet ``[start, end)`` and what sticks out of it on either side."""
        lo = bisect_right(self._ends, start)
        hi = bisect_left(self._starts, end)
        head = tail = None
        if lo < hi:
            if self._starts[lo] < start:
                head = (self._starts[lo], start, self._values[lo])
            if self._ends[hi - 1] > end:
                tail = (end, self._ends[hi - 1], self._values[hi - 1])
        return lo, hi, head, tail


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
