"""Fixes on the terminal: each with the releases that have it, and what goes wrong without."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from memhp.claims.fix import FixRow

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
"""Columns that a reader needs."""


def print_fixes(out: "Console", rows: Sequence[FixRow], kernel: str | None, unsaid: str = "") -> None:
    """Print the rows, then how many there are of each kind, and what the kernel's name leaves open."""
    for row in rows:
        out.print(Text(row.title, style="cyan"), width=WIDTH)
        since = f", of what {row.broken_since} brought" if row.broken_since else ""
        out.print(Padding(Text(f"{row.when}{since}", style="dim"), (0, 0, 0, 2)), width=WIDTH)
        out.print(Padding(Text(row.wrong), (0, 0, 0, 2)), width=WIDTH)
        out.print(Padding(Text(_status(row)), (0, 0, 0, 2)), width=WIDTH)
    out.print()
    counts = Counter(row.status for row in rows)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("shown", "not modelled", "not reachable") if counts[status]
    )
    what = f"that {kernel} lacks, or may lack, and a user can meet" if kernel else "of memory hotplug"
    out.print(Text(f"{len(rows)} fixes {what}" + (f": {told}" if told else "")), style="dim", width=WIDTH)
    if unsaid:
        out.print(Text(f"{unsaid[0].upper()}{unsaid[1:]}."), style="dim", width=WIDTH)


def _status(row: FixRow) -> str:
    lack = "" if row.lack != "not established" else "; whether this kernel needs it is not established"
    return row.status + (f": {row.reason}" if row.reason else "") + lack
