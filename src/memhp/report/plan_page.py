"""A plan as a part of the rehearsal's page: what it takes, each step drawn where its memory lies, and a row a step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from html import escape

from memhp.report.plan import bill_text, largest_text
from memhp.report.strip import AXIS, HEIGHT, WIDTH, Scale, axis, ghosts, zone_class
from memhp.scenario.plan import Plan, PlanStep
from memhp.scenario.result import BlockRun, Run
from memhp.spans import SpanSet
from memhp.units import exact_size, format_size

ZONES = {"kernel": "Normal", "auto": "Normal", "movable": "Movable"}
"""The zone whose colour a step has, by how its memory goes online."""

BAR, ROW = 14, 20
"""User units: the height of a bar of free memory, and of its row."""

ROOM = 1.3
"""How much wider than the longest full bar their picture is."""

LABEL = 64
"""User units at the left of a bar, for the step's number."""


def plan_section(plan: Plan, run: Run) -> Iterator[str]:
    """The section's HTML. `run` is the rehearsal of the machine that the plan is for."""
    yield f"<h2>Plan: {escape(exact_size(plan.total))} more, {escape(plan.driver)}</h2>"
    yield f"<p>{escape(bill_text(plan))}</p><p>{escape(largest_text(plan))}</p>"
    if plan.reached < plan.total:
        yield f'<p class="bad">No further step is safe after {exact_size(plan.reached)}.</p>'
    if not plan.steps:
        return
    yield _picture(plan, run.state.blocks)
    yield _free(plan)
    yield '<div class="scroll"><table><tr><th class="n">step</th><th class="n">plug</th><th class="n">at</th>'
    yield '<th>then online</th><th class="n">takes</th><th class="n">free before it is online</th></tr>'
    yield from (_row(number, step) for number, step in enumerate(plan.steps, 1))
    yield "</table></div>"


def _row(number: int, step: PlanStep) -> str:
    cells = [str(number), exact_size(step.size), f"<code>{step.at:#x}</code>"]
    before = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    after = "".join(f'<td class="n">{format_size(size)}</td>' for size in (step.takes, step.leaves))
    return f"<tr>{before}<td>{escape(step.zone)}</td>{after}</tr>"


def _picture(plan: Plan, blocks: list[BlockRun]) -> str:
    """Where the memory of each step lies, beside what is there already."""
    spans = SpanSet()
    for start, size in [(run.start, run.size) for run in blocks] + [(step.at, step.size) for step in plan.steps]:
        spans.add(start, start + size)
    scale = Scale(spans)
    parts = [*ghosts(scale)]
    parts += [_rect(scale, run.start, run.size, zone_class(""), "there already") for run in blocks]
    for number, step in enumerate(plan.steps, 1):
        what = f"step {number}: {format_size(step.size)}, {step.zone}"
        parts.append(_rect(scale, step.at, step.size, zone_class(ZONES[step.zone]), what))
        middle = scale.x(step.at) + scale.width(step.size) / 2
        parts.append(f'<text class="on" x="{middle:.1f}" y="{HEIGHT / 2 + 4}" text-anchor="middle">{number}</text>')
    parts += axis(scale)
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT + AXIS}" role="img" aria-label="{len(plan.steps)} steps by '
        f'address, after the memory that is there">{"".join(parts)}</svg>'
    )


def _rect(scale: Scale, start: int, size: int, look: str, what: str) -> str:
    x, width = scale.x(start), max(scale.width(size), 0.6)
    title = escape(f"{what}; {start:#x}–{start + size:#x}")
    place = f'x="{x:.2f}" y="1" width="{width:.2f}" height="{HEIGHT - 2}"'
    return f'<rect class="{look}" {place}><title>{title}</title></rect>'


def _free(plan: Plan) -> str:
    """For each step the free memory before it: what adding takes of that, and what is left, cut off at the edge."""
    most = max(step.takes for step in plan.steps) * ROOM
    width = (WIDTH - LABEL) / most
    parts = []
    for number, step in enumerate(plan.steps):
        y = number * ROW
        takes = step.takes * width
        leaves = min(step.leaves * width, WIDTH - LABEL - takes)
        title = f"step {number + 1} takes {format_size(step.takes)} and leaves {format_size(step.leaves)}"
        parts.append(
            f'<text x="0" y="{y + BAR - 3}">step {number + 1}</text><g><title>{escape(title)}</title>'
            f'<rect class="z-none" x="{LABEL}" y="{y}" width="{takes:.2f}" height="{BAR}"/>'
            f'<rect class="ghost" x="{LABEL + takes:.2f}" y="{y}" width="{leaves:.2f}" height="{BAR}"/></g>'
        )
    height = len(plan.steps) * ROW
    label = "free memory before each step: what adding takes (full) and what is left (outlined)"
    return (
        f'<p class="soft">{label}; a safe step leaves {format_size(plan.reserve)}</p>'
        f'<svg class="strip" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )
