"""Long runs of steps that do the same to one entry after the other, taken together: what the views of a trace show.

A run is a pattern of up to a few steps of one actor that comes at least three times in a row and differs in nothing but
numbers: a loop over the entries of a table. Steps that break something, or change something that the others do not, are
never taken together with them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memhp.explore.engine.trace import Change, Line, Value

LONGEST_PATTERN = 8
LEAST_TIMES = 3
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
_SPAN = re.compile(r"(0x[0-9a-f]+)-(0x[0-9a-f]+)")
_ENTRY = re.compile(r"(.*)\[(\d+)\]")


@dataclass(frozen=True)
class Row:
    """Steps that a view shows together: a pattern of the first `period` of them, so often as they go into it."""

    lines: tuple[Line, ...]
    period: int

    @property
    def times(self) -> int:
        """How often the pattern comes; 1 for a step that stands alone."""
        return len(self.lines) // self.period

    @property
    def first(self) -> Line:
        """The first step."""
        return self.lines[0]

    @property
    def last(self) -> Line:
        """The last step."""
        return self.lines[-1]

    @property
    def steps(self) -> str:
        """``12``, or ``12–139``."""
        return str(self.first.step) if len(self.lines) == 1 else f"{self.first.step}–{self.last.step}"

    @property
    def kinds(self) -> str:
        """``load, store``."""
        return ", ".join(line.kind for line in self.lines[: self.period])

    @property
    def what(self) -> str:
        """What the steps are about: ``PMD 0x42000[0..63]``."""
        found = [_range([line.what for line in self.lines[at :: self.period]]) for at in range(self.period)]
        return ", ".join(dict.fromkeys(found))

    @property
    def title(self) -> str:
        """``store PMD 0x42000[0]``, or ``64 × load, store PMD 0x42000[0..63]``."""
        does = f"{self.kinds} {self.what}".rstrip()
        return does if self.times == 1 else f"{self.times} × {does}"

    @property
    def values(self) -> str:
        """What was seen, or how it was and is; without numbers for several steps together."""
        if self.times > 1:
            seen = [line for line in self.lines[: self.period] if line.old]
            stored = [line for line in seen if line.new]
            return "; ".join(dict.fromkeys(_seen(line, words=True) for line in stored or seen))
        return self.first.result or _seen(self.first)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the steps changed: all of it for one, for several what each round changed, with its count."""
        if self.times == 1:
            return self.first.changes
        pattern = (change for line in self.lines[: self.period] for change in line.changes)
        last = (change for line in self.lines[-self.period :] for change in line.changes)
        return tuple(_together(one, other) for one, other in zip(pattern, last, strict=True))


def fold(lines: Sequence[Line], *, full: bool = False) -> list[Row]:
    """The rows that a trace is shown in; `full`: a row for every step."""
    if full:
        return [Row((line,), 1) for line in lines]
    shapes = [_shape(line) for line in lines]
    rows: list[Row] = []
    at = 0
    while at < len(lines):
        period, times = _pattern(lines, shapes, at)
        rows.append(Row(tuple(lines[at : at + period * times]), period))
        at += period * times
    return rows


def _pattern(lines: Sequence[Line], shapes: Sequence[object], at: int) -> tuple[int, int]:
    """The pattern that covers most from a step on: (steps, times); (1, 1) where there is none."""
    best = (1, 1)
    for period in range(1, LONGEST_PATTERN + 1):
        pattern = shapes[at : at + period]
        times = 1
        while shapes[at + times * period : at + (times + 1) * period] == pattern and len(pattern) == period:
            if not _goes_on(lines, at, period, times):
                break
            times += 1
        alone = len({line.thread for line in lines[at : at + period]}) == 1
        if times >= LEAST_TIMES and alone and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _goes_on(lines: Sequence[Line], at: int, period: int, times: int) -> bool:
    """Whether round `times` of a pattern looks at the entries behind those of the round before."""
    for place in range(at + (times - 1) * period, at + times * period):
        now, then = _ENTRY.fullmatch(lines[place].what), _ENTRY.fullmatch(lines[place + period].what)
        if now and then and int(then[2]) != int(now[2]) + 1:
            return False
    return True


def _together(first: Change, last: Change) -> Change:
    """The same difference in the first and the last round as one."""
    if first == last:
        return first
    if first.kind == "entry":
        return Change("entry", _range([first.what, last.what]), _entry_words(first.old), _entry_words(first.new))
    starts, ends = _SPAN.findall(first.what), iter(_SPAN.findall(last.what))
    what = _range([first.what, last.what])
    if len(starts) == len(_SPAN.findall(last.what)) > 0:
        what = _SPAN.sub(lambda span: f"{span[1]}-{next(ends)[1]}", first.what)
    return Change(first.kind, what, _NUMBER.sub("…", first.old), _NUMBER.sub("…", first.new))


def _entry_words(text: str) -> str:
    """``2 MiB leaf`` of an entry's value and what it says."""
    return text.partition(" ")[2].partition(":")[0].partition(" in frame")[0]


def _shape(line: Line) -> object:
    """What two steps have in common that differ in numbers only; the table of an entry is no number."""
    entry = _ENTRY.fullmatch(line.what)
    changes = tuple((change.kind, _NUMBER.sub("", change.old), _NUMBER.sub("", change.new)) for change in line.changes)
    return (
        line.thread, line.kind, line.place, entry[1] if entry else _NUMBER.sub("", line.what), line.result,
        _words(line.old), _words(line.new), changes,
    )  # fmt: skip


def _words(value: Value | None) -> str:
    return "" if value is None else _NUMBER.sub("", value.text)


def _range(names: Sequence[str]) -> str:
    """Several names in one: ``PMD 0x42000[0..63]``, ``PFN 0x100 … PFN 0x1c0``."""
    first, last = names[0], names[-1]
    entry, other = _ENTRY.fullmatch(first), _ENTRY.fullmatch(last)
    if first == last:
        return first
    if entry and other and entry[1] == other[1]:
        return f"{entry[1]}[{entry[2]}..{other[2]}]"
    return f"{first} … {last}"


def _seen(line: Line, *, words: bool = False) -> str:
    """``0x208800e7 → 0x0``, or what that means."""
    if line.old is None:
        return ""
    values: Iterable[Value] = (line.old,) if line.new is None else (line.old, line.new)
    if words:
        return " → ".join(_kind_of(value) for value in values)
    return " → ".join(f"{value.raw:#x}" if value.raw is not None else value.text for value in values)


def _kind_of(value: Value) -> str:
    """``2 MiB leaf``, ``table``, ``empty``."""
    return value.text.partition(":")[0].partition(" in frame")[0]
