"""One execution followed to its end, judged as the search judges: broken, deadlock, livelock or done."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from memhp.explore.engine.op import Run
from memhp.explore.engine.schedule import Choice, from_text, to_text
from memhp.explore.engine.search import DATA_RACE, Limits, Search


@dataclass(frozen=True)
class Followed:
    """An execution: its steps, and what went wrong in it."""

    steps: tuple[Choice, ...]
    enabled: tuple[int, ...]
    """By step: a bit mask of the threads that could have taken it."""
    reason: str | None

    @property
    def schedule(self) -> str:
        """The steps as a string."""
        return to_text(self.steps)

    @cached_property
    def preemptions(self) -> int:
        """How often a thread was taken off that could go on."""
        return preemptions_of(self.steps, self.enabled)

    @property
    def size(self) -> tuple[int, int, int]:
        """What smaller means: fewer preemptions, then fewer failed allocations, then fewer steps."""
        return self.preemptions, sum(step.way > 0 for step in self.steps), len(self.steps)

    def may_shrink(self, steps: Sequence[Choice]) -> bool:
        """Whether `steps`, followed, may come to a smaller execution, as far as this one tells.

        Not if they have more preemptions already where they leave it, nor if they never leave it.
        """
        same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(self.steps, steps, strict=False)))
        if same < len(steps):
            return same < len(self.steps) and preemptions_of(steps[: same + 1], self.enabled) <= self.preemptions
        return any(
            self.steps[at] != Choice(undisturbed(self.steps[at - 1].thread if at else 0, self.enabled[at]))
            for at in range(same, len(self.steps))
        )


def preemptions_of(steps: Sequence[Choice], enabled: Sequence[int]) -> int:
    """How often a thread is taken off that could go on; `enabled` has a bit mask of threads by step."""
    return sum(
        steps[at].thread != steps[at - 1].thread and bool(enabled[at] >> steps[at - 1].thread & 1)
        for at in range(1, len(steps))
    )


def undisturbed(last: int, enabled: int) -> int:
    """The thread that goes on where nobody says which."""
    return last if enabled >> last & 1 else (enabled & -enabled).bit_length() - 1


class _Follow(Search):
    """A search that takes the steps that it is told to take."""

    def __init__(self, run: Run, most: int) -> None:
        super().__init__(run, Limits(steps=most), reduce=False)

    def to_end(self, steps: Sequence[Choice], *, go_on: bool, preemptions: int | None = None) -> Followed | None:
        """Take `steps`, and then go on with each thread as long as it can.

        None: a step cannot be done, or there are more than so many preemptions.
        """
        choices = self._choices
        left = deque(steps)
        while (thread := self._arrive(0)) >= 0:
            done = len(choices)
            step = Choice(thread)
            while left and self._is_parked(left[0].thread):
                left.popleft()  # one round more of the same
            if left:
                step = left.popleft()
                op = self._run.pending[step.thread] if step.thread < len(self._run.pending) else None
                if op is None or not self._enabled[done] >> step.thread & 1 or step.way >= op.choices:
                    return None
            elif not go_on:
                break
            if preemptions is not None and done and step.thread != choices[-1].thread:
                preemptions -= self._enabled[done] >> choices[-1].thread & 1
                if preemptions < 0:
                    return None
            self._step(*step)
        if self.failure is None and left:
            return None
        enabled = tuple(self._enabled[: len(choices)])
        failure = self.failure or self.race
        if failure is None:
            return Followed(tuple(choices), enabled, None)
        broken = from_text(failure.schedule)
        return Followed(tuple(broken), enabled[: len(broken)], failure.reason)


def follow(run: Run, steps: Sequence[Choice], most: int, *, preemptions: int | None = None) -> Followed | None:
    """Take `steps`, then let each thread go on as long as it can.

    None when one of them cannot be done, or when more than `preemptions` are made. It ends where something is broken
    or nobody gets any further, or after `most` steps. The run stands at its start before and after.
    """
    followed = _Follow(run, most).to_end(steps, go_on=True, preemptions=preemptions)
    run.back(0)
    return followed


def unseen_at(run: Run, steps: Sequence[Choice]) -> str | None:
    """What is wrong at the end of these steps and no state shows: who goes round where nobody gets any further, or
    which accesses race.

    The run stands at its start before and after; the steps can be done.
    """
    run.notes_places = True
    followed = _Follow(run, len(steps) + 1).to_end(steps, go_on=False)
    run.notes_places = False
    run.back(0)
    reason = followed.reason if followed is not None else None
    return reason if reason is not None and reason.startswith(("livelock: ", f"{DATA_RACE}: ")) else None
