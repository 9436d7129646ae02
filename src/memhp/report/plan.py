"""A plan in the terminal: what adding the memory takes, the largest safe step, and the steps in their order."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from memhp.report.lines import print_wrapped
from memhp.report.table import Column, print_table
from memhp.target.model.plan import Plan
from memhp.units import exact_size, format_count, format_size

COLUMNS = (
    Column("step", right=True), Column("plug", right=True), Column("at", right=True), Column("then online"),
    Column("takes", right=True), Column("free before it is online", right=True, fold=True),
)  # fmt: skip


def print_plan(out: Console, plan: Plan, *, below: bool = False) -> None:
    """Print a plan, `below` the steps of a rehearsal or for a machine as it is."""
    if below:
        out.print()
    print_wrapped(out, Text(f"plan: {exact_size(plan.total)} more, {plan.driver}", style="bold"))
    print_wrapped(out, Text(f"  {bill_text(plan)}"), hang=2)
    print_wrapped(out, Text(f"  {largest_text(plan)}"), hang=2)
    if plan.steps:
        out.print()
        print_table(out, COLUMNS, _steps(plan))
        out.print()
    print_wrapped(out, _verdict(plan), hang=2)
    if plan.rests_on:
        print_wrapped(out, Text(f"  {rests_text(plan)}", style="dim"), hang=2)
    print_wrapped(out, Text(f"  {self_hosted_text(plan)}"), hang=2)


def bill_text(plan: Plan) -> str:
    """What adding it all in one step takes, and what can be had."""
    takes = "an unknown amount" if plan.needed is None else format_size(plan.needed)
    return f"One step takes {takes} of free memory before it is online; {format_size(plan.usable)} can be had."


def largest_text(plan: Plan) -> str:
    """The largest step that is safe now, and why not one block more."""
    if not plan.largest:
        return f"No step is safe now, not even one memory block: {plan.refusal}."
    more = f"; one block more: {plan.refusal}" if plan.refusal else ""
    return f"Largest safe step now: {exact_size(plan.largest)}{more}."


def _steps(plan: Plan) -> Iterator[tuple[str, ...]]:
    for number, step in enumerate(plan.steps, 1):
        sizes = (format_size(step.takes), format_size(step.leaves))
        yield (str(number), exact_size(step.size), f"{step.at:#x}", step.zone, *sizes)


def _verdict(plan: Plan) -> Text:
    return Text(f"  {reached_text(plan)}", style="red" if plan.reached < plan.total else "green")


def reached_text(plan: Plan) -> str:
    """How far the steps get."""
    if not plan.reached:
        return f"There is no way to {exact_size(plan.total)}."
    if plan.reached < plan.total:
        return f"No further step is safe after {exact_size(plan.reached)}: {plan.short}."
    return f"{format_count(len(plan.steps), 'step')} to {exact_size(plan.total)}."


def rests_text(plan: Plan) -> str:
    """What has to hold for the plan, of what was assumed."""
    return f"If what is assumed holds: {', '.join(plan.rests_on)}."


def self_hosted_text(plan: Plan) -> str:
    """Whether struct pages could lie in the memory itself, and whether that would make the plan shorter."""
    name = "memory_hotplug.memmap_on_memory=Y"
    if plan.self_hosted is None:
        why = "virtio-mem never asks for it" if plan.driver == "virtio_mem" else "the kernel cannot do it here"
        return f"{name} changes nothing: {why}."
    if not plan.self_hosted:
        return f"With {name} one step will not do either."
    if len(plan.steps) == 1 and plan.reached == plan.total:
        return f"With {name} the struct pages lie in the memory itself; it is not needed for this."
    return f"With {name} one step will do."
