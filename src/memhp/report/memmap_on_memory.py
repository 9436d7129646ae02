"""The table of which kernels can keep struct pages in the memory that they describe, and why the others cannot."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memhp.linux.memmap_verdicts import MemmapRow
from memhp.report.geometry import Cells, print_table, short
from memhp.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("Arch", "Page", "Kernels", "Block", "Mode", "Verdict", "Conditions")
NOTES = (
    "Mode: memory_hotplug.memmap_on_memory; with N, the default, no kernel does it. Set aside: pages at the\n"
    "start of each memory block. Conditions, in the kernel's order: struct pages are whole pages, whole\n"
    "pageblocks (5.13: leave whole pageblocks), leave memory to use, fill whole PMDs. The reasons: --json."
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
    print_table(out, "Struct pages in the memory that they describe", COLUMNS, lines)
    out.print(NOTES, style="dim", soft_wrap=False)


def _cells(row: MemmapRow) -> Cells:
    waste = f", {row.wasted_pages} wasted" if row.wasted_pages else ""
    verdict = f"{row.memmap_pages} set aside{waste}" if row.supported else "no"
    mode = row.mode if row.conditions[0].met else "-"
    return format_size(row.memory_block_size), mode, verdict, _conditions(row)


def _conditions(row: MemmapRow) -> str:
    if not row.conditions[0].met:
        return "kernel ✗"
    return "  ".join(f"{each.name.removeprefix('whole ')} {'✓' if each.met else '✗'}" for each in row.conditions[2:])
