"""Memory blocks as a picture: their zones above, what their memory is used for below, and what stands in the way.

All pictures of a run are on one scale, so that memory is seen to come and to go. Each block is a bar of its use: the
share of the bar's height is the share of the block, and what is there at all is seen, however little it is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markupsafe import Markup

from memhp.report.address_axis import AXIS, Scale, axis, cuts, outlines
from memhp.report.obstacles import InTheWay
from memhp.report.svg import Label, element, labels, percent, picture, spread
from memhp.scenario.result import BlockRun, BlockUse, Run
from memhp.spans import Span, SpanMap
from memhp.units import align_down, align_up, format_count, format_size

ZONE, USE, LANE, MARK = 16, 36, 7, 15
"""Pixels: the heights of the zones, of the use, of the pages in the way, and of the words above refused blocks."""

SPACE = 2
"""Pixels between them."""

LEAST = 3
"""Pixels: the least height of a use that is there at all."""

FINE = 0.0025
"""The share of the width below which blocks are drawn together."""


class Kind(NamedTuple):
    """Uses of memory that are drawn alike: their name, their style, and the uses."""

    name: str
    style: str
    uses: tuple[str, ...]


KINDS = (
    Kind("reserved at boot", "u-boot", ("boot",)),
    Kind("unmovable", "u-unmovable", ("kernel", "slab", "reclaimable")),
    Kind("page tables", "u-tables", ("table",)),
    Kind("struct pages", "u-memmap", ("memmap",)),
    Kind("pinned", "u-pinned", ("pinned", "secretmem", "guest-memfd")),
    Kind("movable", "u-movable", ("movable", "hugetlb", "hugetlb-free", "gigantic", "gigantic-free", "balloon")),
    Kind("kept offline by a driver", "u-kept", ("logically-offline", "balloon-fixed")),
    Kind("poisoned", "u-poisoned", ("hwpoison",)),
    Kind("free", "u-free", ("free",)),
)
"""From the bottom of a bar to its top; what is not in use is left blank."""

ZONES = {"DMA": "D", "DMA32": "3", "Normal": "N", "Movable": "M", "Device": "V", "": "∗"}
"""The letter that stands for a zone where its name has no room; "" is several zones."""


def scale_of(run: Run) -> Scale:
    """The scale of the pictures of a run: all memory that there ever was."""
    blocks = {(each.start, each.size) for step in run.steps for each in (*step.blocks_before, *step.blocks_after)}
    blocks |= {(each.start, each.size) for each in run.state.blocks}
    return Scale((start, start + size) for start, size in sorted(blocks))


def zone_class(zone: str) -> str:
    """The style class of a zone's colour."""
    return f"z-{zone.lower() or 'none'}"


def strip(blocks: list[BlockRun], uses: list[BlockUse], marks: list[InTheWay], scale: Scale, block_size: int) -> Markup:
    """Memory blocks after a step: a ghost where memory is gone, hatched where it is offline."""
    count = sum(run.last - run.first + 1 for run in blocks)
    online = sum(run.last - run.first + 1 for run in blocks if run.state == "online")
    label = f"{format_count(count, 'memory block')}, {online} of them online"
    if marks:
        label += f"; {', '.join(mark.title for mark in marks)}"
    top = MARK if marks else 1
    use = top + ZONE + SPACE
    bottom = use + USE + (SPACE + LANE if marks else 0)
    parts = [*outlines(scale, top, ZONE), *outlines(scale, use, USE)]
    for run in blocks:
        parts += _zone(run, scale, top, block_size)
    parts += (bar for column in _columns(uses, scale, block_size) for bar in _bars(column, scale, use, block_size))
    parts += _marks(marks, scale, block_size, top, bottom)
    parts += axis(scale, bottom)
    return picture(label, bottom + AXIS, parts, "strip")


def _zone(run: BlockRun, scale: Scale, y: float, block_size: int) -> Iterator[Markup]:
    online = run.state == "online"
    state = f"online in {run.zone or 'several zones'}" if online else run.state
    hosts = ", hosting their own memmap" if run.memmap_on_memory else ""
    title = f"{blocks_text(run.first, run.last)}: {state}{hosts}; {run.start:#x}–{run.start + run.size:#x}"
    yield scale.bar(run.start, run.size, y, ZONE, zone_class(run.zone) if online else "offline", title)
    if run.memmap_on_memory:
        yield scale.bar(run.start, run.size, y, 3, "host")
    yield from cuts(scale, Span(run.start, run.start + run.size), block_size, y, ZONE)
    share = scale.width(run.size)
    middle = percent(scale.x(run.start) + share / 2)
    long, short = (run.zone or "several", ZONES.get(run.zone, "?")) if online else (run.state, "–")
    for name, windows in labels(long, short, share):
        look = f"{f'on {zone_class(run.zone)}' if online else 'off'} {windows}".rstrip()
        yield element("text", name, class_=look, x=middle, y=y + ZONE - 4.5, text_anchor="middle")


