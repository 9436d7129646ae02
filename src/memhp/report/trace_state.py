"""What stands after each step of a trace: locks held, translations that are stale, frames exposed, actors that ended.

It is added up from the differences of the steps, so it starts from nothing held and nothing stale. Neighbouring ranges
are one, and of many ranges only the last few are told.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from memhp.explore.engine.trace import Line
from memhp.spans import SpanMap

_STALE = re.compile(r"(.*) for (0x[0-9a-f]+)-(0x[0-9a-f]+)")
_FRAMES = re.compile(r"PFN (0x[0-9a-f]+)(?:-(0x[0-9a-f]+))?")


MOST = 6
"""Ranges of one sort that are told."""


class Standing(NamedTuple):
    """The state after a step, in words: (what, how) for each thing."""

    locks: tuple[tuple[str, str], ...]
    stale: tuple[tuple[str, str], ...]
    exposed: tuple[tuple[str, str], ...]
    ended: tuple[tuple[str, str], ...]


def standings(lines: Iterable[Line]) -> Iterator[Standing]:
    """The state after each step."""
    locks: dict[str, str] = {}
    stale: dict[str, SpanMap[str]] = {}
    exposed: SpanMap[str] = SpanMap()
    ended: dict[str, str] = {}
    now = Standing((), (), (), ())
    for line in lines:
        for change in line.changes:
            if change.kind == "lock":
                locks.pop(change.what, None)
                if change.new != "free":
                    locks[change.what] = change.new
            elif change.kind == "stale":
                _note_stale(stale, change.what, change.new)
            elif change.kind == "exposed":
                _note_exposed(exposed, change.what, change.new)
            elif change.kind == "end":
                ended[change.what] = change.new
        if line.changes:
            now = Standing(
                tuple(locks.items()), _few(list(_stale(stale))), _few(list(_exposed(exposed))), tuple(ended.items())
            )
        yield now


def _note_stale(stale: dict[str, SpanMap[str]], what: str, new: str) -> None:
    found = _STALE.match(what)
    if found is None:
        return
    spans = stale.setdefault(found[1], SpanMap())
    start, end = int(found[2], 16), int(found[3], 16) + 1
    if new == "clean":
        spans.clear(start, end)
    else:
        spans.set(start, end, new)


def _note_exposed(exposed: SpanMap[str], what: str, new: str) -> None:
    found = _FRAMES.match(what)
    if found is None:
        return
    start = int(found[1], 16)
    end = int(found[2], 16) + 1 if found[2] else start + 1
    if new == "out of reach":
        exposed.clear(start, end)
    else:
        exposed.set(start, end, "given back, still reached through a stale entry")


def _stale(stale: dict[str, SpanMap[str]]) -> Iterator[tuple[str, str]]:
    for what, spans in stale.items():
        for start, end, text in spans:
            yield f"{what} for {start:#x}-{end - 1:#x}", text


def _exposed(exposed: SpanMap[str]) -> Iterator[tuple[str, str]]:
    for start, end, text in exposed:
        yield f"PFN {start:#x}" + (f"-{end - 1:#x}" if end - start > 1 else ""), text


def _few(rows: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The last rows, and how many there are before them."""
    more = len(rows) - MOST
    return (*((f"{more} more", ""),) * (more > 0), *rows[-MOST:])
