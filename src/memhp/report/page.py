"""A rehearsal as one HTML file: no network, no script; blocks drawn to scale after every step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from memhp.outputs.file import write_file
from memhp.report.address_axis import Scale
from memhp.report.assumptions import sentence, was_read
from memhp.report.changes import changes, first_entry, frames, what_changed
from memhp.report.machine import machine_text, ram_text
from memhp.report.obstacles import in_the_way, in_the_way_table
from memhp.report.plan import bill_text, largest_text, reached_text, rests_text, self_hosted_text
from memhp.report.plan_page import plan_picture, plan_table
from memhp.report.rendering import Head, PageTable, code, render
from memhp.report.strip import KINDS, ZONES, kinds_of, scale_of, strip, zone_class, zones_of
from memhp.report.verdict import Broke, broke, verdict
from memhp.scenario.result import Run, StepResult
from memhp.target.model.plan import Plan
from memhp.units import exact_size, format_size


class Sign(NamedTuple):
    """What a colour or pattern stands for: where it is, its style, and a name."""

    row: str
    style: str
    name: str


class StepView(NamedTuple):
    """A step as the page shows it."""

    step: StepResult
    broke: Broke
    picture: Markup
    in_the_way: PageTable | None
    facts: list[tuple[str, str]]
    notes: list[str]
    rests_on: str
    entries: PageTable | None


def write_page(run: Run, path: Path, plan: Plan | None = None) -> None:
    """Write the page to a file, whole or not at all. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_file(path, page(run, plan))


def page(run: Run, plan: Plan | None = None) -> str:
    """The page's HTML: a run, and how to add more memory where that was asked for."""
    scale = scale_of(run)
    return render(
        "rehearsal.html",
        run=run,
        title=run.title or "rehearsal",
        machine=_machine(run),
        verdict=verdict(run) if run.steps or not run.ok else "",
        figures=_figures(run),
        read=was_read(run),
        grounds=_grounds(run),
        key=_key(run),
        steps=[_step(step, run, scale) for step in run.steps],
        zones=_zones(run),
        laws=run.laws,
        plan=None if plan is None else _plan(plan, run),
    )


def _machine(run: Run) -> str:
    machine = run.machine
    return (
        f"{machine_text(machine)}, {ram_text(machine)}, memory blocks of {format_size(machine.block_size)}, "
        f"pluggable up to {machine.pluggable_end:#x}"
    )


def _figures(run: Run) -> list[tuple[str, str]]:
    memory = run.state.memory
    hosted = f", {format_size(memory.memmap_self_hosted)} self-hosted" if memory.memmap_self_hosted else ""
    steps = [(f"{sum(step.as_expected for step in run.steps)} of {len(run.steps)}", "steps as expected")]
    return [
        *(steps if run.steps else []),
        (f"{sum(law.held for law in run.laws)} of {len(run.laws)}", "laws that held"),
        (format_size(memory.present), "present at the end"),
        (format_size(memory.free), "free at the end"),
        (format_size(memory.memmap), f"struct pages{hosted}"),
        (format_size(memory.page_tables), "page tables"),
    ]


def _grounds(run: Run) -> PageTable | None:
    """What the run rests on, what is assumed first."""
    if not run.assumptions:
        return None
    order = {"assumed": 0, "foretold": 1, "told": 2}
    known = sorted(run.assumptions, key=lambda each: order[each.basis])
    assumed = sum(each.basis == "assumed" for each in known)
    caption = f"What this rests on: {assumed} of {len(known)} facts are assumed"
    return PageTable(caption, (Head("fact"), Head("how it is known")), [(each.what, sentence(each)) for each in known])


def _key(run: Run) -> list[Sign]:
    """What colours and patterns stand for, as far as they occur."""
    blocks = [block for step in run.steps for block in (*step.blocks_before, *step.blocks_after)]
    zones = zones_of(blocks)
    signs = [Sign("zone", zone_class(zone), f"{ZONES.get(zone, '?')} {zone or 'several zones'}") for zone in zones]
    if any(block.state != "online" for block in blocks):
        signs.append(Sign("zone", "offline", "– offline"))
    if any(block.memmap_on_memory for block in blocks):
        signs.append(Sign("zone", "host", "hosts its own struct pages"))
    if any(block not in step.blocks_after for step in run.steps for block in step.blocks_before):
        signs.append(Sign("zone", "ghost", "no memory now"))
    there = {kind for step in run.steps for each in step.block_use for kind in kinds_of(each.use)}
    signs += (Sign("use", kind.style, kind.name) for kind in KINDS if kind in there)
    if any(in_the_way(step) for step in run.steps):
        signs += (Sign("in the way", "refused", "would not go"), Sign("in the way", "way", "pages in the way"))
    return signs


def _step(step: StepResult, run: Run, scale: Scale) -> StepView:
    marks = in_the_way(step)
    machine = run.machine
    return StepView(
        step=step,
        broke=broke(step, run),
        picture=strip(step.blocks_after, step.block_use, marks, scale, machine.block_size),
        in_the_way=in_the_way_table(marks, machine.block_size, machine.page_size) if marks else None,
        facts=list(changes(step, entries=False)),
        notes=[note for note in step.notes if not note.startswith(_told_in_table(step))],
        rests_on=", ".join(step.outcome.rests_on) if was_read(run) else "",
        entries=_entries(step) if step.table_changes else None,
    )


def _told_in_table(step: StepResult) -> tuple[str, ...]:
    """How notes begin that tell of ranges which the table of what is in the way has too."""
    return tuple(f"{device.device}: memory{each.block} (" for device in step.devices for each in device.stuck)


def _entries(step: StepResult) -> PageTable:
    heads = (Head("area"), Head("level"), Head("addresses"), Head("what"), Head("frames"), Head("first entry"))
    rows = [
        (
            change.area, change.level, code(f"{change.start:#x}–{change.end:#x}"),
            f"{what_changed(change)} {change.change}", code(frames(change)), code(first_entry(change)),
        )
        for change in step.table_changes
    ]  # fmt: skip
    return PageTable("Page-table entries that this step set, cleared and changed", heads, list(rows))


def _zones(run: Run) -> PageTable:
    names = ("start", "spanned", "present", "managed", "free")
    heads = (Head("zone"), Head("node", right=True), *(Head(name, right=True) for name in names))
    return PageTable("Zones at the end", heads, list(_zone_rows(run)))


def _zone_rows(run: Run) -> Iterator[tuple[str, ...]]:
    for zone in run.state.zones:
        if zone.spanned:
            sizes = map(format_size, (zone.spanned, zone.present, zone.managed, zone.free))
            yield (zone.zone, str(zone.node), code(f"{zone.start:#x}"), *sizes)


def _plan_texts(plan: Plan) -> Iterator[str]:
    yield from (bill_text(plan), largest_text(plan))
    if plan.rests_on:
        yield rests_text(plan)
    yield self_hosted_text(plan)


def _plan(plan: Plan, run: Run) -> dict[str, object]:
    return {
        "title": f"Plan: {exact_size(plan.total)} more, {plan.driver}",
        "reached": plan.reached == plan.total,
        "verdict": reached_text(plan),
        "texts": tuple(_plan_texts(plan)),
        "picture": plan_picture(plan, run.state.blocks) if plan.steps else "",
        "table": plan_table(plan) if plan.steps else None,
        "reserve": format_size(plan.reserve),
    }
