"""A rehearsal as a timeline in the terminal: each step, what it changed, what it cost, and the state it left."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import pairwise

from rich.console import Console
from rich.text import Text

from memhp.report.assumptions import grounds, rests_on
from memhp.report.changes import changes
from memhp.report.lines import print_wrapped
from memhp.report.machine import machine_text, ram_text
from memhp.report.table import Cell, Column, print_table
from memhp.report.verdict import broke, verdict
from memhp.scenario.result import BlockRun, LawResult, MachineResult, Run, StepResult
from memhp.units import format_count, format_size

ZONE_STYLE = {"DMA": "yellow", "DMA32": "cyan", "Normal": "blue", "Movable": "green", "Device": "magenta", "": "white"}
INDENT = 6
LABEL = 10
"""Columns before what is told of a step, and for the name of what a line tells."""
STRIP_WIDTH = 64
"""Cells of the strip that shows a machine's memory blocks."""
TONES = {"good": "green", "meant": "yellow", "bad": "bold red"}
ZONE_COLUMNS = (
    Column("node"), Column("zone"), Column("start", right=True), Column("spanned", right=True),
    Column("present", right=True), Column("managed", right=True), Column("free", right=True),
)  # fmt: skip


def print_run(out: Console, run: Run, *, log: bool = False) -> None:
    """Print a whole run; with `log`, the kernel's log lines of each step too.

    A run without steps is a machine as it is: no verdict is due, unless it breaks a law as it stands.
    """
    _print_head(out, run)
    for step in run.steps:
        _print_step(out, step, run, log=log)
        out.print()
    _print_state(out, run)
    if run.steps or not run.ok:
        _print_laws(out, run)
        print_wrapped(out, Text(verdict(run), style="bold green" if run.ok else "bold red"))


def _print_head(out: Console, run: Run) -> None:
    machine = run.machine
    if run.title != machine.name:
        print_wrapped(out, Text(run.title or "rehearsal", style="bold"))
    sizes = (
        f"{ram_text(machine)}, memory blocks of {format_size(machine.block_size)}, pageblocks of "
        f"{format_size(machine.pageblock_size)}, pluggable up to {machine.pluggable_end:#x}"
    )
    print_wrapped(out, Text(f"{machine_text(machine)}\n{sizes}", style="dim"))
    if known := list(grounds(run)):
        out.print(Text("rests on", style="dim"))
        for what, text in known:
            print_wrapped(out, Text.assemble((f"  {what}: ", "dim"), text), hang=4)
    out.print()


def _print_step(out: Console, step: StepResult, run: Run, *, log: bool) -> None:
    tone = broke(step, run).tone
    head = Text.assemble((f"{step.index + 1:3} ", "dim"), (f"{broke(step, run).mark} ", TONES[tone]))
    head = head + Text.assemble((step.title, "bold"), "  ")
    head.append(step.outcome.result, style="green" if step.outcome.result == "ok" else "yellow")
    if not step.as_expected:
        head.append(f" (expected {step.expect})", style="red")
    if step.breaches:
        head.append(f", {broke(step, run).text}", style=TONES[tone])
    print_wrapped(out, head, hang=INDENT)
    for line, hang in _details(step, run, log=log):
        print_wrapped(out, Text(" " * INDENT) + line, hang=INDENT + hang)
    if _strip_changed(step):
        gaps = sum(left.last + 1 < right.first for left, right in pairwise(step.blocks_after))
        strip = block_strip(step.blocks_after, run.machine, max(1, min(STRIP_WIDTH, out.width - INDENT - gaps)))
        print_wrapped(out, Text(" " * INDENT) + strip, hang=INDENT)


def _details(step: StepResult, run: Run, *, log: bool) -> Iterator[tuple[Text, int]]:
    """What is told of a step, a line each, and by how much what does not fit is set in."""
    if step.outcome.reason:
        place = f" — {step.outcome.place}" if step.outcome.place else ""
        yield Text(f"{step.outcome.reason}{place}", style="yellow"), 2
    if step.outcome.advice:
        yield Text(f"→ {step.outcome.advice}", style="italic"), 2
    if rests := rests_on(run, step):
        yield Text(f"if what is assumed holds: {rests}", style="dim"), 2
    yield from ((Text.assemble((f"{name:<{LABEL}}", "dim"), text), LABEL) for name, text in changes(step))
    yield from ((Text(f"broke {breach.law}: {breach.text}", style="bold red"), 2) for breach in step.breaches)
    yield from ((Text(f"note: {note}", style="dim"), 2) for note in step.notes)
    if log:
        yield from ((Text(f"| {entry.text}", style="dim"), 2) for entry in step.log)


def _strip_changed(step: StepResult) -> bool:
    return step.blocks_before != step.blocks_after


def block_strip(blocks: list[BlockRun], machine: MachineResult, width: int = STRIP_WIDTH) -> Text:
    """Memory blocks in a row, coloured by zone: full when online, light when offline, gaps between ranges marked."""
    total = sum(run.last - run.first + 1 for run in blocks)
    strip = Text()
    end = None
    for run in blocks:
        if end is not None and run.first != end + 1:
            strip.append("┊", style="dim")
        count = run.last - run.first + 1
        cells = count if total <= width else max(1, round(count * width / total))
        style = ZONE_STYLE.get(run.zone, "white")
        strip.append(("█" if run.state == "online" else "░") * cells, style=style)
        end = run.last
    scale = f"  {format_count(total, 'block')} of {format_size(machine.block_size)}"
    return strip.append(scale, style="dim")


def _print_state(out: Console, run: Run) -> None:
    rows: list[tuple[Cell, ...]] = []
    for zone in run.state.zones:
        if zone.spanned:
            cells = (format_size(part) for part in (zone.spanned, zone.present, zone.managed, zone.free))
            title = Text(zone.zone, style=ZONE_STYLE.get(zone.zone, ""))
            rows.append((str(zone.node), title, f"{zone.start:#x}", *cells))
    print_table(out, ZONE_COLUMNS, rows, title="zones")
    memory = run.state.memory
    hosted = f" ({format_size(memory.memmap_self_hosted)} self-hosted)" if memory.memmap_self_hosted else ""
    text = f"struct pages {format_size(memory.memmap)}{hosted}, page tables {format_size(memory.page_tables)}"
    print_wrapped(out, Text(text, style="dim"))
    out.print()


def _print_laws(out: Console, run: Run) -> None:
    held = sum(law.held for law in run.laws)
    style = "green" if held == len(run.laws) else "yellow" if run.ok else "red"
    out.print(Text(f"laws: {held} of {len(run.laws)} held after every step", style=style))
    for law in run.laws:
        for line in _law(law, run):
            print_wrapped(out, Text("  ") + line, hang=4)


def _law(law: LawResult, run: Run) -> Iterator[Text]:
    """A law that is broken, or was meant to be, and what no step tells of it: how the machine booted."""
    if not law.held or law.meant:
        mark, tone = ("~", "yellow") if law.as_expected else ("✗", "red")
        sentence = "held, though it is meant to break" if law.held else law.sentence.removesuffix(".")
        yield Text(f"{mark} {law.law}: {sentence}.", style=tone)
    told = {breach.text for step in run.steps for breach in step.breaches}
    yield from (Text(f"  at boot: {text}", style="red") for text in law.breaches if text not in told)
    noted = {note for step in run.steps for note in step.notes}
    yield from (Text(f"· {law.law}: {note}", style="dim") for note in law.notes if note not in noted)
