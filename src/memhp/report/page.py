"""A rehearsal as one HTML file: no network, no script; blocks drawn to scale after every step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from html import escape
from pathlib import Path

from memhp.outputs.file import write_file
from memhp.printable import printable
from memhp.report.assumptions import grounds, was_read
from memhp.report.changes import changes
from memhp.report.page_style import STYLE
from memhp.report.plan_page import plan_section
from memhp.report.strip import Scale, scale_of, strip, zone_class, zones_of
from memhp.scenario.plan import Plan
from memhp.scenario.result import LawResult, Run, StepResult
from memhp.units import format_count, format_size

HATCH = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatch" width="6" '
    'height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="hatch" d="M0 0v6"/></pattern>'
    "</defs></svg>"
)
"""The pattern of offline memory, which all pictures of the page share."""


def write_page(run: Run, path: Path, plan: Plan | None = None) -> None:
    """Write the page to a file, whole or not at all. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_file(path, page(run, plan))


def page(run: Run, plan: Plan | None = None) -> str:
    """The page's HTML: a run, and how to add more memory where that was asked for."""
    return printable("\n".join(_page(run, plan)), keep="\n")


def _page(run: Run, plan: Plan | None) -> Iterator[str]:
    title = escape(run.title or "rehearsal")
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{STYLE}</style></head><body>{HATCH}<main>"
    yield f"<h1>{title}</h1>"
    yield _machine(run)
    yield _verdict(run)
    yield _figures(run)
    yield from _grounds(run)
    yield _key(run)
    scale = scale_of(run)
    yield "<ol>"
    for step in run.steps:
        yield from _step(step, scale, run.machine.block_size, read=was_read(run))
    yield "</ol>"
    if plan is not None:
        yield from plan_section(plan, run)
    yield from _zones(run)
    yield from _laws(run.laws)
    iomem = escape("\n".join(run.state.iomem))
    yield f"<h2>/proc/iomem at the end</h2><pre>{iomem}</pre>"
    yield "</main></body></html>"


def _machine(run: Run) -> str:
    machine = run.machine
    ram = sum(end - start for start, end, _ in machine.ram)
    text = (
        f"{machine.name}: {machine.arch}, {machine.profile}, {format_size(machine.page_size)} pages, "
        f"{machine.va_bits}-bit addresses in {machine.levels} levels, {machine.cpus} CPUs, {format_size(ram)} of RAM, "
        f"memory blocks of {format_size(machine.block_size)}, pluggable up to {machine.pluggable_end:#x}"
    )
    return f'<p class="soft">{escape(text)}</p>'


def _verdict(run: Run) -> str:
    if run.ok:
        return '<p class="verdict good">✓ Every step ended as expected and every law held.</p>'
    wrong = [str(step.index + 1) for step in run.steps if not step.as_expected]
    broken = [law.law for law in run.laws if not law.held]
    parts = [f"steps not as expected: {', '.join(wrong)}"] if wrong else []
    parts += [f"laws broken: {', '.join(broken)}"] if broken else []
    return f'<p class="verdict bad">✗ {escape("; ".join(parts))}</p>'


def _grounds(run: Run) -> Iterator[str]:
    """What the run rests on, folded up: of a machine that was read."""
    known = list(grounds(run))
    if known:
        assumed = sum(each.basis == "assumed" for each in run.assumptions)
        rows = "".join(f"<tr><th>{escape(what)}</th><td>{escape(text)}</td></tr>" for what, text in known)
        yield f"<details><summary>What this rests on: {assumed} assumptions</summary><table>{rows}</table></details>"


def _figures(run: Run) -> str:
    memory = run.state.memory
    hosted = f", {format_size(memory.memmap_self_hosted)} self-hosted" if memory.memmap_self_hosted else ""
    figures = (
        ("steps as expected", f"{sum(step.as_expected for step in run.steps)} of {len(run.steps)}"),
        ("laws that held", f"{sum(law.held for law in run.laws)} of {len(run.laws)}"),
        ("present at the end", format_size(memory.present)),
        ("free at the end", format_size(memory.free)),
        (f"struct pages{hosted}", format_size(memory.memmap)),
        ("page tables", format_size(memory.page_tables)),
    )
    cells = "".join(f'<div><b>{text}</b><span class="soft">{escape(name)}</span></div>' for name, text in figures)
    return f'<div class="figures">{cells}</div>'


