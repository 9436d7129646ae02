"""One execution followed to its end, judged as the search judges: broken, deadlock, livelock or done."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from dataclasses import dataclass

from memhp.explore.engine.op import Run
from memhp.explore.engine.schedule import Choice, to_text
from memhp.explore.engine.search import Limits, Search


@dataclass(frozen=True)
class Followed:
    """An execution: its steps, what went wrong in it, and how often a thread was taken off that could go on."""

    steps: tuple[Choice, ...]
    reason: str | None
    preemptions: int

    @property
    def schedule(self) -> str:
        """The steps as a string."""
        return to_text(self.steps)

    @property
    def size(self) -> tuple[int, int, int]:
        """What smaller means: fewer preemptions, then fewer failed allocations, then fewer steps."""
        return self.preemptions, sum(step.way > 0 for step in self.steps), len(self.steps)


class _Follow(Search):
    """A search that takes the steps that it is told to take."""

    def __init__(self, run: Run, most: int) -> None:
        super().__init__(run, Limits(steps=most), reduce=False)

    def to_end(self, steps: Sequence[Choice], *, go_on: bool) -> Followed | None:
        """Take `steps`, and then go on with each thread as long as it can; None: a step cannot be done."""
        ended = False
        while not ended:
            thread = self._arrive(0)
            done = len(self._choices)
            ended = thread < 0
            if ended and self.failure is None and done < len(steps):
                return None
            if not ended and done < len(steps):
                step = steps[done]
                op = self._run.pending[step.thread] if step.thread < len(self._run.pending) else None
                if op is None or not self._enabled[done] >> step.thread & 1 or step.way >= op.choices:
                    return None
                self._step(*step)
            elif not ended and go_on:
                self._step(thread, 0)
            else:
                ended = True
        return Followed(
            tuple(self._choices), self.failure.reason if self.failure is not None else None, self._preemptions()
        )

    def _preemptions(self) -> int:
        steps = self._choices
        return sum(
            steps[at].thread != steps[at - 1].thread and bool(self._enabled[at] >> steps[at - 1].thread & 1)
            for at in range(1, len(steps))
        )


def follow(run: Run, steps: Sequence[Choice], most: int) -> Followed | None:
    """Take `steps`, then let each thread go on as long as it can; None when one of them cannot be done.

    It ends where something is broken or nobody gets any further, or after `most` steps. The run stands at its start
    before and after.
    """
    followed = _Follow(run, most).to_end(steps, go_on=True)
    run.back(0)
    return followed


def livelock_at(run: Run, steps: Sequence[Choice]) -> str | None:
    """Who goes round at the end of these steps, where nobody gets any further; None where somebody does.

    The run stands at its start before and after; the steps can be done.
    """
    followed = _Follow(run, len(steps) + 1).to_end(steps, go_on=False)
    run.back(0)
    if followed is None or followed.reason is None or not followed.reason.startswith("livelock: "):
        return None
    return followed.reason
