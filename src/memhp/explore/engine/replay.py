"""One execution, step by step: a schedule replayed, and extended."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from string import ascii_lowercase

from memhp.errors import BadInput
from memhp.explore.engine.follow import livelock_at
from memhp.explore.engine.op import Run, deadlock
from memhp.explore.engine.schedule import Choice, from_text, to_text
from memhp.explore.engine.trace import End, Trace


def enabled_threads(run: Run) -> list[int]:
    """The threads that can do a step now."""
    return [thread for thread, op in enumerate(run.pending) if op is not None and run.enabled(thread)]


def replay(run: Run, schedule: str, *, extend: int = 0) -> Trace:
    """The trace of a schedule, and of `extend` steps more (a thread goes on as long as it can).

    BadInput: the schedule asks for a step that cannot be done. The run is at its start afterwards.
    """
    steps = from_text(schedule)
    for number, step in enumerate(steps):
        why = _impossible(run, step)
        if why is not None:
            run.back(0)
            letter = ascii_lowercase[step.thread]
            raise BadInput(f"step {number + 1} of {schedule!r} cannot be done: {why}", where=f"thread {letter}")
        run.step(*step)
    while extend and run.broken is None and enabled_threads(run):
        steps.append(Choice(_default(run, steps)))
        run.step(*steps[-1])
        extend -= 1
    return _trace(run, steps)


def watched(run: Run, schedule: str, *, extend: int = 0) -> Trace:
    """The trace of a schedule with what every step changes (:func:`replay` leaves that out); `run` is watched for good.

    BadInput: the schedule asks for a step that cannot be done.
    """
    run.watch()
    return replay(run, schedule, extend=extend)


def _default(run: Run, steps: Sequence[Choice]) -> int:
    """The thread that ran last, if it can go on; the first that can, otherwise."""
    enabled = enabled_threads(run)
    return steps[-1].thread if steps and steps[-1].thread in enabled else enabled[0]


def _impossible(run: Run, step: Choice) -> str | None:
    if step.thread >= len(run.pending):
        return f"there are {len(run.pending)} threads"
    op = run.pending[step.thread]
    if op is None:
        return "it has ended"
    if not run.enabled(step.thread):
        return f"it waits at {op.text}"
    if step.way >= op.choices:
        return f"{op.text} goes {op.choices} ways"
    return None


def _trace(run: Run, steps: Sequence[Choice]) -> Trace:
    """What the run has come to; takes it back to its start."""
    lines = tuple(run.line(at) for at in range(len(steps)))
    waiting = tuple(op.text if op is not None else None for op in run.pending)
    reason = run.broken
    end: End = "broken"
    if reason is None:
        if enabled_threads(run):
            end = "unfinished"
        elif any(run.pending):
            end, reason = "deadlock", deadlock(run)
        else:
            reason = run.failure()
            end = "done" if reason is None else "broken"
    preemptions = _preemptions(run, steps)
    if end == "unfinished" and run.loops:
        reason = livelock_at(run, steps)
        end = "livelock" if reason is not None else end
    return Trace(
        schedule=to_text(steps), end=end, reason=reason, names=run.names, waiting=waiting, preemptions=preemptions,
        lines=lines,
    )  # fmt: skip


def _preemptions(run: Run, steps: Sequence[Choice]) -> int:
    """How often a thread was taken off although it could go on; takes the run back to its start."""
    count = 0
    for at in range(len(steps) - 1, 0, -1):
        run.back(at)
        before = steps[at - 1].thread
        count += steps[at].thread != before and run.pending[before] is not None and run.enabled(before)
    run.back(0)
    return count
