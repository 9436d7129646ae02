"""Which memory blocks somebody means: a block, a range of addresses, a node, or the device that brought them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.errors import BadInput, one_of
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.source import Source
from memhp.operate.blocks import owners_of
from memhp.spans import Span, SpanSet
from memhp.units import format_range, parse_size

_BLOCK = re.compile(r"(?:memory)?(\d{1,18})")
_BLOCKS = re.compile(r"(\d{1,18})[-–](\d{1,18})")
_RANGE = re.compile(r"(0[xX][0-9a-fA-F]+)(?:([-+])(\w+))?")
_NODE = re.compile(r"node(\d{1,9})")
_ANOTHER_NODE = re.compile(r"^Node +[1-9]", re.MULTILINE)
LISTS = "memhp blocks lists them"
FORMS = "a block (32), blocks (32-39), an address (0x100000000), a range (0x100000000+1G), a node (node0)"
RUNS = 4
"""So many runs of block numbers are named in an error."""


def blocks_about(source: Source, memory: MemoryBlocks, about: str) -> list[MemoryBlock]:
    """The blocks that ``32``, ``memory32``, ``32-39``, ``0x100000000``, ``0x100000000-0x13fffffff``,
    ``0x100000000+1G``, ``node1``, ``virtio0``, ``dax0.0`` or ``PNP0C80:00`` (a DIMM) names, or several of these with
    commas between them; ascending.

    Raises :class:`BadInput` for what names no memory of this machine.
    """
    if "," in about:
        parts = [blocks_about(source, memory, part.strip()) for part in about.split(",")]
        return sorted({block.index: block for part in parts for block in part}.values(), key=lambda block: block.index)
    if match := _BLOCK.fullmatch(about):
        return _numbered(memory, int(match[1]), int(match[1]), about)
    if match := _BLOCKS.fullmatch(about):
        return _numbered(memory, int(match[1]), int(match[2]), about)
    if match := _RANGE.fullmatch(about):
        return _within(memory, _span(match), about)
    if match := _NODE.fullmatch(about):
        return _of_node(source, memory, int(match[1]), about)
    return _of_device(source, memory, about)


def _span(match: re.Match[str]) -> Span:
    start = int(match[1], 16)
    if match[2] is None:
        return Span(start, start + 1)
    end = parse_size(match[3], where="BLOCK")
    return Span(start, start + end if match[2] == "+" else end + 1)


def _numbered(memory: MemoryBlocks, first: int, last: int, about: str) -> list[MemoryBlock]:
    found = [block for block in memory.blocks if first <= block.index <= last]
    if not found:
        raise BadInput(f"there is no memory block {about}", where="BLOCK", fix=f"there are {_numbers(memory)}")
    return found


def _numbers(memory: MemoryBlocks) -> str:
    """The numbers of all blocks, ``0–23, 32–199``."""
    runs = list(SpanSet((block.index, block.index + 1) for block in memory.blocks))
    told = [format_range(run.start, run.end - 1) for run in runs[:RUNS]]
    return ", ".join(told if len(runs) <= RUNS else [*told[:-1], "…", format_range(runs[-1].start, runs[-1].end - 1)])


def _within(memory: MemoryBlocks, span: Span, about: str) -> list[MemoryBlock]:
    found = [block for block in memory.blocks if memory.span(block).overlaps(span)]
    if not found:
        raise BadInput(f"no memory block is in {about}", where="BLOCK", fix=LISTS)
    return found


def _of_node(source: Source, memory: MemoryBlocks, nid: int, about: str) -> list[MemoryBlock]:
    """The blocks of a node; all are of node 0 where a kernel without CONFIG_NUMA links them to none."""
    found = [block for block in memory.blocks if nid in block.nodes]
    if nid == 0 and not any(block.nodes for block in memory.blocks):
        found = [] if _ANOTHER_NODE.search(source.get("/proc/zoneinfo") or "") else list(memory.blocks)
    if not found:
        raise BadInput(f"no memory block is on {about}", where="BLOCK", fix=LISTS)
    return found


def _of_device(source: Source, memory: MemoryBlocks, name: str) -> list[MemoryBlock]:
    found: list[MemoryBlock] = []
    known: dict[str, None] = {}
    for index, owner in sorted(owners_of(source, memory, unseen=[]).items()):
        driver, _, device = owner.partition(" ")
        known |= dict.fromkeys(filter(None, (driver, device)))
        if name and name in (driver, device):
            found.append(memory.by_index[index])
    if not found:
        raise BadInput(
            f"no memory came from {name[:80]!r}",
            where="BLOCK",
            fix=FORMS + (f", or who brought memory: {one_of(name, known)}" if known else ""),
        )
    return found
