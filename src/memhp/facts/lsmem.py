"""Memory ranges as util-linux's lsmem prints them (``sys-utils/lsmem.c``), from our own facts."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks

COLUMNS = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK", "NODE", "ZONES")
DEFAULT_COLUMNS = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK")

_ZONE_NAMES = {"dma": "DMA", "dma32": "DMA32", "normal": "Normal", "highmem": "Highmem", "movable": "Movable"}
_ZONE_NAMES |= {"device": "Device", "none": "None"}
_UNKNOWN = "Unknown"
_STATES = {"online": "online", "offline": "offline", "going-offline": "on->off"}
_MEMMAP = {"Y": "yes", "N": "no", "force": "force"}


class Release(NamedTuple):
    """What changed between releases of lsmem: which version, and what holds from it on."""

    since: tuple[int, int]
    size_hint: int
    """The width of SIZE where its cells are as wide as its header, not less and not more
    (``libsmartcols/src/calculate.c:count_column_width``)."""
    label_width: int
    """Columns for the labels of the summary."""
    node_from_any_block: bool
    """Whether NODE is shown if any block has a node, or only if the lowest has one."""
    zones_from_any_block: bool
    """Whether ZONES are shown if any block has zones, or only if memory0 exists and has them."""
    memmap_on_memory: bool
    """Whether the summary ends with the memmap_on_memory parameter."""


RELEASES = (
    Release((2, 37), 5, 23, False, False, False),
    Release((2, 41), 5, 32, True, False, False),
    Release((2, 42), 4, 32, True, True, True),
)
"""Oldest first. 2.37 stands for everything before it."""


@dataclass(frozen=True)
class Range:
    """Blocks `first` to ``first.index + count - 1``, all alike as far as the output is to tell them apart."""

    first: MemoryBlock
    count: int


def release(version: str) -> Release:
    """The release for a version such as ``2.38.1``. Raises :class:`BadInput` for what is no version."""
    try:
        wanted = tuple(int(part) for part in version.split(".")[:2])
    except ValueError as error:
        raise BadInput(f"want a version such as 2.38.1, got {version!r}", where="lsmem") from error
    return next((each for each in reversed(RELEASES) if each.since <= wanted), RELEASES[0])


def columns(text: str) -> tuple[str, ...]:
    """The columns of ``--output``: names in any case; ``+NAME,...`` adds to the default ones.

    Raises :class:`BadInput` for a name that lsmem does not have.
    """
    names = tuple(name.strip().upper() for name in text.removeprefix("+").split(","))
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"no column {name!r}", where="--output", fix=f"of: {', '.join(COLUMNS)}")
    return (*DEFAULT_COLUMNS, *names) if text.startswith("+") else names


def _zones(block: MemoryBlock) -> tuple[str, ...]:
    return tuple(_ZONE_NAMES.get(zone.lower(), _UNKNOWN) for zone in block.valid_zones or ())


_ALIKE: dict[str, Callable[[MemoryBlock], object]] = {
    "STATE": lambda block: block.state,
    "REMOVABLE": lambda block: bool(block.removable),
    "NODE": lambda block: block.nodes[0] if block.nodes else -1,
    "ZONES": _zones,
}
"""What neighbours must have in common to be one range, for each column that splits."""


def ranges(memory: MemoryBlocks, *, split: Iterable[str] = DEFAULT_COLUMNS, every_block: bool = False) -> list[Range]:
    """The blocks joined to ranges: neighbours that are alike in the columns of `split` (``is_mergeable()``).

    `every_block` joins none (``--all``). Zones that lsmem does not know join nothing.
    """
    tests = [_ALIKE[column] for column in split if column in _ALIKE]
    with_zones = "ZONES" in split
    found: list[Range] = []
    for block in memory.blocks:
        last = found[-1] if found and not every_block else None
        if (
            last is not None
            and last.first.index + last.count == block.index
            and all(test(last.first) == test(block) for test in tests)
            and not (with_zones and _UNKNOWN in _zones(block))
        ):
            found[-1] = replace(last, count=last.count + 1)
        else:
            found.append(Range(block, 1))
    return found


def lsmem(
    memory: MemoryBlocks,
    *,
    output: Iterable[str] = DEFAULT_COLUMNS,
    split: Iterable[str] | None = None,
    every_block: bool = False,
    in_bytes: bool = False,
    table: bool = True,
    summary: bool = True,
    memmap_on_memory: str | None = None,
    like: Release = RELEASES[-1],
) -> str:
    """What lsmem prints for these memory blocks, byte for byte as the release `like` does.

    `split` are the columns that split ranges, those of `output` if None; `memmap_on_memory` is the parameter that newer
    releases put into the summary; `in_bytes` prints sizes in bytes (``--bytes``).
    """
    wanted = tuple(output)
    if not any(block.nodes for block in (memory.blocks if like.node_from_any_block else memory.blocks[:1])):
        memory = replace(memory, blocks=tuple(replace(block, nodes=()) for block in memory.blocks))
    shows_zones = [block for block in memory.blocks if like.zones_from_any_block or block.index == 0]
    if all(block.valid_zones is None for block in shows_zones):
        memory = replace(memory, blocks=tuple(replace(block, valid_zones=None) for block in memory.blocks))
    rows = ranges(memory, split=wanted if split is None else tuple(split), every_block=every_block)
    cells = [[_cell(memory, row, column, in_bytes) for column in wanted] for row in rows]
    text = _table(wanted, cells, like.size_hint) if table else ""
    if summary:
        text += "\n" if table else ""
        text += _summary(memory, in_bytes, memmap_on_memory if like.memmap_on_memory else None, like.label_width)
    return text


def _cell(memory: MemoryBlocks, row: Range, column: str, in_bytes: bool) -> str:
    start, size = row.first.index * memory.block_size, row.count * memory.block_size
    if column == "RANGE":
        return f"0x{start:016x}-0x{start + size - 1:016x}"
    if column == "SIZE":
        return str(size) if in_bytes else _human(size)
    if column == "STATE":
        return _STATES[row.first.state]
    if column == "REMOVABLE":
        return ("yes" if row.first.removable else "no") if row.first.state == "online" else ""
    if column == "BLOCK":
        return f"{row.first.index}-{row.first.index + row.count - 1}" if row.count > 1 else str(row.first.index)
    if column == "NODE":
        return str(row.first.nodes[0]) if row.first.nodes else ""
    return "/".join(_zones(row.first))


def _table(names: tuple[str, ...], rows: list[list[str]], size_hint: int) -> str:
    """Columns as wide as their widest cell, a space between; all but RANGE flush right, the last one not filled up."""
    widths = []
    for at, name in enumerate(names):
        cells = max((len(row[at]) for row in rows), default=0)
        widths.append(size_hint if name == "SIZE" and cells == len(name) else max(cells, len(name)))
    out = []
    for row in (list(names), *rows):
        shown = [
            cell.ljust(width) if name == "RANGE" else cell.rjust(width)
            for name, cell, width in zip(names, row, widths, strict=True)
        ]
        if names[-1] == "RANGE" or not row[-1]:
            shown[-1] = row[-1]
        out.append(" ".join(shown))
    return "".join(f"{line}\n" for line in out)


def _summary(memory: MemoryBlocks, in_bytes: bool, memmap_on_memory: str | None, label_width: int) -> str:
    online = sum(memory.block_size for block in memory.blocks if block.state == "online")
    offline = memory.block_size * len(memory.blocks) - online
    width = 15 if in_bytes else 5
    lines = {
        "Memory block size:": memory.block_size,
        "Total online memory:": online,
        "Total offline memory:": offline,
    }
    shown = {label: str(size) if in_bytes else _human(size) for label, size in lines.items()}
    if memmap_on_memory is not None:
        shown["Memmap on memory parameter:"] = _MEMMAP[memmap_on_memory]
    return "".join(f"{label:<{label_width}} {value:>{width}}\n" for label, value in shown.items())


def _human(size: int) -> str:
    """A size with one letter and at most one decimal (``lib/strutils.c:size_to_human_string``)."""
    exponent = next((shift for shift in range(10, 61, 10) if size < 1 << shift), 70) - 10
    whole, rest = size >> exponent, size & ((1 << exponent) - 1)
    tenths = (rest * 1000 // (1 << exponent) + 50) // 100
    if tenths == 10:
        whole, tenths = whole + 1, 0
    return f"{whole}{f'.{tenths}' if tenths else ''}{'BKMGTPE'[exponent // 10]}"
