"""One execution, step by step: a schedule replayed, and extended."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from string import ascii_lowercase

from memhp.errors import BadInput
from memhp.explore.engine.follow import preemptions_of, undisturbed, unseen_at
from memhp.explore.engine.op import Run, deadlock
from memhp.explore.engine.schedule import Choice, from_text, to_text
from memhp.explore.engine.trace import End, Trace


class NotToBeDone(BadInput):
    """A schedule asks for a step that cannot be done."""


def _enabled(run: Run) -> int:
    """The threads that can do a step now, as a bit mask."""
    return sum(1 << thread for thread, op in enumerate(run.pending) if op is not None and run.enabled(thread))


def replay(run: Run, schedule: str, *, extend: int = 0) -> Trace:
    """The trace of a schedule, and of `extend` steps more (a thread goes on as long as it can).

    NotToBeDone: the schedule asks for a step that cannot be done. The run is at its start afterwards.
    """
    steps = from_text(schedule)
    enabled: list[int] = []
    for number, step in enumerate(steps):
        why = _impossible(run, step, steps[:number])
        if why is not None:
            run.back(0)
            letter = ascii_lowercase[step.thread]
            raise NotToBeDone(f"step {number + 1} of {schedule!r} cannot be done: {why}", where=f"thread {letter}")
        enabled.append(_enabled(run))
        run.step(*step)
    while extend and run.broken is None and (now := _enabled(run)):
        steps.append(Choice(undisturbed(steps[-1].thread if steps else 0, now)))
        enabled.append(now)
        run.step(*steps[-1])
        extend -= 1
    return _trace(run, steps, enabled)


def watched(run: Run, schedule: str, *, extend: int = 0) -> Trace:
    """The trace of a schedule with what every step changes (:func:`replay` leaves that out); `run` is watched for good.

    NotToBeDone: the schedule asks for a step that cannot be done.
    """
    run.watch()
    return replay(run, schedule, extend=extend)


def _there(run: Run, steps: Sequence[Choice]) -> int:
    """How many threads there are, without those behind them that have had nothing to do in these steps."""
    waiting = [who for who, op in enumerate(run.pending) if op is not None]
    return max([step.thread for step in steps] + waiting, default=-1) + 1


def _impossible(run: Run, step: Choice, before: Sequence[Choice]) -> str | None:
    there = _there(run, before)
    if step.thread >= there:
        return f"there are {there} threads"
    op = run.pending[step.thread]
    if op is None:
        return "it has ended"
    if not run.enabled(step.thread):
        return f"it waits at {op.text}"
    if step.way >= op.choices:
        return f"{op.text} goes {op.choices} ways"
    return None


def _trace(run: Run, steps: Sequence[Choice], enabled: Sequence[int]) -> Trace:
    """What the run has come to; takes it back to its start."""
    lines = tuple(run.line(at) for at in range(len(steps)))
    waiting = tuple(op.text if op is not None else None for op in run.pending)
    there = _there(run, steps)
    reason = run.broken
    end: End = "broken"
    if reason is None:
        if _enabled(run):
            end = "unfinished"
        elif any(run.pending):
            end, reason = "deadlock", deadlock(run)
        else:
            reason = run.failure()
            end = "done" if reason is None else "broken"
    run.back(0)
    if reason is None:
        reason = unseen_at(run, steps)
        if reason is not None:
            end = "livelock" if reason.startswith("livelock: ") else "broken"
    return Trace(
        schedule=to_text(steps), end=end, reason=reason, names=run.names[:there], waiting=waiting[:there],
        preemptions=preemptions_of(steps, enabled), lines=lines,
    )  # fmt: skip
