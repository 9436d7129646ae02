"""What a rehearsal of a real machine rests on, in a few words: for the terminal and the page alike."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.scenario.result import Assumption, Run, StepResult


def was_read(run: Run) -> bool:
    """Whether the machine was read from somewhere: what a description does not say is the reader's own to know."""
    return any(each.basis == "told" for each in run.assumptions)


def grounds(run: Run) -> Iterator[tuple[str, str]]:
    """Each fact that the run rests on, and how it is known; of a machine that was read only."""
    if was_read(run):
        yield from ((each.what, sentence(each)) for each in run.assumptions)


def sentence(each: Assumption) -> str:
    """``33 MiB in DMA32, told by /proc/zoneinfo``."""
    if each.basis == "told":
        return f"{each.text}, told by {each.by}"
    if each.basis == "foretold":
        return f"{each.text}, foretold"
    return f"assumed: {each.text}" + (f"; to settle it, {each.settle}" if each.settle else "")


def rests_on(run: Run, step: StepResult) -> str:
    """The assumptions that a step's outcome could be another without, in a line; empty where there are none."""
    return ", ".join(step.outcome.rests_on) if was_read(run) else ""
