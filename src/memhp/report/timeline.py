"""A rehearsal as a timeline in the terminal: each step, what it changed, what it cost, and the state it left."""
# SPDX-License-Identifier: GPL-2.0-or-later

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from memhp.report.assumptions import grounds, rests_on
from memhp.report.changes import changes
from memhp.scenario.result import BlockRun, MachineResult, Run, StepResult
from memhp.units import format_count, format_size

ZONE_STYLE = {"DMA": "yellow", "DMA32": "cyan", "Normal": "blue", "Movable": "green", "Device": "magenta", "": "white"}
INDENT = "      "
STRIP_WIDTH = 64
"""Cells of the strip that shows a machine's memory blocks."""


def print_run(console: Console, run: Run, *, log: bool = False) -> None:
    """Print a whole run; with `log`, the kernel's log lines of each step too."""
    console.print(_head(run))
    for step in run.steps:
        console.print(_step(step, run, log=log))
    console.print(_state(run))
    console.print(_laws(run))
    console.print(_verdict(run))


def _head(run: Run) -> RenderableType:
    machine = run.machine
    title = Text(run.title or "rehearsal", style="bold")
    ram = sum(end - start for start, end, _ in machine.ram)
    facts = (
        f"{machine.name}: {machine.arch}, {machine.profile}, {format_size(machine.page_size)} pages, "
        f"{machine.va_bits}-bit addresses in {machine.levels} levels, {machine.cpus} CPUs"
    )
    sizes = (
        f"{format_size(ram)} of RAM, memory blocks of {format_size(machine.block_size)}, pageblocks of "
        f"{format_size(machine.pageblock_size)}, pluggable up to {machine.pluggable_end:#x}"
    )
    known = [Text.assemble((f"  {what}: ", "dim"), text) for what, text in grounds(run)]
    rests = [Text("rests on", style="dim"), *known] if known else []
    return Group(title, Text(facts, style="dim"), Text(sizes, style="dim"), *rests, Text())


def _step(step: StepResult, run: Run, *, log: bool) -> RenderableType:
    mark, style = ("✓", "green") if step.as_expected else ("✗", "bold red")
    line = Text.assemble((f"{step.index + 1:3} ", "dim"), (f"{mark} ", style), (step.title, "bold"), "  ")
    line.append(step.outcome.result, style="green" if step.outcome.result == "ok" else "yellow")
    if not step.as_expected:
        line.append(f" (expected {step.expect})", style="red")
    details: list[Text] = []
    if step.outcome.reason:
        details.append(Text(f"{step.outcome.reason} — {step.outcome.place}", style="yellow"))
    if step.outcome.advice:
        details.append(Text(f"→ {step.outcome.advice}", style="italic"))
    if rests := rests_on(run, step):
        details.append(Text(f"if what is assumed holds: {rests}", style="dim"))
    details.extend(Text.assemble((f"{name:<10}", "dim"), text) for name, text in changes(step))
    details.extend(Text(f"breach: {breach.law}: {breach.text}", style="bold red") for breach in step.breaches)
    details.extend(Text(f"note: {note}", style="dim") for note in step.notes)
    if log:
        details.extend(Text(f"| {entry.text}", style="dim") for entry in step.log)
    if _strip_changed(step):
        details.append(block_strip(step.blocks_after, run.machine))
    return Group(line, *(Text.assemble(INDENT, detail) for detail in details), Text())


def _strip_changed(step: StepResult) -> bool:
    return step.blocks_before != step.blocks_after


def block_strip(blocks: list[BlockRun], machine: MachineResult) -> Text:
    """Memory blocks in a row, coloured by zone: full when online, light when offline, gaps between ranges marked."""
    total = sum(run.last - run.first + 1 for run in blocks)
    strip = Text()
    end = None
    for run in blocks:
        if end is not None and run.first != end + 1:
            strip.append("┊", style="dim")
        count = run.last - run.first + 1
        cells = count if total <= STRIP_WIDTH else max(1, round(count * STRIP_WIDTH / total))
        style = ZONE_STYLE.get(run.zone, "white")
        strip.append(("█" if run.state == "online" else "░") * cells, style=style)
        end = run.last
    scale = f"  {format_count(total, 'block')} of {format_size(machine.block_size)}"
    return strip.append(scale, style="dim")


def _state(run: Run) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim", title="zones", title_justify="left", title_style="bold")
    for name in ("node", "zone"):
        table.add_column(name)
    for name in ("start", "spanned", "present", "managed", "free"):
        table.add_column(name, justify="right")
    size = run.machine.page_size
    for zone in run.state.zones:
        if not zone.spanned:
            continue
        cells = [format_size(getattr(zone, name) * size) for name in ("spanned", "present", "managed", "free")]
        title = Text(zone.zone, style=ZONE_STYLE.get(zone.zone, ""))
        table.add_row(str(zone.node), title, f"{zone.start_pfn * size:#x}", *cells)
    memory = run.state.memory
    total = Text(
        f"struct pages {format_size(memory.memmap)}"
        + (f" ({format_size(memory.memmap_self_hosted)} self-hosted)" if memory.memmap_self_hosted else "")
        + f", page tables {format_size(memory.page_tables)}",
        style="dim",
    )
    return Group(table, total, Text())


def _laws(run: Run) -> RenderableType:
    broken = [law for law in run.laws if not law.held]
    lines: list[RenderableType] = []
    held = len(run.laws) - len(broken)
    lines.append(Text(f"laws: {held} of {len(run.laws)} held after every step", style="green" if not broken else "red"))
    for law in broken:
        after = "the boot" if law.first_broken == -1 else f"step {(law.first_broken or 0) + 1}"
        lines.append(Text(f"  ✗ {law.law}: {law.sentence} Broken since {after}:", style="red"))
        lines.extend(Text(f"      {breach}", style="red") for breach in law.breaches[:5])
    for law in run.laws:
        lines.extend(Text(f"  · {law.law}: {note}", style="dim") for note in law.notes[:5])
    return Group(*lines)


def _verdict(run: Run) -> RenderableType:
    if run.ok:
        return Text("the rehearsal went as expected", style="bold green")
    wrong = [str(step.index + 1) for step in run.steps if not step.as_expected]
    parts = []
    if wrong:
        parts.append(f"step{'s' if len(wrong) > 1 else ''} {', '.join(wrong)} did not end as expected")
    if not all(law.held for law in run.laws):
        parts.append("a law was broken")
    return Text("; ".join(parts), style="bold red")
