"""When a search ends before it has seen everything, and what its answer takes for granted."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from math import inf

from memhp.errors import BadInput
from memhp.explore.engine.op import Run
from memhp.explore.engine.verdict import FAIR, FOR_LOOPS, SEQUENTIAL, Bound

STEP_SECONDS = 30.0
"""What is done in bulk at one step takes seconds at most."""


@dataclass(frozen=True)
class Limits:
    """When a search ends before it has seen everything, and what it keeps.

    Deadlocks and livelocks are failures unless `deadlock_is_failure` is False: a program may be meant to block.
    """

    executions: int | None = None
    failures: int | None = None
    """The most allocations that fail in one execution; None: every combination is tried."""
    steps: int = 100_000
    """The longest execution that is followed; one that goes on leaves the search undecided."""
    rounds: int = 50
    """How often a thread goes round, with all that can be seen of it the same, before that counts as endless."""
    step_seconds: float = STEP_SECONDS
    """The processor time after which code of an actor that comes to no other step is an error, as is a `check` that
    does not end; no verdict rests on it."""
    stop_at_failure: bool = True
    deadlock_is_failure: bool = True
    keep_behaviours: bool = False
    keep_states: bool = False
    """Whether behaviours that are kept come with shared memory as it is then (:meth:`Run.state`)."""
    keep_classes: bool = False

    def __post_init__(self) -> None:
        """BadInput: a number is of another sort than it is to be, or so low that nothing would be looked at."""
        for name, least in (("executions", 1), ("failures", 0), ("steps", 1), ("rounds", 1)):
            value = getattr(self, name)
            if value is None and name in {"executions", "failures"}:
                continue
            if not isinstance(value, int) or value < least:
                raise BadInput(f"wanted a whole number from {least} on, and got {value!r:.80}", where=f"limits: {name}")
        if not isinstance(self.step_seconds, int | float) or not 0 < self.step_seconds < inf:
            told = f"wanted a number of seconds above 0, and got {self.step_seconds!r:.80}"
            raise BadInput(told, where="limits: step_seconds")

    def rests_on(self, run: Run) -> tuple[str, ...]:
        """What a verdict within these limits takes for granted: see :attr:`Verdict.rests_on`."""
        loops = f"a loop that goes round {self.rounds} times more, all that can be seen of it the same, never ends"
        return (SEQUENTIAL, FAIR, FOR_LOOPS, loops, *run.grain)

    @property
    def bound(self) -> Bound | None:
        """What a verdict within these limits holds up to."""
        return None if self.failures is None else Bound(failures=self.failures)
