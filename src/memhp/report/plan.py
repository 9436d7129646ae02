"""A plan in the terminal: what adding the memory takes, the largest safe step, and the steps in their order."""
# SPDX-License-Identifier: GPL-2.0-or-later

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memhp.scenario.plan import Plan
from memhp.units import format_size

INDENT = "  "


def print_plan(console: Console, plan: Plan) -> None:
    """Print a plan below the rehearsal of the machine that it is for."""
    console.print()
    console.print(Text(f"plan: {format_size(plan.total)} more, {plan.driver}", style="bold"))
    console.print(Text(f"{INDENT}{bill_text(plan)}"))
    console.print(Text(f"{INDENT}{largest_text(plan)}"))
    if plan.steps:
        console.print(_steps(plan))
    if plan.reached < plan.total:
        console.print(Text(f"{INDENT}no further step is safe after {format_size(plan.reached)}", "red"))
    if plan.self_hosted is not None:
        can = "will do" if plan.self_hosted else "will not do either"
        console.print(Text(f"{INDENT}with memory_hotplug.memmap_on_memory=Y one step {can}"))


def bill_text(plan: Plan) -> str:
    """What adding it all in one step takes, and what can be had."""
    takes = "an unknown amount" if plan.needed is None else format_size(plan.needed)
    return f"one step takes {takes} of free memory before it is online; {format_size(plan.usable)} can be had"


def largest_text(plan: Plan) -> str:
    """The largest step that is safe now, and why not one block more."""
    more = f"; one block more: {plan.refusal}" if plan.refusal else ""
    return f"largest safe step now: {format_size(plan.largest)}{more}"


def _steps(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("step", "plug", "at", "then online", "takes", "free before it is online"):
        table.add_column(name, justify="left" if name == "then online" else "right", no_wrap=True)
    for number, step in enumerate(plan.steps, 1):
        sizes = (format_size(step.takes), format_size(step.leaves))
        table.add_row(str(number), format_size(step.size), f"{step.at:#x}", step.zone, *sizes)
    return table
