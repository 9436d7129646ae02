"""One execution as a sequence of events: what was done, and what happened before what.

What happened before an event (happens-before: L. Lamport, CACM 21:7, 1978) is kept as a bit mask of positions: what
vector clocks say, in a form that is cheap to join. Threads that go round are seen as :mod:`memhp.explore.engine.spin`
has them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.engine.fusion import LazyDependence
from memhp.explore.engine.op import Op, Run
from memhp.explore.engine.races import Races
from memhp.explore.engine.schedule import Choice
from memhp.explore.engine.spin import SpinOp, endless, own_steps, spin_of, spin_op


class Execution:
    """The events of a run up to here."""

    def __init__(self, run: Run, rounds: int) -> None:
        self._run = run
        self._rounds_probed = rounds
        """How often a thread goes round before that counts as endless."""
        self._ops: list[Op] = []
        self._choices: list[Choice] = []
        self._past: list[int] = []
        self._past_of_thread: list[int] = [0] * len(run.pending)
        self._saved_past: list[int] = []
        self._taken: list[int] = [0]
        """By state: how many steps led to it, with those that were taken along."""
        self._events_of: dict[Hashable, list[tuple[int, int, int]]] = {}
        """By object: events that touch it, how, and the number in the list of the last one of another mode."""
        self._dependence = LazyDependence(len(run.pending))
        self._races = Races(len(run.pending))

    def _pending(self) -> list[Op | None]:
        """What each thread does next, as the reduction sees it."""
        run = self._run
        found = list(run.pending)
        for thread, op in enumerate(found):
            period = spin_of(run, thread)
            if op is None or not period:
                continue
            seen = op.missed if op.missed is not None and run.misses(thread) else op
            spinning = spin_op(seen, thread, period, self._ops, self._choices)
            if type(spinning) is SpinOp and spinning.waker is None:
                spin = run.spin(thread)
                assert spin is not None
                if spin.endless is None:
                    spin.endless = endless(
                        run, own_steps(self._choices, thread, period), self._choices, self._rounds_probed
                    )
                if not spin.endless:
                    spinning = op
            found[thread] = spinning
        return found

    def _is_parked(self, thread: int) -> bool:
        """Whether a thread goes round and nobody has touched since what it looks at."""
        if not self._run.loops or thread >= len(self._run.pending):
            return False
        op = self._pending()[thread]
        return type(op) is SpinOp and op.waker is None

    def _can(self, op: Op, thread: int) -> bool:
        """Whether a blocking operation can be done now."""
        return not (type(op) is SpinOp and op.waker is None) and self._run.enabled(thread)

    def _could(self, op: Op, thread: int, at: int) -> bool:
        """Whether a blocking operation could have been done just before event `at`, which touches what it touches."""
        if type(op) is SpinOp:
            return op.waker is not None and op.waker < at
        return self._run.could(op, thread, at)

    def _expect_touched(self, threads: int, pending: list[Op | None]) -> None:
        """Whoever lets a thread go on, or keeps it from going on, must touch what it waits for."""
        for thread, op in enumerate(pending):
            if threads >> thread & 1 and op is not None and op.commutes(self._ops[-1]):
                if self._run.shared is not None:
                    self._dependence.found.update(target for target, _ in op.touches if target not in self._run.shared)
                    continue
                name = self._run.names[thread]
                raise RuntimeError(f"whether {name} can {op.text} changes unseen: at {self._ops[-1].text}")

    def _undo(self) -> None:
        """Take the last event back."""
        self._run.back(len(self._choices) - 1)
        thread = self._choices.pop().thread
        for target, _ in self._ops.pop().touches:
            self._events_of[target].pop()
        if self._run.shared is not None:
            self._dependence.back(thread)
        self._races.back(thread)
        self._past.pop()
        self._taken.pop()
        self._past_of_thread[thread] = self._saved_past.pop()

    def _class(self) -> Hashable:
        """What equivalent executions have in common: by thread, the way each event went and what came before it."""
        number: list[tuple[int, int]] = []
        count = [0] * len(self._past_of_thread)
        events: list[list[Hashable]] = [[] for _ in count]
        for position, (thread, way) in enumerate(self._choices):
            clock = [0] * len(count)
            past = self._past[position]
            while past:
                at = past.bit_length() - 1
                past ^= 1 << at
                who, which = number[at]
                clock[who] = max(clock[who], which)
            count[thread] += 1
            number.append((thread, count[thread]))
            events[thread].append((way, tuple(clock)))
        return tuple(tuple(of_thread) for of_thread in events)
