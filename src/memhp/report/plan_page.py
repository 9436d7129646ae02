"""A plan as a part of the rehearsal's page: what it takes, each step drawn where its memory lies, and a row a step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from markupsafe import Markup

from memhp.report.address_axis import AXIS, Scale, axis, outlines
from memhp.report.rendering import Head, PageTable, code
from memhp.report.strip import zone_class
from memhp.report.svg import element, labels, percent, picture
from memhp.scenario.result import BlockRun
from memhp.target.model.plan import Plan, PlanStep
from memhp.units import exact_size, format_count, format_size

ZONES = {"kernel": "Normal", "auto": "Normal", "movable": "Movable"}
"""The zone whose colour a step has, by how its memory goes online."""

HEIGHT, BAR = 26, 14
"""Pixels: the height of memory in the picture of the steps, and of a bar of free memory."""


def plan_picture(plan: Plan, blocks: list[BlockRun]) -> Markup:
    """Where the memory of each step lies, beside what is there already."""
    there = [(each.start, each.size) for each in blocks]
    scale = Scale((start, start + size) for start, size in [*there, *((step.at, step.size) for step in plan.steps)])
    parts = [*outlines(scale, 1, HEIGHT)]
    for start, size in there:
        parts.append(scale.bar(start, size, 1, HEIGHT, "there", f"there already; {start:#x}–{start + size:#x}"))
    for number, step in enumerate(plan.steps, 1):
        what = f"step {number}: {exact_size(step.size)}, {step.zone}; {step.at:#x}–{step.at + step.size:#x}"
        parts.append(scale.bar(step.at, step.size, 1, HEIGHT, f"{zone_class(ZONES[step.zone])} step", what))
        share = scale.width(step.size)
        for text, windows in labels(f"{number}: {exact_size(step.size)}", str(number), share):
            middle = percent(scale.x(step.at) + share / 2)
            look = f"on {zone_class(ZONES[step.zone])} {windows}".rstrip()
            parts.append(element("text", text, class_=look, x=middle, y=HEIGHT / 2 + 5, text_anchor="middle"))
    parts += axis(scale, HEIGHT + 2)
    label = f"{format_count(len(plan.steps), 'step')} by address, after the memory that is there"
    return picture(label, HEIGHT + AXIS + 2, parts, "strip")


def plan_table(plan: Plan) -> PageTable:
    """A row a step, with the free memory before it as a bar: what adding takes (full) and what is left (outlined)."""
    return PageTable(
        "Steps of the plan",
        (
            Head("step"), Head("plug", right=True), Head("at", right=True), Head("then online"),
            Head("takes", right=True), Head("free before it is online", right=True), Head("takes of what is free"),
        ),
        [
            (
                str(number), exact_size(step.size), code(f"{step.at:#x}"), step.zone, format_size(step.takes),
                format_size(step.leaves), _bar(step),
            )
            for number, step in enumerate(plan.steps, 1)
        ],
    )  # fmt: skip


def _bar(step: PlanStep) -> Markup:
    takes = step.takes / ((step.takes + step.leaves) or 1)
    parts = [
        element("rect", class_="takes", x=0, y=1, width=percent(takes), height=BAR - 2),
        element("rect", class_="ghost", x=percent(takes), y=1, width=percent(1 - takes), height=BAR - 2),
    ]
    return picture(f"takes {format_size(step.takes)}, leaves {format_size(step.leaves)}", BAR, parts, "bar")
