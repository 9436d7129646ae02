"""One execution followed to its end, judged as the search judges: broken, deadlock, livelock or done."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from memhp.explore.engine.fusion import one_by_one
from memhp.explore.engine.op import Run
from memhp.explore.engine.schedule import Choice, branch_of, choice_of, to_text
from memhp.explore.engine.search import DATA_RACE, Limits, Search


@dataclass(frozen=True)
class Followed:
    """An execution: its steps, and what went wrong in it."""

    steps: tuple[Choice, ...]
    enabled: tuple[int, ...]
    """By step: a bit mask of the threads that could have taken it."""
    along: tuple[int, ...]
    """By step: how many steps were taken along with it."""
    reason: str | None

    @property
    def schedule(self) -> str:
        """The steps as a string, those that were taken along by themselves."""
        return to_text(one_by_one(self.steps, self.along))

    @cached_property
    def preemptions(self) -> int:
        """How often a thread was taken off that could go on."""
        return preemptions_of(self.steps, self.enabled)

    @property
    def size(self) -> tuple[int, int, int]:
        """What smaller means: fewer preemptions, then fewer failed allocations, then fewer steps."""
        return self.preemptions, sum(step.way > 0 for step in self.steps), len(self.steps)

    @cached_property
    def _told(self) -> int:
        """How many steps had to be told: after them each thread goes on as long as it can."""
        told = len(self.steps)
        while told:
            last = self.steps[told - 2].thread if told > 1 else 0
            if self.steps[told - 1] != Choice(undisturbed(last, self.enabled[told - 1])):
                break
            told -= 1
        return told

    def comes_of(self, steps: Sequence[Choice]) -> bool:
        """Whether `steps`, followed, come to this execution once more."""
        return self._told <= len(steps) and tuple(steps) == self.steps[: len(steps)]

    def may_shrink(self, steps: Sequence[Choice]) -> bool:
        """Whether `steps`, followed, may come to a smaller execution, as far as this one tells.

        Not if they have more preemptions already where they leave it, nor if they never leave it.
        """
        same = common(self.steps, steps)
        if same == len(steps):
            return not self.comes_of(steps)
        return same < len(self.steps) and preemptions_of(steps[: same + 1], self.enabled) <= self.preemptions


def common(one: Sequence[Choice], other: Sequence[Choice]) -> int:
    """How many steps two schedules begin with that are the same."""
    return sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(one, other, strict=False)))


def preemptions_of(steps: Sequence[Choice], enabled: Sequence[int]) -> int:
    """How often a thread is taken off that could go on; `enabled` has a bit mask of threads by step."""
    return sum(
        steps[at].thread != steps[at - 1].thread and bool(enabled[at] >> steps[at - 1].thread & 1)
        for at in range(1, len(steps))
    )


def undisturbed(last: int, enabled: int) -> int:
    """The thread that goes on where nobody says which."""
    return last if enabled >> last & 1 else (enabled & -enabled).bit_length() - 1


class _Following(Search):
    """A search that takes the steps that it is told to take."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, Limits(), reduce=False)
        self._raced_at = 0
        """After how many steps the first data race was come upon, if one was."""

    def to_end(
        self, steps: Sequence[Choice], most: int, *, go_on: bool, preemptions: int | None = None
    ) -> Followed | None:
        """Take `steps`, and then go on with each thread as long as it can; what was followed last is gone back from
        as far as it differs.

        None: a step cannot be done, or there are more than so many preemptions.
        """
        choices = self._choices
        self._limits = Limits(steps=most)
        done = self._go_back(steps)
        if preemptions is not None:
            preemptions -= preemptions_of(choices, self._enabled)
            if preemptions < 0:
                return None
        left = deque(steps[done:])
        while branch := self._arrive(0):
            done = len(choices)
            step = choice_of(branch)
            while left and self._is_parked(left[0].thread) and not self._enabled[done] >> left[0].thread & 1:
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
            self._step(branch_of(step))
            if self.race is not None and not self._raced_at:
                self._raced_at = len(choices)
        if self.failure is None and left:
            return None
        failure = self.failure or self.race
        count = self._raced_at if failure is self.race and failure is not None else len(choices)
        return Followed(
            tuple(choices[:count]),
            tuple(self._enabled[:count]),
            tuple(map(self._run.along, range(count))),
            failure.reason if failure is not None else None,
        )

    def _go_back(self, steps: Sequence[Choice]) -> int:
        """Go back to where `steps` leave what was followed; after how many steps that is."""
        same = common(self._choices, steps)
        self._run.back(same)
        while len(self._choices) > same:
            self._undo()
        for column in (self._enabled, self._asleep, self._wanted, self._tried, self._wakes):
            del column[same:]
        self.failure = None
        if self._raced_at > same:
            self.race, self._raced_at = None, 0
        return same


class Follower:
    """Follows schedules of a run one after the other; the run stands wherever the last one led until it goes back.

    The start that a schedule has in common with the one before it is not looked at again, so that many which differ
    in their last steps only cost little. Where threads go round it is: what they are seen to do depends on what was
    seen before.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._following: _Following | None = None

    def follow(self, steps: Sequence[Choice], most: int, *, preemptions: int | None = None) -> Followed | None:
        """Take `steps`, then let each thread go on as long as it can.

        None when one of them cannot be done, or when more than `preemptions` are made. It ends where something is
        broken or nobody gets any further, or after `most` steps.
        """
        if self._following is None or self._run.loops or self._following.met:
            self._run.back(0)
            self._following = _Following(self._run)
        return self._following.to_end(steps, most, go_on=True, preemptions=preemptions)


def follow(run: Run, steps: Sequence[Choice], most: int) -> Followed | None:
    """One schedule, as :class:`Follower` follows it; the run stands at its start before and after."""
    followed = Follower(run).follow(steps, most)
    run.back(0)
    return followed


def unseen_at(run: Run, steps: Sequence[Choice]) -> str | None:
    """What is wrong at the end of these steps and no state shows: who goes round where nobody gets any further, or
    which accesses race.

    The run stands at its start before and after; the steps can be done.
    """
    run.notes_places = True
    followed = _Following(run).to_end(steps, len(steps) + 1, go_on=False)
    run.notes_places = False
    run.back(0)
    reason = followed.reason if followed is not None else None
    return reason if reason is not None and reason.startswith(("livelock: ", f"{DATA_RACE}: ")) else None
