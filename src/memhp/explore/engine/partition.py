"""A search in parts: rounds of parts that know nothing of each other, put together in their order.

Design. The whole search is tried first as one that is not divided, with a budget; nearly always that is all. What does
not get through is begun again as one that is: a round of one part, and what that does not get through in as many steps
is divided. Each state that it stands in has branches left, and each branch is a part of the next round
(:mod:`memhp.explore.engine.subtree`). A part
sleeps on the branches of its state that were given out before it, so that no class of executions is completed twice;
what parts add to the sets of the states above them is put together when the round is over and makes parts of the round
after.
When a part comes upon something that threads share and that was not known to be, the whole search begins again
(:mod:`memhp.explore.engine.fusion`).
Rounds and parts depend on the budget only, not on who searches them or how many at a time: verdict and counts are the
same with one process and with a cluster.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Iterator, Sequence
from typing import Optional

from memhp.explore.engine.schedule import Choice, branch_of, choice_of, from_text, to_text
from memhp.explore.engine.search import Limits
from memhp.explore.engine.subtree import Found, Sets, Start
from memhp.explore.engine.verdict import Coverage, Failure, Mode, Verdict


class _State:
    """A state that some part stood in when its budget was spent."""

    def __init__(self, above: Optional["_State"], via: Choice, masks: tuple[int, int, int, int]) -> None:
        self.above = above
        self.via = via
        """The step that leads from the state above to this one."""
        self.enabled, self.asleep, self.wanted, self.given = masks

    def line(self) -> list["_State"]:
        """The states from the first to this one."""
        states = []
        at: _State | None = self
        while at is not None:
            states.append(at)
            at = at.above
        return states[::-1]


class _Branch:
    """A part: a step from a state, and the branches that were given out before it there."""

    def __init__(self, state: _State | None, choice: Choice, tried: int, *, alone: bool = False) -> None:
        self.state = state
        self.choice = choice
        self.tried = tried
        self.alone = alone

    def start(self) -> Start:
        """What the part is given."""
        if self.state is None:
            return Start(alone=self.alone)
        states = self.state.line()
        steps = [*(state.via for state in states[1:]), self.choice]
        return Start(
            to_text(steps),
            Sets(
                tuple(state.enabled for state in states),
                tuple(state.asleep for state in states),
                tuple(state.wanted for state in states),
                (*(state.given for state in states[:-1]), self.tried),
            ),
        )


class SplitSearch:
    """A search, round by round: :attr:`starts` are to be searched, :meth:`take` is given what was found."""

    def __init__(self, limits: Limits, shared: frozenset[Hashable] = frozenset()) -> None:
        self._limits = limits
        self.shared = shared
        """What threads share, as far as that is known; anything else in it costs steps, and no executions."""
        self._alone = True
        """Whether the search was not too large so far for one that is not divided."""
        self._begin()

    def _begin(self) -> None:
        self._coverage = Coverage()
        self._failure: Failure | None = None
        self._race: Failure | None = None
        self._stopped = False
        self._branches = [_Branch(None, Choice(0), 0, alone=self._alone)]

    @property
    def starts(self) -> list[Start]:
        """The parts of this round; none when the search is over."""
        return [branch.start() for branch in self._branches]

    @property
    def verdict(self) -> Verdict:
        """What the search says when it is over."""
        finished = not (self._stopped or self._coverage.too_long)
        failure = self._failure or self._race
        return Verdict(Mode.REDUCED, finished, failure, self._coverage, self._limits.bound)

    def take(self, found: Sequence[Found]) -> None:
        """What the parts of this round have found, in their order."""
        met = frozenset[Hashable]().union(*(part.met for part in found))
        if met:
            self.shared |= met
            self._begin()
            return
        if self._alone and found[0].rest is not None and not (found[0].failure and self._limits.stop_at_failure):
            self._alone = False
            self._begin()
            return
        touched: dict[_State, None] = {}
        following: list[_Branch] = []
        for branch, part in zip(self._branches, found, strict=True):
            self._coverage.add(part.coverage)
            self._race = self._race or part.race
            line = branch.state.line() if branch.state is not None else []
            for depth, more in part.added.items():
                line[depth].wanted |= more
                touched[line[depth]] = None
            for depth, up in part.woken.items():
                line[depth].asleep &= ~up
            self._divide(branch, part, touched)
            if part.failure is not None and self._failure is None:
                self._failure = part.failure
                if self._limits.stop_at_failure:
                    self._stopped = True
                    break
        for state in touched:
            following += _left(state)
        most = self._limits.executions
        if following and most is not None and self._coverage.executions + self._coverage.cut >= most:
            self._stopped = True
        self._branches = [] if self._stopped else following

    def _divide(self, branch: _Branch, part: Found, touched: dict[_State, None]) -> None:
        """Enter the states that a part stands in below its branch."""
        rest = part.rest
        if rest is None:
            return
        sets = rest.sets
        masks = list(zip(sets.enabled, sets.asleep, sets.wanted, sets.tried, strict=True))
        state, via = branch.state, branch.choice
        for number, step in enumerate(from_text(rest.schedule)):
            if number or branch.state is None:
                state = _State(state, via, masks[number])
                touched[state] = None
            assert state is not None
            state.given |= branch_of(step)
            via = step


def _left(state: _State) -> Iterator[_Branch]:
    """Parts of the branches of a state that were not given out yet."""
    left = state.wanted & ~state.given & ~state.asleep
    while left:
        bit = left & -left
        left ^= bit
        yield _Branch(state, choice_of(bit), state.given)
        state.given |= bit
