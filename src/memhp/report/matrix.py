"""The matrix as a table: a configuration a row, what adding and removing cost, and whether every law held."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console
from rich.text import Text

from memhp.report.lines import print_wrapped
from memhp.report.table import Cell, Column, print_table
from memhp.scenario.result import Tables, flush_count
from memhp.target.model.matrix import MatrixRow
from memhp.units import format_count, format_size

COLUMNS = (
    Column(""), Column("kernel"), Column("arch"), Column("page", right=True), Column("VA", right=True),
    Column("block", right=True), Column("map", drop=1), Column("memmap", drop=1),
    Column("+tables", right=True, fold=True), Column("-tables", right=True, fold=True), Column("left", right=True),
    Column("flushes", right=True, drop=2), Column("early", right=True, drop=3),
)  # fmt: skip
NOTES = (
    "map, memmap: leaves of the direct map and of the struct pages. flushes: made on removal. "
    "early: frames given back before the flush that covers them."
)


def print_matrix(out: Console, rows: Sequence[MatrixRow], choices: Mapping[str, str] = MappingProxyType({})) -> None:
    """Print the table, then what went wrong where, then a count; before that what kernels were told to choose."""
    for name, value in choices.items():
        print_wrapped(out, Text(f"with {name} = {value}", style="bold"), hang=2)
    print_table(out, COLUMNS, map(_cells, rows))
    for row in rows:
        name = f"{row.profile} {row.arch} {format_size(row.page_size)} {row.va_bits}-bit"
        if row.known and row.as_known:
            print_wrapped(out, Text(f"~ {name}: {row.failed}\n  known: {row.known}", style="yellow"), hang=4)
        elif row.known:
            print_wrapped(
                out, Text(f"✗ {name}: {row.failed or 'whole'}\n  not as known: {row.known}", style="red"), hang=4
            )
        elif not row.as_known:
            print_wrapped(out, Text(f"✗ {name}: {row.failed}", style="red"), hang=4)
    print_wrapped(out, Text(NOTES, style="dim"))
    held = sum(row.ok for row in rows)
    known = sum(bool(row.known) and row.as_known for row in rows)
    rest = f", {known} broke as they are known to" if known else ""
    text = f"{held} of {format_count(len(rows), 'configuration')} came through with every law held{rest}."
    print_wrapped(out, Text(text, style="bold"))


def _cells(row: MatrixRow) -> tuple[Cell, ...]:
    width = str(row.va_bits) if row.va_bits == row.va_bits_actual else f"{row.va_bits}→{row.va_bits_actual}"
    return (
        _mark(row), row.profile, row.arch, format_size(row.page_size), width, format_size(row.block_size),
        row.direct_map_leaf or "-", row.memmap_leaf, tables_text(row.tables_added), tables_text(row.tables_freed),
        str(row.tables_left), str(flush_count(row.flushes_remove)), str(row.freed_before_flush),
    )  # fmt: skip


def _mark(row: MatrixRow) -> Text:
    """``✓`` for a configuration that is whole, ``~`` for one that is broken as known, ``✗`` for any other."""
    if not row.as_known:
        return Text("✗", style="bold red")
    return Text("~", style="yellow") if row.known else Text("✓", style="green")


def tables_text(tables: Tables) -> str:
    """Table frames by level, the leaf tables first: ``256 PTE 1 PMD``."""
    counts = [(name, getattr(tables, name)) for name in tables.__struct_fields__]
    return " ".join(f"{count} {name}" for name, count in counts if count) or "0"
