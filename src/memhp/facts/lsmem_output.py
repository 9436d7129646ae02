"""What util-linux's ``lsmem`` printed, as text or JSON, read back into memory blocks: the other way of ``lsmem.py``.

What it did not print is not known of them: zones without ``ZONES``, nodes without ``NODE``. Of a range that was split
by less than it shows (``--split``) every block is taken to be like the first. Without headings (``-n``) it is read
where its columns are those that lsmem prints by default, or all.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from memhp.errors import BadInput
from memhp.facts.lines import bad_line
from memhp.facts.lsmem import COLUMNS
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks, State
from memhp.limits import COUNT
from memhp.spans import Span
from memhp.units import parse_size

HEADER = re.compile(r" *(?:[A-Z]+ +)*RANGE(?: +[A-Z]+)*", re.MULTILINE)
"""The first line of the table."""

_RANGE = re.compile(r"0x([0-9a-f]{8,16})-0x([0-9a-f]{8,16})")
_WITHOUT_HEADINGS = {
    "RANGE": _RANGE,
    "SIZE": re.compile(r"[\d.]+[BKMGTPE]?"),
    "STATE": re.compile(r"online|offline|on->off"),
    "REMOVABLE": re.compile(r"yes|no"),
    "BLOCK": re.compile(r"\d+(?:-\d+)?"),
    "NODE": re.compile(r"\d+"),
    "ZONES": re.compile(r"[A-Z]\w+(?:/[A-Z]\w+)*"),
}
"""Columns in the order of ``--output-all``, and what stands in each; by default there are those up to BLOCK."""
_LEAST_COLUMNS = 5
_PAIR = re.compile(r'([A-Z]+)="([^"]*)"')
_BLOCKS = re.compile(r"(\d+)(?:-(\d+))?")
_BLOCK_SIZE = re.compile(r"Memory block size: +(\S+)")
_STATES: Mapping[str, State] = {"online": "online", "offline": "offline", "on->off": "going-offline"}
_ZONES = {"Highmem": "HighMem", "None": "none", "Unknown": "none"}


def is_listing(text: str) -> bool:
    """Whether a text may be what ``lsmem`` prints, in any form."""
    return is_json(text) or any(form.match(text.lstrip()) for form in (HEADER, _PAIR, _RANGE))


def is_json(text: str) -> bool:
    """Whether a text may be what ``lsmem --json`` prints."""
    return text.lstrip().startswith("{") and '"memory"' in text


Row = Mapping[str, str]
"""The cells of a range, by column."""


def parse(text: str, *, where: str) -> MemoryBlocks:
    """The memory blocks that ``lsmem`` listed.

    Raises :class:`BadInput` naming the line that it does not print, for a list that does not tell how large blocks
    are, and for one with a block twice.
    """
    rows = list(_of_json(text, where) if is_json(text) else _of_table(text, where))
    if not rows:
        raise BadInput("lists no memory", where=where, fix="take it again: lsmem --all --output-all")
    size = _block_size(text, rows, where)
    blocks: dict[int, MemoryBlock] = {}
    for place, row in rows:
        span = _range(row, place)
        if span.start % size or span.end % size:
            raise BadInput(f"{row['RANGE']} is not made of blocks of {size:#x} bytes", where=place)
        if span.size // size > COUNT.most:
            raise COUNT.refusal(place)
        if (named := _BLOCKS.fullmatch(row.get("BLOCK", ""))) and int(named[1]) != span.start // size:
            raise BadInput(f"{row['RANGE']} is not where block {named[1]} of {size:#x} bytes is", where=place)
        for index in range(span.start // size, span.end // size):
            if index in blocks:
                raise BadInput(f"lists memory{index} twice", where=place)
            blocks[index] = _block(index, row, place)
    return MemoryBlocks(size, tuple(blocks[index] for index in sorted(blocks)))


def _of_table(text: str, where: str) -> Iterator[tuple[str, Row]]:
    """The lines below the header, each with its place. Cells are as wide as their column, and flush right but RANGE's:
    an empty one is told by its place. ``--raw`` separates them by a space, ``--pairs`` names them.
    """
    ends: list[tuple[str, int]] = []
    raw = False
    for number, line in enumerate(text.splitlines(), start=1):
        if pairs := dict(_PAIR.findall(line)):
            yield f"{where}:{number}", pairs
            continue
        if HEADER.fullmatch(line.rstrip()):
            raw = "  " not in line.strip()
            ends = [(match[0], match.end()) for match in re.finditer(r"\S+", line)]
            continue
        if not ends and _RANGE.match(line.lstrip()):
            yield f"{where}:{number}", _without_headings(number, line, where)
            continue
        if not line.strip() or not ends:
            ends = []
            continue
        if raw:
            named = dict(zip((column for column, _ in ends), line.split(" "), strict=False))
            if _RANGE.fullmatch(named.get("RANGE", "")) is None:
                raise bad_line(where, number, line, "a range such as 0x0000000000000000-0x0000000007ffffff")
            yield f"{where}:{number}", named
            continue
        cells: dict[str, str] = {}
        at = 0
        for column, header_end in ends:
            match = _RANGE.match(line, at + bool(at)) if column == "RANGE" else None
            if column == "RANGE" and match is None:
                raise bad_line(where, number, line, "a range such as 0x0000000000000000-0x0000000007ffffff")
            end = match.end() if match is not None else header_end
            cells[column], at = line[at:end].strip(), end
        yield f"{where}:{number}", cells


def _without_headings(number: int, line: str, where: str) -> Row:
    """A line whose columns are told by what stands in them. Raises :class:`BadInput` where they are others."""
    words = line.split()
    row = dict(zip(_WITHOUT_HEADINGS, words, strict=False))
    fits = all(_WITHOUT_HEADINGS[column].fullmatch(word) for column, word in row.items())
    if not fits or not _LEAST_COLUMNS <= len(words) <= len(_WITHOUT_HEADINGS):
        columns = " ".join(_WITHOUT_HEADINGS)
        raise bad_line(where, number, line, f"headings, or {columns} in this order: take it again without -n")
    return row


def _of_json(text: str, where: str) -> Iterator[tuple[str, Row]]:
    """The ranges of ``lsmem --json``."""
    try:
        listed = json.loads(text)["memory"]
        for at, row in enumerate(listed):
            yield f"{where}: memory[{at}]", {name.upper(): _cell(value) for name, value in row.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput("is not what lsmem --json prints", where=where, fix="take it again") from error


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _block_size(text: str, rows: list[tuple[str, Row]], where: str) -> int:
    """Bytes of a block: as the summary says, or as a range and its numbers do."""
    told = _BLOCK_SIZE.search(text)
    if told is not None:
        size = parse_size(told[1], where=f"{where}: Memory block size")
    else:
        place, row = rows[0]
        match = _BLOCKS.fullmatch(row.get("BLOCK", ""))
        if match is None:
            raise BadInput(
                "nothing tells how large a memory block is", where=where, fix="print the column BLOCK, or the summary"
            )
        size = _range(row, place).size // (int(match[2] or match[1]) - int(match[1]) + 1)
    if size <= 0 or size & (size - 1):
        raise BadInput(f"memory blocks of {size:#x} bytes: no kernel has them", where=where)
    return size


def _range(row: Row, where: str) -> Span:
    match = _RANGE.fullmatch(row.get("RANGE", ""))
    if match is None:
        raise BadInput("a range of addresses is missing", where=where, fix=f"of {', '.join(COLUMNS)} print RANGE too")
    return Span(int(match[1], 16), int(match[2], 16) + 1)


def _block(index: int, row: Row, where: str) -> MemoryBlock:
    state = row.get("STATE", "online")
    if state not in _STATES:
        raise BadInput(f"want one of {', '.join(_STATES)}, got {state!r}", where=f"{where}: STATE")
    node, zones, removable = row.get("NODE", ""), row.get("ZONES", ""), row.get("REMOVABLE", "")
    if node and not node.isdecimal():
        raise BadInput(f"want a number, got {node!r}", where=f"{where}: NODE")
    return MemoryBlock(
        index,
        _STATES[state],
        tuple(_ZONES.get(zone, zone) for zone in (zones or "none").split("/")) if "ZONES" in row else None,
        removable == "yes" if "REMOVABLE" in row else None,
        nodes=(int(node),) if node else (),
    )
