"""Tables of the sizes that hotplug works in: configurations with the same figures share a line."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from memhp.linux.geometry import Row
from memhp.report.lines import print_wrapped
from memhp.report.table import Column, print_table
from memhp.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

Cells = tuple[str, ...]


def print_geometry(out: "Console", rows: Sequence[Row]) -> None:
    """Print three tables: the units, what a memory block costs, and the address space."""
    print_by_machine(out, "Units of hotplug", UNITS, _merged(rows, _units))
    print_by_machine(out, "What a memory block takes when it is added", COST, _merged(rows, _cost))
    space = (*SPACE, ROOM) if any(row.max_possible_fits is not None for row in rows) else SPACE
    title = f"Address space, with {format_size(rows[0].ram_size)} of RAM"
    print_by_machine(out, title, space, _merged(rows, _space, by_va=True))
    series = any(not row.profile.startswith("linux-") for row in rows)
    notes = (SERIES if series else "", NOTES, ROOM_NOTE if ROOM in space else "")
    print_wrapped(out, Text(" ".join(filter(None, notes)), style="dim"))


MACHINE = (Column("Arch", once=True), Column("Page", once=True))
KERNELS = Column("Kernels", fold=True)
UNITS = (
    *MACHINE, KERNELS, Column("Section"), Column("Block"), Column("64 GiB+"), Column("Buddy", fold=True),
    Column("Pageblock", fold=True), Column("virtio-mem", fold=True),
)  # fmt: skip
COST = (
    *MACHINE, KERNELS, Column("Block"), Column("Struct pages", fold=True), Column("Vmemmap"), Column("Direct map"),
)  # fmt: skip
SPACE = (
    *MACHINE, Column("VA", fold=True), KERNELS, Column("Direct", fold=True), Column("Plug below", fold=True),
    Column("At boot", right=True), Column("Used", fold=True), Column("Shared", fold=True),
)  # fmt: skip
ROOM = Column("Room")
SERIES = "Kernels: v1, v5, v6, v7 are mail series."
NOTES = (
    "Block: the smallest DIMM, too. 64 GiB+: on bare metal with that much "
    "RAM. Buddy: its largest order. virtio-mem: sb sub-blocks, bb big blocks of that size. Direct: size of the direct "
    "map. Plug below: where memory that needs it may be added. At boot: root entries filled ahead, a table page each. "
    "Used: of those for direct map and vmemmap. Shared: levels at which vmalloc and vmemmap have an entry in common."
)
ROOM_NOTE = "Room: if the direct map reaches the maximum."


def short(profile: str) -> str:
    """A profile's name without what the other columns say: ``6.12``, ``v1``, ``v7``."""
    return profile.rpartition("-")[2]


def _merged(rows: Iterable[Row], cells: Callable[[Row], Cells], *, by_va: bool = False) -> list[Cells]:
    """A line for each architecture, page size (and width) and set of figures, with the kernels that have them."""
    found: dict[tuple[Cells, Cells], list[str]] = {}
    ordered = sorted(
        rows, key=lambda row: (row.page_size, row.va_bits, -row.va_bits_actual) if by_va else row.page_size
    )
    for arch in dict.fromkeys(row.arch for row in rows):
        for row in (row for row in ordered if row.arch == arch):
            key: Cells = (row.arch, format_size(row.page_size), *((_va(row),) if by_va else ()))
            kernels = found.setdefault((key, cells(row)), [])
            if short(row.profile) not in kernels:
                kernels.append(short(row.profile))
    return [(*key, " ".join(kernels), *figures) for (key, figures), kernels in found.items()]


def _va(row: Row) -> str:
    return str(row.va_bits) if row.va_bits == row.va_bits_actual else f"{row.va_bits} on {row.va_bits_actual}"


def _units(row: Row) -> Cells:
    virtio = row.virtio_mem
    return (
        format_size(row.section_size),
        format_size(row.memory_block_size),
        format_size(row.memory_block_size_large),
        f"{row.max_page_order}, {format_size(row.page_size << row.max_page_order)}",
        f"{row.pageblock_order}, {format_size(row.pageblock_size)}",
        "-" if virtio is None else f"{'sb' if virtio.mode == 'sub-block' else 'bb'} {format_size(virtio.unit)}",
    )


def _cost(row: Row) -> Cells:
    return (
        format_size(row.memory_block_size),
        f"{format_size(row.memmap_bytes)}, {row.memmap_bytes / row.memory_block_size:.2%}",
        f"{row.memmap_leaves} x {format_size(row.memmap_leaf_size)}"
        if row.memmap_leaf_size <= row.memmap_bytes
        else f"part of {format_size(row.memmap_leaf_size)}",
        f"{row.direct_map_leaves} x {format_size(row.direct_map_leaf_size)}" if row.direct_map_leaf_size else "window",
    )


def _space(row: Row) -> Cells:
    known = [each for each in row.preallocated if each.used is not None]
    filled = str(row.preallocated_tables) if row.preallocated else "-"
    used = sum(each.used for each in known if each.used is not None)
    end = row.pluggable_end
    return (
        format_size(row.direct_map_size),
        "unchecked" if end is None else format_size(end),
        filled,
        f"{used} of {sum(each.tables for each in known)}" if known else "-",
        " ".join(["root", *row.vmalloc_vmemmap_shared_levels[1:]] if row.vmalloc_vmemmap_overlap else ["-"]),
        *(() if row.max_possible_fits is None else ("yes" if row.max_possible_fits else "no",)),
    )


def print_by_machine(out: "Console", title: str, columns: Sequence[Column], lines: Iterable[Cells]) -> None:
    """Print lines that start with architecture and page size, and name each of the two once."""
    print_table(out, columns, lines, title=title)
    out.print()
