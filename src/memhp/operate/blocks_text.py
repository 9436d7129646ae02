"""Memory blocks as plain text of up to 80 columns: a picture and a table, without anything that takes long to load."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from shutil import get_terminal_size
from textwrap import wrap

from memhp.operate.blocks import BlockRange, BlocksDocument
from memhp.printable import printable
from memhp.units import exact_size, format_count, format_range, format_size

WIDTH = 80
"""Columns of the report, where the terminal has so many."""
NARROWEST = 20
MARGIN = 4
"""Columns beside the picture."""
NO_BREAK = "\N{NO-BREAK SPACE}"
_UNIT = re.compile(r"(?<=\d) ((?:[KMGTPE]i)?B\b)")
LETTERS = {"DMA": "D", "DMA32": "3", "Normal": "N", "HighMem": "H", "Movable": "M", "Device": "V"}
SEVERAL, OFFLINE, GOING, GAP, MIXED = "*", "·", "~", "┊", "▒"
LEGEND = {**{letter: zone for zone, letter in LETTERS.items()}, SEVERAL: "several zones", OFFLINE: "offline"}
LEGEND |= {GOING: "going offline", GAP: "no memory", MIXED: "blocks that differ"}


def text_of(document: BlocksDocument) -> str:
    """The whole report."""
    return as_text(_lines(document))


def as_text(lines: Iterable[str]) -> str:
    """Lines as they are printed: those of words are broken at the width, tables and pictures are not that wide.

    Sizes stay together with their units, and words whole.
    """
    out = []
    wide = width()
    for line in lines:
        safe = printable(line)
        hang = " " * (len(safe) - len(safe.lstrip()) + 2)
        if len(safe) <= wide:
            out.append(safe)
            continue
        kept = _UNIT.sub(f"{NO_BREAK}\\1", safe)
        broken = wrap(kept, wide, subsequent_indent=hang, break_on_hyphens=False, break_long_words=False)
        out += [part.replace(NO_BREAK, " ") for part in broken]
    return "".join(f"{line}\n" for line in out)


def width() -> int:
    """Columns that lines may have: those of the terminal, but no more than WIDTH, and WIDTH where there is none."""
    return max(NARROWEST, min(WIDTH, get_terminal_size((WIDTH, 24)).columns))


def _lines(document: BlocksDocument) -> Iterator[str]:
    total = sum(each.size for each in document.ranges)
    count = sum(each.count for each in document.ranges)
    kernel = f"Linux {document.kernel}, " if document.kernel else ""
    size = exact_size(document.block_size)
    yield f"{document.source}: {kernel}{exact_size(total)} in {format_count(count, 'memory block')} of {size}"
    states = {state: document.blocks(state) for state in ("online", "going-offline", "offline")}
    yield "  " + ", ".join(f"{number} {state}" for state, number in states.items() if number or state == "online")
    yield ""
    drawn = picture(document.ranges)
    yield f"  {drawn}"
    yield "  " + "  ".join(f"{sign} {LEGEND[sign]}" for sign in dict.fromkeys(drawn))
    yield ""
    yield from table(COLUMNS, [_row(each) for each in document.ranges])
    yield ""
    yield from _uses(document.ranges)
    yield from _zones(document)
    yield from _policy(document)
    for text in document.unseen:
        yield f"not seen: {text}"


def _sign(each: BlockRange) -> str:
    if each.state != "online":
        return OFFLINE if each.state == "offline" else GOING
    return LETTERS.get(each.zones[0], SEVERAL) if each.zones and each.zones != ["none"] else SEVERAL


def picture(ranges: Sequence[BlockRange]) -> str:
    """A sign for each block, or for as many as make the whole fit; a gap is one sign however wide."""
    count = sum(each.count for each in ranges)
    gaps = sum(before.last + 1 < after.first for before, after in pairwise(ranges))
    per = max(1, -(-count // max(width() - MARGIN - gaps, 1)))
    out, last, pending, held = "", None, "", 0
    for each in ranges:
        if last is not None and last + 1 < each.first:
            out, pending, held = out + _cell(pending) + GAP, "", 0
        left = each.count
        while left:
            part = min(left, per - held)
            pending, held, left = pending + _sign(each), held + part, left - part
            if held == per:
                out, pending, held = out + _cell(pending), "", 0
        last = each.last
    return out + _cell(pending)


def _cell(signs: str) -> str:
    return MIXED if len(set(signs)) > 1 else signs[:1]


COLUMNS = ("blocks", "start", "size", "state", "zones", "node", "removable", "added by", "memmap")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Heads and rows, sizes flush right; columns that nobody fills are left out.

    A list, a row an item, where the columns do not fit side by side.
    """
    shown = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    widths = {at: max(len(row[at]) for row in (heads, *rows)) for at in shown}
    if sum(widths.values()) + 2 * (len(shown) - 1) > width():
        for row in rows:
            yield "; ".join(f"{heads[at]} {row[at]}" for at in shown if row[at])
        return
    for row in (heads, *rows):
        cells = (row[at].rjust(widths[at]) if heads[at] == "size" else row[at].ljust(widths[at]) for at in shown)
        yield "  ".join(cells).rstrip()


def _row(each: BlockRange) -> tuple[str, ...]:
    zones = "" if each.zones is None else "several" if each.zones == ["none"] else "/".join(each.zones)
    return (
        format_range(each.first, each.last),
        f"{each.start:#x}",
        exact_size(each.size),
        each.state,
        zones,
        ",".join(map(str, each.nodes)),
        "" if each.removable is None else "yes" if each.removable else "no",
        each.added_by or "",
        "own" if each.memmap_on_memory else "",
    )


def _uses(ranges: Iterable[BlockRange]) -> Iterator[str]:
    """What the pages of each range are, most first."""
    for each in ranges:
        if each.use:
            sizes = sorted(each.use.items(), key=lambda use: -use[1])
            yield f"use of {format_range(each.first, each.last)}: {kinds_text(sizes)}"


def kinds_text(sizes: Iterable[tuple[str, int]]) -> str:
    """``1 GiB movable, 2 MiB struct pages``: kinds of pages with their bytes."""
    return ", ".join(f"{format_size(size)} {'struct pages' if kind == 'memmap' else kind}" for kind, size in sizes)


def _zones(document: BlocksDocument) -> Iterator[str]:
    for zone in document.zones:
        sizes = f"{format_size(zone.present)} present, {format_size(zone.free)} free"
        yield f"zone {zone.zone} of node {zone.node}: {sizes}"
    if document.memmap is not None:
        ratio = document.movable_ratio
        movable = f"; Movable is {ratio} % of the rest" if ratio is not None else ""
        yield f"struct pages: {format_size(document.memmap)}{movable}"


def _policy(document: BlocksDocument) -> Iterator[str]:
    policy = document.policy
    aware = policy.auto_movable_numa_aware
    named = {
        "auto_online_blocks": policy.auto_online_blocks,
        "memhp_default_state": policy.memhp_default_state,
        "online_policy": policy.online_policy,
        "auto_movable_ratio": policy.auto_movable_ratio,
        "auto_movable_numa_aware": None if aware is None else "NY"[aware],
        "memmap_on_memory": policy.memmap_on_memory,
    }
    told = [f"{name} {value}" for name, value in named.items() if value is not None]
    if told:
        yield f"policy: {', '.join(told)}"
