"""The lines of a file that the kernel prints, and errors that name the file and the line."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator

from memhp.errors import BadInput

CUT = "the file looks cut off: take it again from the machine"


def lines(text: str, where: str) -> list[tuple[int, str]]:
    """Every line with its number, from 1, without its newline.

    Raises :class:`BadInput` for a file that is empty or ends within a line: whatever the kernel prints ends with a
    newline (``fs/seq_file.c``, ``sysfs_emit()``).
    """
    if not text:
        raise BadInput("is empty", where=where, fix=CUT)
    if not text.endswith("\n"):
        count = text.count("\n") + 1
        raise BadInput(f"ends within line {count}", where=f"{where}:{count}", fix=CUT)
    return list(enumerate(text[:-1].split("\n"), start=1))


def bad_line(where: str, number: int, text: str, want: str, *, fix: str = "") -> BadInput:
    """The error for a line that is not what the kernel prints there: `want` says what it would be."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return BadInput(f"want {want}, got {shown!r}", where=f"{where}:{number}", fix=fix)


def cut_off(where: str, number: int, missing: str) -> BadInput:
    """The error for a file that stops before `missing`."""
    return BadInput(f"ends before {missing}", where=f"{where}:{number}", fix=CUT)


class Reader:
    """The lines of one file, read front to back; `what` in its methods says what a line ought to be."""

    def __init__(self, text: str, where: str) -> None:
        self.lines = lines(text, where)
        self.where = where
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether lines are left."""
        return self._at < len(self.lines)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match of the next line, which is then read; None, and nothing read, where it does not match."""
        match = pattern.fullmatch(self.lines[self._at][1]) if self.more else None
        self._at += match is not None
        return match

    def need(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        """The match of the next line. Raises :class:`BadInput` where it does not match or the file has ended."""
        match = self.take(pattern)
        if match is None:
            raise self.missing(what)
        return match

    def missing(self, what: str) -> BadInput:
        """The error for a next line that is not `what`."""
        if not self.more:
            return cut_off(self.where, len(self.lines), what)
        return bad_line(self.where, *self.lines[self._at], what)

    def wrong(self, what: str) -> BadInput:
        """The error for the line just read, which is not `what`."""
        return bad_line(self.where, *self.lines[self._at - 1], what)


def id_list(text: str, where: str) -> tuple[int, ...]:
    """The numbers of a list such as ``0-2,5``, as ``lib/bitmap.c:bitmap_print_to_pagebuf`` prints them; "" has none."""
    return tuple(_ids(text.strip(), where))


def _ids(text: str, where: str) -> Iterator[int]:
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise BadInput(f"want a list of numbers such as 0-2,5, got {text!r}", where=where)
        yield from range(int(first), int(last if dash else first) + 1)


def render_id_list(ids: tuple[int, ...]) -> str:
    """Ascending numbers as the kernel lists them: ``0-2,5``."""
    parts: list[str] = []
    at = 0
    while at < len(ids):
        end = at
        while end + 1 < len(ids) and ids[end + 1] == ids[end] + 1:
            end += 1
        parts.append(str(ids[at]) if at == end else f"{ids[at]}-{ids[end]}")
        at = end + 1
    return ",".join(parts)
