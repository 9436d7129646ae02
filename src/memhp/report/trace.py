"""A race looked at, in the terminal: what was found out, and the trace in one of its views."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from shlex import join

from rich.console import Console
from rich.text import Text

from memhp.explore.engine.trace import Trace
from memhp.explore.engine.verdict import Mode
from memhp.explore.explored import ONE_SCHEDULE, Covered, Explored
from memhp.report.lines import print_wrapped
from memhp.report.trace_columns import print_columns
from memhp.report.trace_diff import print_differences
from memhp.report.trace_sequence import mermaid, print_sequence
from memhp.units import format_count

FEW = 6
"""Steps never taken that are told one by one."""
VERDICT_STYLES = {"safe": "bold green", "broken": "bold red", "undecided": "bold yellow"}
VIEWS = {"columns": print_columns, "diff": print_differences, "sequence": print_sequence}
ENDS = {
    "broken": "it ends broken",
    "deadlock": "it ends with nobody able to go on",
    "livelock": "it goes on like its end for ever",
    "done": "it ends with everybody done",
    "unfinished": "it is not at its end",
}


def print_explored(out: Console, found: Explored, *, view: str = "columns", full: bool = False) -> None:
    """Print what was found out, the trace if there is one, and how to replay it; for ``mermaid`` the diagram alone."""
    if view == "mermaid":
        if found.trace is not None:
            out.print(mermaid(found.trace, full=full), end="", markup=False, soft_wrap=True)
        return
    for line in _head(found):
        print_wrapped(out, line, hang=2)
    if found.trace is not None:
        out.print()
        VIEWS[view](out, found.trace, full=full)
        out.print()
        for line in _tail(found.trace):
            print_wrapped(out, line, hang=2)
        if found.trace.schedule and found.mode != ONE_SCHEDULE:
            # A command is to be copied as a whole: the terminal breaks it where it must.
            out.print(Text(f"again: {replay_command(found, found.trace)}", style="dim"), soft_wrap=True)


def _head(found: Explored) -> Iterator[Text]:
    title = f"{found.name}, {found.variant} on {found.configuration}"
    if found.mode == ONE_SCHEDULE:
        yield Text(f"{title}: one schedule", style="bold")
    else:
        yield Text.assemble((f"{title}: ", "bold"), (found.verdict, VERDICT_STYLES[found.verdict.split()[0]]))
    yield Text(f"{found.actors}; {found.about}", style="dim")
    yield from (Text(line, style="dim") for line in facts(found))


def facts(found: Explored) -> Iterator[str]:
    """What else is to be said of a verdict, a line each."""
    if found.coverage is not None:
        yield coverage_text(found)
        yield from _given_up(found, found.coverage)
    yield from (f"chosen: {name}={value}" for name, value in found.choices.items())
    yield from (f"patched: {place}, from {file}" for place, file in found.patch.items())
    known = "known as broken" if found.stands_for == "broken" else "known as repaired"
    today = ", a kernel of today as it is" if found.current else ""
    differs = "" if found.as_known or found.coverage is None else "; the verdict is another"
    changes = " and ".join(["that choice"] * bool(found.choices) + ["the patch"] * bool(found.patch))
    yield f"{known}, without {changes}" if changes else f"{known}{today}{differs}"
    if found.finding and not changes:
        yield f"see docs/findings.md, {found.finding}"
    yield from filter(None, (found.note, found.geometry))
    if found.coverage is not None and found.verdict != "broken":
        yield from _never_fired(found.coverage.never_fired)
        yield from ("it rests on", *(f"  {line}" for line in found.rests_on)) if found.rests_on else ()


def _given_up(found: Explored, covered: Covered) -> Iterator[str]:
    """The bound that came before the end of a search."""
    if found.verdict != "undecided" or found.mode == Mode.RANDOM.value:
        return
    if covered.too_long:
        too_long = format_count(covered.too_long, "execution")
        yield f"undecided: {too_long} went on beyond {covered.longest:,} steps (--steps N)"
    else:
        yield "undecided: the limit on executions came first (--executions N)"


def _never_fired(steps: Sequence[str]) -> Iterator[str]:
    """Steps that no execution took: the first few, and how many more there are."""
    yield from (f"never taken: {step}" for step in steps[:FEW])
    if len(steps) > FEW:
        yield f"never taken: {format_count(len(steps) - FEW, 'more step')} (--json has them all)"


def coverage_text(found: Explored) -> str:
    """``every schedule, by partial-order reduction: 4 executions, 4 classes, 698 steps``."""
    covered = found.coverage
    assert covered is not None
    parts = [
        (covered.executions, format_count(covered.executions, "execution")),
        (found.classes, format_count(found.classes or 0, "class")),
        (covered.cut, f"{covered.cut} cut short"),
        (covered.again, f"{format_count(covered.again, 'step')} tried again"),
        (covered.steps, format_count(covered.steps, "step")),
        (covered.deadlocks, format_count(covered.deadlocks, "deadlock")),
        (covered.livelocks, format_count(covered.livelocks, "livelock")),
        (covered.too_long, f"{covered.too_long} too long"),
    ]
    return f"{found.mode}: {', '.join(words for number, words in parts if number)}"


def _tail(trace: Trace) -> Iterator[Text]:
    steps = f"{format_count(len(trace.lines), 'step')}, {format_count(trace.preemptions, 'preemption')}"
    yield Text(f"schedule {trace.schedule or 'of no steps'}: {steps}; {ENDS[trace.end]}")
    if trace.reason is not None:
        yield Text(trace.reason, style="bold red")


def replay_command(found: Explored, trace: Trace) -> str:
    """The command that replays the trace, as a shell takes it."""
    words = ["memhp", "explore", found.name, "--variant", found.variant, "--configuration", found.configuration]
    words += (word for name, value in found.choices.items() for word in ("--choice", f"{name}={value}"))
    words += (word for file in dict.fromkeys(found.patch.values()) for word in ("--patch", file))
    return join([*words, "--replay", trace.schedule])
