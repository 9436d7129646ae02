"""/proc/pagetypeinfo: free blocks by migrate type and pageblocks by migrate type.

``mm/vmstat.c:pagetypeinfo_show`` prints one such section a node, to root only.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass

from memhp.facts.lines import Reader

CAPPED_AT = 100_000
"""The kernel stops counting a free list here and prints ``>`` before the count."""

_BLANK = re.compile("")
_ORDER = re.compile(r"Page block order: (\d+)")
_PAGES = re.compile(r"Pages per block:  (\d+)")
_FREE_HEAD = re.compile(r"Free pages count per migrate type at order +((?: *\d+ )+)")
_FREE = re.compile(r"Node +(\d+), zone +(\S+), type +(\S+) ((?: *>? *\d+ )+)")
_BLOCKS_HEAD = re.compile(r"Number of (blocks type|mixed blocks) +((?: *\S+ )+)")
_BLOCKS = re.compile(r"Node (\d+), zone +(\S+) ((?: *\d+ )+)")


@dataclass(frozen=True)
class FreeBlocks:
    """Free blocks of one migrate type of one zone: `free[order]`; counts of CAPPED_AT are lower bounds."""

    zone: str
    migratetype: str
    free: tuple[int, ...]


@dataclass(frozen=True)
class PageBlocks:
    """Pageblocks of one zone by migrate type, in the order of `NodePageTypes.migratetypes`."""

    zone: str
    count: tuple[int, ...]


@dataclass(frozen=True)
class NodePageTypes:
    """One node's section. `mixed` is printed by kernels with page_owner on only."""

    node: int
    pageblock_order: int
    migratetypes: tuple[str, ...]
    free: tuple[FreeBlocks, ...]
    blocks: tuple[PageBlocks, ...]
    mixed: tuple[PageBlocks, ...] = ()


def parse(text: str, *, where: str = "/proc/pagetypeinfo") -> tuple[NodePageTypes, ...]:
    """Every node with memory. Raises :class:`BadInput` naming the line that no kernel prints."""
    reader = Reader(text, where)
    nodes: list[NodePageTypes] = []
    while reader.more:
        nodes.append(_node(reader))
    return tuple(nodes)


def _node(reader: Reader) -> NodePageTypes:
    order = int(reader.need(_ORDER, "'Page block order: N'")[1])
    pages = int(reader.need(_PAGES, "'Pages per block:  N'")[1])
    if pages != 1 << order:
        raise reader.wrong(f"{1 << order} pages, as the order says")
    reader.need(_BLANK, "a blank line")
    orders = len(reader.need(_FREE_HEAD, "'Free pages count per migrate type at order'")[1].split())
    free: list[FreeBlocks] = []
    node = None
    while match := reader.take(_FREE):
        node = int(match[1])
        counts = tuple(int(count) for count in match[4].replace(">", " ").split())
        if len(counts) != orders:
            raise reader.wrong(f"{orders} counts, one an order")
        free.append(FreeBlocks(match[2], match[3], counts))
    if node is None:
        raise reader.missing("'Node N, zone NAME, type NAME' and a count for each order")
    reader.need(_BLANK, "a blank line")
    types, blocks = _blocks(reader, "blocks type")
    mixed: tuple[PageBlocks, ...] = ()
    if reader.take(_BLANK):
        mixed = _blocks(reader, "mixed blocks")[1]
    return NodePageTypes(node, order, types, tuple(free), blocks, mixed)


def _blocks(reader: Reader, title: str) -> tuple[tuple[str, ...], tuple[PageBlocks, ...]]:
    head = reader.need(_BLOCKS_HEAD, f"'Number of {title}' and the migrate types")
    if head[1] != title:
        raise reader.wrong(f"'Number of {title}'")
    types = tuple(head[2].split())
    rows: list[PageBlocks] = []
    while match := reader.take(_BLOCKS):
        counts = tuple(int(count) for count in match[3].split())
        if len(counts) != len(types):
            raise reader.wrong(f"{len(types)} counts, one a migrate type")
        rows.append(PageBlocks(match[2], counts))
    if not rows:
        raise reader.missing("'Node N, zone NAME' and a count for each migrate type")
    return types, tuple(rows)


def render(nodes: tuple[NodePageTypes, ...]) -> str:
    """The text of /proc/pagetypeinfo."""
    return "".join(_render_node(node) for node in nodes)


def _render_node(node: NodePageTypes) -> str:
    orders = range(len(node.free[0].free)) if node.free else range(0)
    out = [f"Page block order: {node.pageblock_order}", f"Pages per block:  {1 << node.pageblock_order}", ""]
    out.append(f"{'Free pages count per migrate type at order':<43} {''.join(f'{order:6d} ' for order in orders)}")
    out += [
        f"Node {node.node:4d}, zone {row.zone:>8}, type {row.migratetype:>12} "
        + "".join(f"{'>' if count >= CAPPED_AT else ''}{count:6d} " for count in row.free)
        for row in node.free
    ]
    for title, rows in (("blocks type", node.blocks), ("mixed blocks", node.mixed)):
        if rows:
            head = f"{f'Number of {title} ':<23}"
            out += ["", head + "".join(f"{name:>12} " for name in node.migratetypes)]
            counts = ("".join(f"{count:12d} " for count in row.count) for row in rows)
            out += [f"Node {node.node}, zone {row.zone:>8} {count}" for row, count in zip(rows, counts, strict=True)]
    return "\n".join(out) + "\n"