def _key(run: Run) -> str:
    """What the colours stand for, as far as they occur."""
    runs = [block for step in run.steps for block in (*step.blocks_before, *step.blocks_after)]
    looks = [(zone_class(zone), zone or "several zones") for zone in zones_of(runs)]
    if any(block.state != "online" for block in runs):
        looks.append(("offline", "offline"))
    if any(block.memmap_on_memory for block in runs):
        looks.append(("host", "hosts its own memmap"))
    cells = "".join(
        f'<span><svg viewBox="0 0 16 12" aria-hidden="true"><rect class="{look}" x=".5" y=".5" width="15" height="11"/>'
        f"</svg>{escape(name)}</span>"
        for look, name in looks
    )
    return f'<div class="key">{cells}</div>' if cells else ""


def _step(step: StepResult, scale: Scale, block_size: int, *, read: bool) -> Iterator[str]:
    mark, tone = ("✓", "good") if step.as_expected else ("✗", "bad")
    expected = "" if step.as_expected else f'<span class="bad">expected {escape(step.expect)}</span>'
    result = step.outcome.result
    outcome = "good" if result == "ok" else "warn" if step.as_expected else "bad"
    yield "<li>" if step.as_expected else '<li class="unexpected">'
    yield (
        f'<h3><span class="index">{step.index + 1}</span><span class="{tone}">{mark}</span>{escape(step.title)}'
        f'<span class="outcome {outcome}">{escape(result)}</span>{expected}</h3>'
    )
    if step.outcome.reason:
        place = f' <code class="soft">{escape(step.outcome.place)}</code>' if step.outcome.place else ""
        yield f"<p>{escape(step.outcome.reason)}{place}</p>"
    if step.outcome.advice:
        yield f"<p>→ {escape(step.outcome.advice)}</p>"
    if read and step.outcome.rests_on:
        yield f'<p class="soft">if what is assumed holds: {escape(", ".join(step.outcome.rests_on))}</p>'
    yield strip(step.blocks_after, scale, block_size)
    facts = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in changes(step))
    yield f"<dl>{facts}</dl>" if facts else ""
    yield from (f'<p class="bad">broken: {escape(b.law)}: {escape(b.text)}</p>' for b in step.breaches)
    yield from (f'<p class="soft">{escape(note)}</p>' for note in step.notes)
    if step.log:
        lines = "\n".join(entry.text for entry in step.log)
        count = f"{format_count(len(step.log), 'line')} in the kernel log"
        yield f"<details><summary>{count}</summary><pre>{escape(lines)}</pre></details>"
    yield "</li>"


def _zones(run: Run) -> Iterator[str]:
    yield '<h2>Zones at the end</h2><div class="scroll"><table><tr><th>node</th><th>zone</th><th class="n">start</th>'
    yield "".join(f'<th class="n">{name}</th>' for name in ("spanned", "present", "managed", "free")) + "</tr>"
    for zone in run.state.zones:
        if zone.spanned:
            cells = (zone.spanned, zone.present, zone.managed, zone.free)
            numbers = "".join(f'<td class="n">{format_size(part)}</td>' for part in cells)
            start = f'<td class="n"><code>{zone.start:#x}</code></td>'
            yield f"<tr><td>{zone.node}</td><td>{escape(zone.zone)}</td>{start}{numbers}</tr>"
    yield "</table></div>"


def _laws(laws: list[LawResult]) -> Iterator[str]:
    yield '<h2>Laws, checked after every step</h2><div class="scroll"><table>'
    for law in laws:
        mark, tone = ("✓", "good") if law.held else ("✗", "bad")
        more = "".join(f'<br><span class="bad">{escape(text)}</span>' for text in law.breaches)
        more += "".join(f'<br><span class="soft">{escape(text)}</span>' for text in law.notes)
        name = f'<td class="name">{escape(law.law)}</td>'
        yield f'<tr><td class="{tone}">{mark}</td>{name}<td>{escape(law.sentence)}{more}</td></tr>'
    yield "</table></div>"
