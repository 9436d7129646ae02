"""A plan for a host, and what came of it, as plain text of 80 columns."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator

from memhp.operate.apply import Applied
from memhp.operate.blocks_text import as_text, table
from memhp.operate.plan import BlockState, HostPlan, Step
from memhp.spans import Span, SpanSet
from memhp.units import exact_size, format_count, format_range, format_size

_PASSED = re.compile(r"([0-9]{1,18}): (.*)", re.DOTALL)
HEADS = ("step", "block", "write", "then", "moves", "time", "free", "risk")


def text_of(plan: HostPlan) -> str:
    """The plan: its steps with cost, time and risk, what was passed over, what is assumed."""
    return as_text(_lines(plan))


def _lines(plan: HostPlan) -> Iterator[str]:
    yield f"{plan.source}: {plan.goal}, plan {plan.id}"
    yield ""
    if plan.steps:
        yield from table(HEADS, [_row(number, step) for number, step in enumerate(plan.steps, 1)])
        yield ""
    for text in _alike([f"{step.block}: {step.because}" for step in plan.steps if step.risk != "low"]):
        yield f"risk of {text}"
    if plan.passed_over:
        yield f"passed over: {'; '.join(_alike(plan.passed_over))}"
    for text in plan.assumed:
        yield f"assumed: {text}"
    yield _verdict(plan)


def _verdict(plan: HostPlan) -> str:
    if not plan.steps and plan.verdict == "reached":
        return "There is nothing to do."
    steps = f"{format_count(len(plan.steps), 'step')} to {exact_size(plan.reached)}"
    if plan.verdict == "reached":
        return f"{steps}, as wanted."
    why = f": {plan.short}" if plan.short else ""
    return f"{f'{steps} of' if plan.steps else 'No step to'} {exact_size(plan.wanted)}{why}."


def _alike(passed: list[str]) -> Iterator[str]:
    """Blocks that were passed over for the same reason, together: ``148–199, 203: EBUSY``."""
    blocks: dict[str, list[Span]] = {}
    for text in passed:
        match = _PASSED.fullmatch(text)
        if match is None:
            yield text
            continue
        blocks.setdefault(match[2], []).append(Span(int(match[1]), int(match[1]) + 1))
    for reason, spans in blocks.items():
        yield f"{', '.join(format_range(span.start, span.end - 1) for span in SpanSet(spans))}: {reason}"


def _row(number: int, step: Step) -> tuple[str, ...]:
    return (
        str(number),
        str(step.block),
        step.write,
        _state(step.after),
        "?" if step.moves is None else format_size(step.moves),
        "?" if step.seconds is None else f"{step.seconds:.1f} s",
        ("+" if step.free > 0 else "") + format_size(step.free),
        step.risk,
    )


def _state(state: BlockState) -> str:
    return f"{state.state}, {state.zone}" if state.zone else state.state


def applied_text(applied: Applied) -> str:
    """How a plan ended."""
    if applied.verdict == "abandoned":
        return as_text([f"plan {applied.plan}: abandoned, no block written to"])
    done = sum(result == "ok" for result in applied.steps)
    lines = [f"plan {applied.plan}: {applied.verdict}, {format_count(done, 'step')} done"]
    if applied.why:
        lines.append(f"why: {applied.why}")
    if applied.verdict in ("stopped", "interrupted"):
        lines.append("go on with --resume, take it back with --roll-back, or leave it as it stands with --abandon")
    return as_text(lines)
