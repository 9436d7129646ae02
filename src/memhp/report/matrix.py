"""The matrix as a table: a configuration a row, what adding and removing cost, and whether every law held."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memhp.scenario.matrix import MatrixRow
from memhp.scenario.result import FlushCount, Tables
from memhp.units import format_size

COLUMNS = (
    "",
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
)


def print_matrix(out: Console, rows: Sequence[MatrixRow], choices: Mapping[str, str] = MappingProxyType({})) -> None:
    """Print the table, then what went wrong where, then a count; before that what kernels were told to choose."""
    for name, value in choices.items():
        out.print(f"with {name} = {value}", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in {"kernel", "arch", ""} else "right", no_wrap=True)
    for row in rows:
        width = str(row.va_bits) if row.va_bits == row.va_bits_actual else f"{row.va_bits}→{row.va_bits_actual}"
        table.add_row(
            _mark(row), row.profile, row.arch, format_size(row.page_size), width, format_size(row.block_size),
            row.direct_map_leaf, row.memmap_leaf, tables_text(row.tables_added), tables_text(row.tables_freed),
            str(row.tables_left), str(flush_count(row.flushes_remove)), str(row.freed_before_flush),
        )  # fmt: skip
    out.print(table)
    for row in rows:
        name = f"{row.profile} {row.arch} {format_size(row.page_size)} {row.va_bits}-bit"
        if row.known and row.as_known:
            out.print(f"~ {name}: {row.failed}\n  known: {row.known}", style="yellow")
        elif row.known:
            out.print(f"✗ {name}: {row.failed or 'whole'}\n  not as known: {row.known}", style="red")
        elif not row.as_known:
            out.print(f"✗ {name}: {row.failed}", style="red")
    out.print(
        "map, memmap: leaves of the direct map and of the struct pages. flushes: made on removal.\n"
        "early: frames given back before the flush that covers them.",
        style="dim",
    )
    held = sum(row.ok for row in rows)
    known = sum(bool(row.known) and row.as_known for row in rows)
    rest = f", {known} broke as they are known to" if known else ""
    out.print(f"{held} of {len(rows)} configurations came through with every law held{rest}", style="bold")


def _mark(row: MatrixRow) -> Text:
    """``✓`` for a configuration that is whole, ``~`` for one that is broken as known, ``✗`` for any other."""
    if not row.as_known:
        return Text("✗", style="bold red")
    return Text("~", style="yellow") if row.known else Text("✓", style="green")


def tables_text(tables: Tables) -> str:
    """Table frames by level, the leaf tables first: ``256 PTE 1 PMD``."""
    counts = [(name, getattr(tables, name)) for name in tables.__struct_fields__]
    return " ".join(f"{count} {name}" for name, count in counts if count) or "0"


def flush_count(flushes: Sequence[FlushCount]) -> int:
    """Invalidations of any kind."""
    return sum(flush.times for flush in flushes)
