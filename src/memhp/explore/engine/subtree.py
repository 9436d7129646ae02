"""One part of a search: everything below one branch, from what the whole search knows when the part begins.

Design. A search is a tree of states, and what it must still do at each state is a set of threads (*wanted*). The part
below a branch needs the sleep set at its top, and looks at events before its top only to add to what is wanted there.
So a part can be searched anywhere: it is given the schedule that leads to it and the sets along that schedule, and
hands back its counts, what it adds to the sets, and, when its budget is spent before it is through, the states that
it stands in, which the whole search makes into parts again (:mod:`memhp.explore.engine.partition`). That goes with
source sets, whose order does not matter. A wakeup tree is gone through in its order, what is found in one branch being
entered into those after it; so it is for a search that is not divided.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from memhp.explore.engine.op import Run
from memhp.explore.engine.schedule import branch_of, from_text, to_text
from memhp.explore.engine.search import Limits, Search
from memhp.explore.engine.verdict import Coverage, Failure

BUDGET = 1_000_000
"""Steps after which a part is divided, those that lead to an execution's first new step included."""


@dataclass(frozen=True)
class Sets:
    """What a search knows of the states along a schedule, by depth: bit masks of branches."""

    enabled: tuple[int, ...] = ()
    asleep: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()
    tried: tuple[int, ...] = ()


@dataclass(frozen=True)
class Start:
    """Where a part begins: a schedule whose last step is the branch, and the sets before each of its steps.

    The empty schedule is the whole search; `alone`: by wakeup trees, for it is not to be divided.
    """

    schedule: str = ""
    sets: Sets = field(default_factory=Sets)
    alone: bool = False


@dataclass(frozen=True)
class Rest:
    """Where a part stands that did not get through: the steps after its start's schedule, and the sets before each.

    The last step of the start's schedule counts as the part's first.
    """

    schedule: str
    sets: Sets


@dataclass(frozen=True)
class Found:
    """What a part has found."""

    coverage: Coverage
    failure: Failure | None
    added: dict[int, int]
    """By depth, for the states along the start's schedule: branches to be tried there."""
    woken: dict[int, int]
    """Likewise: branches that are not asleep there any more."""
    rest: Rest | None
    met: frozenset[Hashable] = frozenset()
    """What threads share and was not known to be: the whole search has to begin again then."""
    race: Failure | None = None
    """A data race, which is a failure where no part has another."""


class Part(Search):
    """The search of a part."""

    def __init__(self, run: Run, limits: Limits, start: Start, budget: int) -> None:
        super().__init__(run, replace(limits, executions=None), reduce=True, optimal=start.alone, budget=budget)
        self._start = start

    def look(self) -> Found:
        """Search the part; the run stands at its start before and after."""
        start = self._start
        asleep = 0
        for depth, choice in enumerate(from_text(start.schedule)):
            for mine, given in zip(self._by_state(), _columns(start.sets), strict=True):
                mine.append(given[depth])
            self._wakes.append([])
            asleep = self._step(branch_of(choice))
        self.coverage.steps = 0
        self._floor = len(self._choices)
        self._branch = max(self._floor - 1, 0)
        self.explore(asleep)
        added = {depth: more for depth, known in enumerate(start.sets.wanted) if (more := self._wanted[depth] & ~known)}
        woken = {depth: up for depth, known in enumerate(start.sets.asleep) if (up := known & ~self._asleep[depth])}
        rest = self._rest() if self._stopped or self.gives_up else None
        met = frozenset(self.to_share)
        self._run.back(0)
        return Found(self.coverage, self.failure, added, woken, rest, met, self.race)

    def _by_state(self) -> tuple[list[int], ...]:
        return self._enabled, self._asleep, self._wanted, self._tried

    def _rest(self) -> Rest:
        """The states that the part stands in."""
        first = max(self._floor - 1, 0)
        sets = Sets(*(tuple(column[first:]) for column in self._by_state()))
        return Rest(to_text(self._choices[first:]), sets)


def _columns(sets: Sets) -> tuple[tuple[int, ...], ...]:
    return sets.enabled, sets.asleep, sets.wanted, sets.tried
