"""A page-table walk written out from the manuals, one entry at a time, that shares nothing with the package's."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from typing import NamedTuple

Frames = dict[int, list[int]]


class Shape(NamedTuple):
    """A format in four numbers, bits of the page offset, of the address, of the physical address, and levels; and what
    entries hold that lead nowhere, by height."""

    arch: str
    page: int
    va: int
    pa: int
    levels: int
    none: tuple[int, ...]

    @property
    def top_only(self) -> bool:
        """Whether the root serves the top of the address space alone."""
        return self.arch in {"arm64", "loongarch64"}


class Leaf(NamedTuple):
    va: int
    pa: int
    height: int
    entry: int


class Table(NamedTuple):
    va: int
    height: int
    frame: int
    here: bool
    empty: bool


def classify(shape: Shape, entry: int, height: int) -> tuple[str, int]:
    """``("leaf", frame)``, ``("table", frame)`` or ``("nothing", 0)``."""
    by_arch = {"riscv64": _riscv, "arm64": _arm64, "x86_64": _x86, "loongarch64": _loongarch}
    return by_arch[shape.arch](shape, entry, height)


def _riscv(shape: Shape, e: int, h: int) -> tuple[str, int]:
    v, r, w, x = (e >> b & 1 for b in range(4))
    ppn = e >> 10 & (1 << 44) - 1
    if not v or (w and not r) or e >> 54 & 0x1F or e >> 61 & 3 == 3:
        return "nothing", 0
    if not (r or w or x):
        if h == 0 or e >> 4 & 1 or e >> 6 & 3 or e >> 61:
            return "nothing", 0
        return "table", ppn
    if ppn % (1 << 9 * h) or (e >> 63 and (h or ppn % 16 != 8)):
        return "nothing", 0
    return "leaf", ppn - 8 if e >> 63 else ppn


def _arm64(shape: Shape, e: int, h: int) -> tuple[str, int]:
    if e & 1 == 0 or (h == 0 and e & 2 == 0):
        return "nothing", 0
    if shape.pa == 48:
        pa = e % (1 << 48)
    elif shape.page == 16:
        pa = e % (1 << 48) | (e >> 12 & 15) << 48
    else:
        pa = e % (1 << 50) | (e >> 8 & 3) << 50
    if h and e & 2:
        return "table", pa >> shape.page
    if h > (2 if shape.page == 12 else 1):
        return "nothing", 0
    size = shape.page + (shape.page - 3) * h
    return "leaf", (pa >> size << size) >> shape.page


def _x86(shape: Shape, e: int, h: int) -> tuple[str, int]:
    pfn = e >> 12 & (1 << 40) - 1
    if e & 1 == 0:
        return "nothing", 0
    if h == 0:
        return "leaf", pfn
    if e & 0x80 == 0:
        return "table", pfn
    if h > 2 or (pfn & ~1) % (1 << 9 * h):
        return "nothing", 0
    return "leaf", pfn & ~1


def _loongarch(shape: Shape, e: int, h: int) -> tuple[str, int]:
    pfn = e % (1 << 48) >> shape.page
    if h and e >> 48 == 0x9000 and not e & 0x41:
        return "table", pfn
    if not e & 1 or (h and not e & 0x40):
        return "nothing", 0
    low = (shape.page - 3) * h
    return "leaf", pfn >> low << low


def _entries(shape: Shape, height: int) -> int:
    bits = shape.page - 3
    return 1 << (shape.va - shape.page - bits * height if height == shape.levels - 1 else bits)


def everything(shape: Shape, frames: Frames, root: int, first: int = 0) -> Iterator[Leaf | Table]:
    """Every table and leaf below a root, depth first, ascending by address."""

    def below(frame: int, height: int, base: int) -> Iterator[Leaf | Table]:
        row = frames.get(frame)
        yield Table(base, height, frame, row is not None, row is not None and set(row) == {shape.none[height]})
        if row is None:
            return
        shift = shape.page + (shape.page - 3) * height
        top = height == shape.levels - 1
        for i in range(_entries(shape, height)):
            entry = row[first + i if top else i]
            if entry == shape.none[height]:
                continue
            va = base + (i << shift)
            if top and not shape.top_only and i >= _entries(shape, height) // 2:
                va += (1 << 64) - (1 << shape.va)
            kind, pfn = classify(shape, entry, height)
            if kind == "table":
                yield from below(pfn, height - 1, va)
            elif kind == "leaf":
                napot = shape.arch == "riscv64" and entry >> 63
                pa = (pfn << shape.page) + (va % (1 << 16) if napot else 0)
                yield Leaf(va, pa, height, entry)

    yield from below(root, shape.levels - 1, (1 << 64) - (1 << shape.va) if shape.top_only else 0)


def ranges(
    shape: Shape, leaves: list[Leaf], same: Callable[[Leaf, Leaf], bool], contiguous: bool
) -> list[tuple[int, int, int]]:
    """(first address, size, physical address) of runs of neighbouring leaves of one height that are the `same`."""
    out: list[tuple[int, int, int, Leaf]] = []
    for leaf in leaves:
        size = 1 << shape.page + (shape.page - 3) * leaf.height
        if out:
            va, length, pa, last = out[-1]
            follows = va + length == leaf.va and last.height == leaf.height and same(last, leaf)
            if follows and (not contiguous or pa + length == leaf.pa):
                out[-1] = (va, length + size, pa, leaf)
                continue
        out.append((leaf.va, size, leaf.pa, leaf))
    return [(va, length, pa) for va, length, pa, _ in out]
