"""What is the same for whole runs of integers: a map from spans to values."""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, TypeVar

from memhp.spans.span import Span

V = TypeVar("V")

FEW_RUNS = 16
"""Maps of so few runs are compared run by run."""


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
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if last - first == 1:  # as it mostly is
            s, e = self._starts[first], self._ends[first]
            return iter(((s if s > start else start, e if e < end else end, self._values[first]),))
        return iter([(max(s, start), min(e, end), v) for s, e, v in zip(*self._part(first, last), strict=True)])

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
