"""A rehearsal as one HTML file: no network, no script; blocks drawn to scale after every step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path

from memhp.report.changes import changes
from memhp.scenario.result import BlockRun, LawResult, MachineResult, Run, StepResult
from memhp.scenario.views import write_whole
from memhp.units import format_size

ZONE_COLOUR = {
    "DMA": "#c99a2e",
    "DMA32": "#2f9aa0",
    "Normal": "#3f6fc4",
    "Movable": "#4a9a4a",
    "Device": "#9a4aa0",
    "": "#8a8f98",
}
WIDTH, HEIGHT, GAP = 960, 26, 14
"""Pixels of a block strip: its width, its height, and the gap drawn between memory that does not touch."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bad: #c0392b; --good: #2e8b57; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); } .bad { color: var(--bad); } .good { color: var(--good); }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
article h3 { font-size: 1rem; margin: 0; display: flex; gap: .6rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } th { color: var(--soft); font-weight: normal; }
svg { display: block; margin: .4rem 0; max-width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; }
details summary { cursor: pointer; color: var(--soft); } pre { overflow-x: auto; font-size: 12px; }
.key span { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; vertical-align: -1px; }
"""


def write_page(run: Run, path: Path) -> None:
    """Write the page to a file, whole or not at all. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_whole(path, page(run))


def page(run: Run) -> str:
    """The page's HTML."""
    return "\n".join(_page(run))


def _page(run: Run) -> Iterator[str]:
    machine = run.machine
    title = escape(run.title or "rehearsal")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    yield f"<h1>{title}</h1>"
    ram = sum(end - start for start, end, _ in machine.ram)
    yield (
        f'<p class="soft">{escape(machine.name)}: {machine.arch}, {escape(machine.profile)}, '
        f"{format_size(machine.page_size)} pages, {machine.va_bits}-bit addresses in {machine.levels} levels, "
        f"{format_size(ram)} of RAM, memory blocks of {format_size(machine.block_size)}</p>"
    )
    yield _verdict(run)
    yield _key()
    for step in run.steps:
        yield from _step(step, machine)
    yield from _zones(run)
    yield from _laws(run.laws)
    iomem = escape("\n".join(run.state.iomem))
    yield f"<details><summary>/proc/iomem at the end</summary><pre>{iomem}</pre></details>"
    yield "</html>"


def _verdict(run: Run) -> str:
    if run.ok:
        return '<p class="good">Every step ended as expected and every law held.</p>'
    wrong = [str(step.index + 1) for step in run.steps if not step.as_expected]
    broken = [law.law for law in run.laws if not law.held]
    parts = [f"steps not as expected: {', '.join(wrong)}"] if wrong else []
    parts += [f"laws broken: {', '.join(broken)}"] if broken else []
    return f'<p class="bad">{escape("; ".join(parts))}</p>'


def _key() -> str:
    zones = "".join(f'<span style="background:{colour}"></span>{zone}' for zone, colour in ZONE_COLOUR.items() if zone)
    return f'<p class="key soft">Memory blocks by zone:{zones}<span style="border:1px solid"></span>offline</p>'


def _step(step: StepResult, machine: MachineResult) -> Iterator[str]:
    mark, tone = ("✓", "good") if step.as_expected else ("✗", "bad")
    expected = "" if step.as_expected else f" (expected {escape(step.expect)})"
    yield (
        f'<article><h3><span class="soft">{step.index + 1}</span><span class="{tone}">{mark}</span>'
        f'<span>{escape(step.title)}</span><span class="soft">{escape(step.outcome.result)}{expected}</span></h3>'
    )
    if step.outcome.reason:
        yield f'<p>{escape(step.outcome.reason)} <span class="soft">{escape(step.outcome.place)}</span></p>'
    if step.outcome.advice:
        yield f"<p>→ {escape(step.outcome.advice)}</p>"
    yield strip(step.blocks_after, machine)
    yield "<table>"
    for name, text in changes(step):
        yield f"<tr><th>{name}</th><td>{escape(text)}</td></tr>"
    yield "</table>"
    yield from (f'<p class="bad">{escape(b.law)}: {escape(b.text)}</p>' for b in step.breaches)
    yield from (f'<p class="soft">{escape(note)}</p>' for note in step.notes)
    if step.log:
        lines = "\n".join(entry.text for entry in step.log)
        yield f"<details><summary>{len(step.log)} log lines</summary><pre>{escape(lines)}</pre></details>"
    yield "</article>"


def strip(blocks: list[BlockRun], machine: MachineResult) -> str:
    """Memory blocks to scale as SVG: filled by zone when online, outlined when offline; gaps in memory are short."""
    total = sum(run.size for run in blocks)
    gaps = sum(1 for a, b in pairwise(blocks) if a.start + a.size != b.start)
    if not total:
        return ""
    scale = (WIDTH - gaps * GAP) / total
    parts, x, end = [], 0.0, None
    for run in blocks:
        if end is not None and run.start != end:
            parts.append(f'<text x="{x + 2:.1f}" y="{HEIGHT - 8}" fill="currentColor">⋯</text>')
            x += GAP
        width = run.size * scale
        colour = ZONE_COLOUR.get(run.zone, ZONE_COLOUR[""])
        online = run.state == "online"
        where = f"{run.start:#x}–{run.start + run.size:#x}, blocks {run.first}–{run.last}, {run.state} {run.zone}"
        parts.append(
            f'<rect x="{x:.2f}" y="1" width="{max(width - 0.5, 0.5):.2f}" height="{HEIGHT - 2}" '
            f'fill="{colour if online else "none"}" stroke="{colour}"><title>{escape(where)}</title></rect>'
        )
        x += width
        end = run.start + run.size
    label = f"{total // machine.block_size} memory blocks"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _zones(run: Run) -> Iterator[str]:
    yield "<h2>Zones at the end</h2><table><tr><th>node</th><th>zone</th>"
    yield "".join(f'<th class="n">{name}</th>' for name in ("spanned", "present", "managed", "free")) + "</tr>"
    for zone in run.state.zones:
        if zone.spanned:
            cells = (zone.spanned, zone.present, zone.managed, zone.free)
            numbers = "".join(f'<td class="n">{format_size(pages * run.machine.page_size)}</td>' for pages in cells)
            yield f"<tr><td>{zone.node}</td><td>{zone.zone}</td>{numbers}</tr>"
    yield "</table>"


def _laws(laws: list[LawResult]) -> Iterator[str]:
    yield "<h2>Laws</h2><table>"
    for law in laws:
        mark, tone = ("✓", "good") if law.held else ("✗", "bad")
        more = "".join(f'<br><span class="bad">{escape(text)}</span>' for text in law.breaches)
        more += "".join(f'<br><span class="soft">{escape(text)}</span>' for text in law.notes)
        yield f'<tr><td class="{tone}">{mark}</td><td>{law.law}</td><td>{escape(law.sentence)}{more}</td></tr>'
    yield "</table>"
