"""The table of which kernels can keep struct pages in the memory that they describe, and why the others cannot."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from memhp.linux.memmap_verdicts import MemmapRow
from memhp.report.geometry import KERNELS, MACHINE, Cells, print_by_machine, short
from memhp.report.lines import print_wrapped
from memhp.report.table import Column
from memhp.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = (
    *MACHINE, KERNELS, Column("Block"), Column("Mode"), Column("Verdict", fold=True), Column("Conditions", fold=True),
)  # fmt: skip
NOTES = (
    "Mode: memory_hotplug.memmap_on_memory; with N, the default, no kernel does it. Set aside: pages at the start of "
    "each memory block. Conditions, in the kernel's order: struct pages are whole pages, whole pageblocks (5.13: leave "
    "whole pageblocks), leave memory to use, fill whole PMDs. The reasons: --json."
)


def print_memmap_on_memory(out: "Console", rows: Sequence[MemmapRow]) -> None:
    """Print a line for each architecture, page size, block size and mode, with the kernels that agree on it."""
    found: dict[tuple[Cells, Cells], list[str]] = {}
    for row in sorted(rows, key=lambda row: (row.arch, row.page_size)):
        if row.mode == "N" and row.conditions[0].met:
            continue
        kernels = found.setdefault(((row.arch, format_size(row.page_size)), _cells(row)), [])
        if short(row.profile) not in kernels:
            kernels.append(short(row.profile))
    lines = [(*key, " ".join(kernels), *cells) for (key, cells), kernels in found.items()]
    print_by_machine(out, "Struct pages in the memory that they describe", COLUMNS, lines)
    print_wrapped(out, Text(NOTES, style="dim"))


def _cells(row: MemmapRow) -> Cells:
    waste = f", {row.wasted_pages} wasted" if row.wasted_pages else ""
    verdict = f"{row.memmap_pages} set aside{waste}" if row.supported else "no"
    mode = row.mode if row.conditions[0].met else "-"
    return format_size(row.memory_block_size), mode, verdict, _conditions(row)


def _conditions(row: MemmapRow) -> str:
    if not row.conditions[0].met:
        return "kernel ✗"
    return "  ".join(f"{each.name.removeprefix('whole ')} {'✓' if each.met else '✗'}" for each in row.conditions[2:])