class _Column(NamedTuple):
    """Neighbouring blocks that are drawn as one bar: bytes of each use in all of them."""

    first: int
    last: int
    use: dict[str, int]


def _columns(uses: list[BlockUse], scale: Scale, block_size: int) -> Iterator[_Column]:
    """Runs of blocks that are alike; together where they are too narrow to be told apart."""
    few = FINE / scale.width(block_size) if uses and scale.width(block_size) else 0
    open_: _Column | None = None
    for each in uses:
        count = each.last - each.first + 1
        use = {name: size * count for name, size in each.use.items()}
        narrow = count < few and open_ is not None and open_.last - open_.first + 1 < few
        if open_ is not None and narrow and open_.last + 1 == each.first:
            open_ = _Column(open_.first, each.last, dict(Counter(open_.use) + Counter(use)))
            continue
        if open_ is not None:
            yield open_
        open_ = _Column(each.first, each.last, use)
    if open_ is not None:
        yield open_


def _bars(column: _Column, scale: Scale, y: float, block_size: int) -> Iterator[Markup]:
    sizes = kinds_of(column.use)
    start, size = column.first * block_size, (column.last - column.first + 1) * block_size
    told = ", ".join(f"{kind.name} {format_size(sizes[kind])}" for kind in KINDS if kind in sizes) or "not in use"
    at = y + USE
    for kind, height in _heights(sizes, size):
        at -= height
        yield scale.bar(start, size, at, height, kind.style, f"{blocks_text(column.first, column.last)}: {told}")


def kinds_of(use: dict[str, int]) -> dict[Kind, int]:
    """Bytes of each kind that there is."""
    sizes = {kind: sum(use.get(name, 0) for name in kind.uses) for kind in KINDS}
    return {kind: size for kind, size in sizes.items() if size}


def _heights(sizes: dict[Kind, int], whole: int) -> list[tuple[Kind, float]]:
    """The height of each kind, in proportion as far as all of them can be seen."""
    heights = {kind: max(LEAST, USE * size / whole) for kind, size in sizes.items()}
    over = sum(heights.values()) - USE
    for kind in sorted(heights, key=lambda kind: -heights[kind]):
        less = min(max(over, 0.0), heights[kind] - LEAST)
        heights[kind] -= less
        over -= less
    return [(kind, heights[kind]) for kind in KINDS if kind in heights]


def _marks(marks: list[InTheWay], scale: Scale, block_size: int, top: float, bottom: float) -> Iterator[Markup]:
    """Blocks that would not go, framed, and the pages in the way as a row of their own below."""
    frames: SpanMap[str] = SpanMap()
    for mark in marks:
        frames.set(align_down(mark.start, block_size), align_up(mark.start + mark.size, block_size), mark.word)
    words = []
    for start, end, word in frames:
        title = f"{word}: {start:#x}–{end:#x}"
        yield scale.bar(start, end - start, top - 1, bottom - LANE - SPACE - top + 2, "refused", title)
        x = scale.x(start)
        ends = Label(x + scale.width(end - start), f"{word} ▼", ends=True)
        words.append(Label(x, f"▼ {word}") if x < 0.5 else ends)
    yield from spread(words, top - 4, "mark")
    shown = -1.0
    for page in (page for mark in marks for page in mark.pages):
        x = scale.x(page.start)
        if x + scale.width(page.size) < shown:
            continue
        shown = x + max(scale.width(page.size), FINE)
        text = f"in the way: {format_size(page.size)} at {page.start:#x}, {page.owner}"
        yield scale.bar(page.start, page.size, bottom - LANE, LANE, "way", text)


def blocks_text(first: int, last: int) -> str:
    """``block 3``, ``blocks 3–7``."""
    return f"block {first}" if first == last else f"blocks {first}–{last}"


def zones_of(runs: Iterable[BlockRun]) -> list[str]:
    """The zones that blocks are online in, in the order in which they first appear; empty for several at once."""
    return list(dict.fromkeys(run.zone for run in runs if run.state == "online"))
