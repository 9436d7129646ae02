"""Fixes on the terminal: each with the releases that have it, and what goes wrong without."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from memhp.claims.fix import FixRow
from memhp.report.lines import print_wrapped
from memhp.units import format_count

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
"""Columns that a reader needs."""


def print_fixes(out: "Console", rows: Sequence[FixRow], kernel: str | None, unsaid: str = "") -> None:
    """Print the rows, then how many there are of each kind, and what the kernel's name leaves open."""
    for row in rows:
        print_wrapped(out, Text(row.title, style="cyan"), most=WIDTH)
        since = f", of what {row.broken_since} brought" if row.broken_since else ""
        for text in (Text(f"{row.when}{since}", style="dim"), Text(row.wrong), Text(_status(row))):
            print_wrapped(out, text, indent=2, most=WIDTH)
    out.print()
    counts = Counter(row.status for row in rows)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("shown", "not modelled", "not reachable") if counts[status]
    )
    what = f"that {kernel} lacks, or may lack, and a user can meet" if kernel else "of memory hotplug"
    said = f"{format_count(len(rows), 'fix')} {what}" + (f": {told}" if told else "")
    for line in (f"{said}.", f"{unsaid[0].upper()}{unsaid[1:]}." if unsaid else ""):
        if line:
            print_wrapped(out, Text(line, style="dim"), most=WIDTH)


def _status(row: FixRow) -> str:
    lack = "" if row.lack != "not established" else "; whether this kernel needs it is not established"
    return row.status + (f": {row.reason}" if row.reason else "") + lack
