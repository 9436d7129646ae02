"""Choices on the terminal: a line for each with what kernels have, or one at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from memhp.linux.choice import shown
from memhp.linux.choice_table import ChoiceRow, KernelValue, ValueSince
from memhp.linux.release import FIRST
from memhp.report.geometry import short
from memhp.report.lines import print_wrapped

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
"""Columns that a reader needs."""
SHARED = "every architecture"
NOTE = (
    "v1, v5, v6, v7 are mail series. ?: others' stable series took\n"
    "a change back; whether this one did was not read.\n"
    "memhp choices NAME tells what one means, its values, and since when."
)


def print_choices(out: "Console", rows: Sequence[ChoiceRow]) -> None:
    """Print a line or two for each choice: its name, and what kernels chose, from the oldest on."""
    for arch, group in groupby(rows, key=lambda row: row.arch):
        out.print(Text(arch or SHARED, style="bold"))
        for row in group:
            print_wrapped(out, Text(row.name, style="cyan"), indent=2, most=WIDTH)
            print_wrapped(out, _kernels(row.kernels), indent=4, most=WIDTH)
        out.print()
    out.print(Text(NOTE), style="dim")


def print_choice(out: "Console", rows: Sequence[ChoiceRow]) -> None:
    """Print choices at length: what each means, its values, which kernel has which, since which commit."""
    for row in rows:
        out.print(Text(f"{row.name}  ", style="bold") + Text(row.arch or SHARED, style="dim"))
        values = f"{row.kind} {', '.join(map(bare, row.values))}"
        for text in (Text(plain(row.about)), Text(values)):
            print_wrapped(out, text, indent=2, most=WIDTH)
        for text in (*map(_step, row.history), *(Text(f"{bare(value)}  in no release") for value in row.unused)):
            print_wrapped(out, text, indent=4, most=WIDTH)
        print_wrapped(out, _kernels(row.kernels), indent=2, most=WIDTH)
        out.print()
    first = rows[0]
    tried = f"choices = {{ {first.name} = {shown(_other(first))} }} in a scenario, or --choice"
    print_wrapped(out, Text(f"to try another: {tried} {first.name}={bare(_other(first))}", style="dim"), most=WIDTH)


def plain(text: str) -> str:
    """A description without its marks of code."""
    return text.replace("``", "").replace("`", "")


def bare(value: Any) -> str:
    """A value as ``--choice`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(bare, value)) or "nothing"
    return shown(value).strip('"')


def _kernels(found: Iterable[KernelValue]) -> Text:
    """``linux-5.13 one-block · 6.6 …``: a value for the kernels that follow each other with it."""
    text = Text()
    for value, same in groupby(found, key=lambda each: each.value):
        names = [short(each.kernel) + ("" if each.settled else "?") for each in same]
        if text:
            text.append(" · ", style="dim")
        text.append(" ".join(names) + " ", style="dim")
        text.append(bare(value))
    return text


def _step(step: ValueSince) -> Text:
    text = Text(f"{bare(step.value)}  ")
    text.append(", ".join(_when(step)), style="dim")
    if step.commit:
        text.append(f"\n  {step.commit}", style="dim")
    return text


def _when(step: ValueSince) -> Iterator[str]:
    if step.since:
        yield f"since {step.since}"
    elif not step.stable:
        yield f"from before {FIRST}"
    yield from step.stable


def _other(row: ChoiceRow) -> Any:
    """A value that the newest kernel shown does not have."""
    newest = next((each.value for each in reversed(row.kernels) if each.kernel.startswith("linux-")), None)
    if row.kind == "any of":
        return row.values[:1]
    return next((value for value in row.values if value != newest), newest)
