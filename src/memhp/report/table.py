"""The one table of every command: it fits the terminal without ever cutting a verdict, an address or a size.

A table that is too wide first folds columns of words, then leaves out columns that say so of themselves, and names
them below; if it still does not fit it becomes a list, a paragraph for each row.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from memhp.report.lines import longest_word, print_wrapped, wrapped

GAPS = (2, 1)
"""Spaces between two cells: as many as the room allows."""

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A column: its head, and what may be done to it where there is little room."""

    name: str
    right: bool = False
    fold: bool = False
    """Whether its cells may take several lines; between words only, a number stays with its unit."""
    drop: int = 0
    """The order in which columns are left out: 3 before 2 before 1, and 0 never."""
    once: bool = False
    """Whether a cell is left blank that repeats the one above, as do all columns before it."""


@dataclass(frozen=True)
class Section:
    """A line of its own between rows, above those that it is the heading of."""

    title: Text


Row = Sequence[Cell] | Section


def print_table(out: Console, columns: Sequence[Column], rows: Iterable[Row], *, title: str = "") -> None:
    """Print a table as wide as it needs and the console allows; `title` above it."""
    told = [row if isinstance(row, Section) else [_text(cell) for cell in row] for row in rows]
    cells = [row for row in told if not isinstance(row, Section)]
    shown = list(range(len(columns)))
    while (fitted := _fitted(columns, shown, cells, out.width)) is None:
        droppable = [at for at in shown if columns[at].drop]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda at: (columns[at].drop, at)))
    if title:
        out.print(Text(title, style="bold"))
    if fitted is None:
        _print_list(out, columns, told)
        return
    layout = _Layout([columns[at] for at in shown], *fitted)
    layout.print(out, [Text(column.name, style="dim") for column in layout.columns])
    above: list[str] = []
    for row in told:
        if isinstance(row, Section):
            out.print(row.title, soft_wrap=True)
            continue
        line = [row[at] for at in shown]
        layout.print(out, _blanked(layout.columns, line, above))
        above = [cell.plain for cell in line]
    missing = [column.name for at, column in enumerate(columns) if at not in shown]
    if missing:
        print_wrapped(out, Text(f"Too narrow for: {', '.join(missing)}.", style="dim"))


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _blanked(columns: Sequence[Column], line: Sequence[Text], above: Sequence[str]) -> list[Text]:
    """A line without what repeats the one above."""
    cells = list(line)
    for at, column in enumerate(columns):
        if not column.once or not above or line[at].plain != above[at]:
            break
        cells[at] = Text()
    return cells


def _fitted(
    columns: Sequence[Column], shown: Sequence[int], rows: Sequence[Sequence[Text]], room: int
) -> tuple[list[int], int] | None:
    """The width of each column that is shown and the gap between two, or None where they do not fit in any way."""
    natural, least = [], []
    for at in shown:
        texts = [columns[at].name, *(row[at].plain for row in rows)]
        natural.append(max(len(line) for text in texts for line in text.split("\n")))
        least.append(max(map(longest_word, texts)) if columns[at].fold else natural[-1])
    for gap in GAPS:
        left = room - gap * (len(shown) - 1)
        if sum(least) <= left:
            return _folded(natural, least, left), gap
    return None


def _folded(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths that fit the room: the widest column that can become narrower does, and again."""
    widths = list(natural)
    for _ in range(sum(widths) - room):
        widest = max((at for at in range(len(widths)) if widths[at] > least[at]), key=lambda at: widths[at])
        widths[widest] -= 1
    return widths


@dataclass(frozen=True)
class _Layout:
    """The columns that are shown, with their widths and the gap between two."""

    columns: Sequence[Column]
    widths: Sequence[int]
    gap: int

    def print(self, out: Console, row: Sequence[Text]) -> None:
        """Print a row, in as many lines as its tallest cell takes."""
        cells = [wrapped(cell, width) for cell, width in zip(row, self.widths, strict=True)]
        for number in range(max(map(len, cells))):
            line = Text()
            for column, width, parts in zip(self.columns, self.widths, cells, strict=True):
                part = parts[number] if number < len(parts) else Text()
                pad = Text(" " * (width - len(part.plain)))
                line = line + (pad + part if column.right else part + pad) + Text(" " * self.gap)
            line.rstrip()
            out.print(line, soft_wrap=True)


def _print_list(out: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text] | Section]) -> None:
    """A paragraph for each row, of its cells with their names; a line ends between two of them if that is possible."""
    for row in rows:
        if isinstance(row, Section):
            out.print(row.title, soft_wrap=True)
            continue
        line = Text()
        for column, cell in zip(columns, row, strict=True):
            if not cell.plain.strip():
                continue
            pair = Text.assemble((f"{column.name} " if column.name else "", "dim"), cell)
            if line and len(line.plain) + len(pair.plain) + 2 > out.width:
                print_wrapped(out, line, hang=2)
                line = Text("  ") + pair
            else:
                line = line + Text("  " if line else "") + pair
        print_wrapped(out, line, hang=2)
