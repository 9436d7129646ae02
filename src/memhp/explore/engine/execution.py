"""One execution as a sequence of events: what was done, and what happened before what.

What happened before an event (happens-before: L. Lamport, CACM 21:7, 1978) is kept as a bit mask of positions: what
vector clocks say, in a form that is cheap to join. Threads that go round are seen as :mod:`memhp.explore.engine.spin`
has them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Mapping, Set

from memhp.errors import BadInput
from memhp.explore.engine.fusion import LazyDependence, Touches
from memhp.explore.engine.nesting import outermost
from memhp.explore.engine.op import Op, Run
from memhp.explore.engine.races import Races
from memhp.explore.engine.schedule import Choice, numbers
from memhp.explore.engine.spin import SpinOp, endless, own_steps, spin_of, spin_op

NOTHING: Mapping[int, int] = {}


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
        self._along: list[Touches] = []
        """By event: what was touched by the steps taken along with it; nothing where none are."""
        self._events_of: dict[Hashable, dict[int, int]] = {}
        """By object, then by mode: a bit mask of the events that touch it so."""
        self._steps_of: list[int] = [0] * len(run.pending)
        """By thread: a bit mask of its events."""
        self._dependence = LazyDependence(len(run.pending))
        self._races = Races()

    @property
    def met(self) -> Set[Hashable]:
        """What threads share and was not known to be; what was found does not count then."""
        found, unseen = self._dependence.found, self._run.unseen
        return found | unseen if unseen else found

    @property
    def to_share(self) -> Set[Hashable]:
        """Of what was met in the last execution, that which is to be taken as shared first: locks that no other lock
        keeps in order, if there are any, and in any case what was written and not looked at.
        """
        met, run = self.met, self._run
        locks = {target for target in met if run.is_lock(target)}
        if not locks:
            return met
        steps = zip((choice.thread for choice in self._choices), self._ops, self._along, strict=True)
        touches = ((thread, [*op.touches, *along]) for thread, op, along in steps)
        return (outermost(locks, touches, run.is_lock) or locks) | (met & run.unseen)

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
            if type(spinning) is SpinOp and not spinning.wakers:
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
        return type(op) is SpinOp and not op.wakers

    def _can(self, op: Op, thread: int) -> bool:
        """Whether a blocking operation can be done now."""
        return not (type(op) is SpinOp and not op.wakers) and self._run.enabled(thread)

    def _could(self, op: Op, thread: int, at: int) -> bool:
        """Whether a blocking operation could have been done just before event `at`, which touches what it touches; of a
        thread that goes round, whether something else wakes it that does not need that event.
        """
        if type(op) is SpinOp:
            return any(one < at or not self._past[one] >> at & 1 for one in numbers(op.wakers & ~(1 << at)))
        return self._run.could(op, thread, at)

    def _expect_touched(self, threads: int, pending: list[Op | None]) -> None:
        """Whoever lets a thread go on, or keeps it from going on, must touch what it waits for."""
        for thread, op in enumerate(pending):
            if threads >> thread & 1 and op is not None and op.commutes(self._ops[-1]):
                shared = self._run.shared
                unknown = [] if shared is None else [target for target, _ in op.touches if target not in shared]
                if unknown:
                    self._dependence.found.update(unknown)
                    continue
                name, last = self._run.names[thread], self._ops[-1].text
                raise BadInput(
                    f"whether {name} can {op.text} changes at a step that does not name what is waited for, {last!r} "
                    "or one after it: all that a wait looks at goes by one name, and whoever changes it must say that",
                    where=op.place,
                )

    def _undo(self) -> None:
        """Take the last event back; the run is left where it is."""
        thread = self._forget()
        if self._run.shared is not None:
            self._dependence.back(thread)
            self._along.pop()
        self._races.back(len(self._past))
        self._taken.pop()

    def _known_past(self, op: Op, before: int, past: int) -> int:
        """Of the past of an operation what it has by what is known to be shared. One that waits for something else
        would be taken along where it need not wait, and then has in its past what its thread has, `before`.
        """
        shared = self._run.shared
        if not op.blocking or shared is None or all(target in shared for target, _ in op.touches):
            return past
        known = before
        for at in numbers(self._meeting([touch for touch in op.touches if touch[0] in shared])):
            known |= 1 << at | self._past[at]
        return known

    def _happens(self, choice: Choice, op: Op, before: int, past: int) -> None:
        """One more event: `before` are those that its thread's events so far have in their past, themselves included,
        `past` those that are in its own.
        """
        thread = choice.thread
        bit = 1 << len(self._past)
        self._ops.append(op)
        self._choices.append(choice)
        self._past.append(past)
        self._saved_past.append(before)
        self._past_of_thread[thread] = past | bit
        self._steps_of[thread] |= bit
        for target, mode in op.touches:
            events = self._events_of.get(target)
            if events is None:
                events = self._events_of[target] = {}
            events[mode] = events.get(mode, 0) | bit

    def _forget(self) -> int:
        """Take the last event back, as if it had not happened; the thread whose it was."""
        thread = self._choices.pop().thread
        self._past.pop()
        self._past_of_thread[thread] = self._saved_past.pop()
        others = ~(1 << len(self._past))
        self._steps_of[thread] &= others
        for target, mode in self._ops.pop().touches:
            self._events_of[target][mode] &= others
        return thread

    def _meeting(self, touches: Touches) -> int:
        """Events that do not commute with one that touches this, whosever they are, as a bit mask."""
        met = 0
        for target, mode in touches:
            for other, events in self._events_of.get(target, NOTHING).items():
                if other != mode or not mode:
                    met |= events
        return met

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
