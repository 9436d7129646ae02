"""The matrix as a table: a configuration a row, what adding and removing cost, and whether every law held."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memhp.scenario.matrix import MatrixRow
from memhp.scenario.result import FlushCount, Tables
from memhp.units import format_size

COLUMNS = (
    "kernel",
    "arch",
    "page",
    "VA",
    "block",
    "map",
    "memmap",
    "+tables",
    "-tables",
    "left",
    "flushes",
    "early",
    "",
)


def print_matrix(out: Console, rows: Sequence[MatrixRow]) -> None:
    """Print the table, then what went wrong where, then a count."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in {"kernel", "arch", ""} else "right", no_wrap=True)
    for row in rows:
        width = str(row.va_bits) if row.va_bits == row.va_bits_actual else f"{row.va_bits}→{row.va_bits_actual}"
        table.add_row(
            row.profile, row.arch, format_size(row.page_size), width, format_size(row.block_size), row.direct_map_leaf,
            row.memmap_leaf, tables_text(row.tables_added), tables_text(row.tables_freed), str(row.tables_left),
            str(flush_count(row.flushes_remove)), str(row.freed_before_flush),
            Text("✓", style="green") if row.ok else Text("✗", style="bold red"),
        )  # fmt: skip
    out.print(table)
    for row in rows:
        if not row.ok:
            out.print(
                f"✗ {row.profile} {row.arch} {format_size(row.page_size)} {row.va_bits}-bit: {row.failed}", style="red"
            )
    out.print(
        "map, memmap: leaves of the direct map and of the struct pages. flushes: made on removal.\n"
        "early: frames given back before the flush that covers them.",
        style="dim",
    )
    held = sum(row.ok for row in rows)
    out.print(f"{held} of {len(rows)} configurations came through with every law held", style="bold")


def tables_text(tables: Tables) -> str:
    """Table frames by level, the leaf tables first: ``256 PTE 1 PMD``."""
    counts = [(name, getattr(tables, name)) for name in tables.__struct_fields__]
    return " ".join(f"{count} {name}" for name, count in counts if count) or "0"


def flush_count(flushes: Sequence[FlushCount]) -> int:
    """Invalidations of any kind."""
    return sum(flush.times for flush in flushes)
