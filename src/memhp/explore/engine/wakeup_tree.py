"""Which orders of events are still to be tried: trees of steps that begin them.

Design. The order in which the later of two events that race comes first is begun by the events after the earlier one
that do not need it, and then the later one. It is new unless it, or an order equivalent to it, begins with a step that
was tried in that state already. What is to be tried in a state is kept as a tree of steps, for an order may have to be
followed further than one step; it is entered below those steps that an equivalent order begins with, and not at all
where that leads to a leaf. What has been tried is asleep while the rest of the tree is, and each order that is entered
has an event that wakes whatever is asleep beside it. So no execution is given up half way because all that can follow
was seen before, and each class of equivalent executions is looked at once.

Only as much of an order is entered as does that: the later event, what must come before it, and what wakes those
asleep. Races are looked at when an execution has ended, for whether a step can begin an order depends on all of it: it
may be one of a thread that comes late in it or not at all. Where it does not, because the events up to the later one
tell, the race is *settled* for all executions that begin with these events; the others are looked at again.

The other ways in which an allocation can go are orders of this kind too, begun by the same event gone another way.

Literature: P. A. Abdulla, S. Aronis, B. Jonsson, K. Sagonas, "Optimal Dynamic Partial Order Reduction" (POPL 2014) and
"Source Sets: A Foundation for Optimal Dynamic Partial Order Reduction" (J. ACM 64:4, 2017), whose wakeup trees these
are.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.engine.fusion import Touches
from memhp.explore.engine.op import ALONE, Op, Run
from memhp.explore.engine.schedule import Choice, branch_of, choice_of, numbers
from memhp.explore.engine.source_sets import SourceSets


class Wake:
    """A step that is to be tried, and the steps of which one is to follow it; where there are none, anything may."""

    __slots__ = ("branch", "then", "touches")

    def __init__(self, branch: int, touches: Touches) -> None:
        self.branch = branch
        self.touches = touches
        self.then: list[Wake] = []


class WakeupTrees(SourceSets):
    """The current execution, and what was and is to be tried in the states on its way."""

    def __init__(self, run: Run, rounds: int, most_failures: int | None) -> None:
        super().__init__(run, rounds)
        self._most_failures = most_failures
        self._wakes: list[list[Wake]] = []
        """By state: what is to be tried after what is being tried."""
        self._following: list[Wake] = []
        """What is to be tried in the state that comes next."""
        self._unsettled: list[int] = []
        """By event: those that it races with, as a bit mask, and itself if it can go another way; not what is settled.
        """
        self._turned: dict[int, Op] = {}
        """By event: of an attempt to take a lock, what it would have been before what it races with."""
        self._open = 0
        """Events that have such."""

    def _next_races(self, branch: int, op: Op, turned: Op | None, races: int) -> int:
        """The next event is this operation, and races with these: those that are not settled at once, and itself if it
        can go another way.

        `turned` is what it would be if it took a lock that it finds taken, or the other way round.
        """
        number = len(self._past)
        at = number - 1
        if races and (op.changes_touched or (turned is not None and races & ~self._alone_on(op.touches))):
            self.beyond_trees = True  # what it would touch before those is not known
        if races and races >> at & 1:
            if (self._asleep[at] | self._tried[at]) & branch:
                races ^= 1 << at
            elif not self._wakes[at] and not self._sleepers[at] and self._enabled[at] & branch:
                self._wakes[at].append(Wake(branch, (turned or op).touches))
                races ^= 1 << at
        if op.choices > 1:
            races |= 1 << number
        if races:
            self._open |= 1 << number
            if turned is not None:
                self._turned[number] = turned
        return races

    def _alone_on(self, touches: Touches) -> int:
        """The events that touch the same and commute with nothing."""
        alone = 0
        for target, _ in touches:
            alone |= self._events_of[target].get(ALONE, 0)
        return alone

    def _look_at_races(self) -> None:
        """The execution has ended: enter the orders that are new."""
        for number in numbers(self._open):
            turned = number in self._turned
            if turned:
                self._turn(number)
            way = self._choices[number].way
            for at in numbers(self._unsettled[number]):
                if self._go_otherwise(at) if at == number else self._reverse(at, number, way):
                    self._unsettled[number] ^= 1 << at
            if not self._unsettled[number]:
                self._open ^= 1 << number
            if turned:
                self._turn(number)

    def _turn(self, number: int) -> None:
        """Let an event touch what it would if it came before what it races with, or again what it did."""
        turned, op = self._turned[number], self._ops[number]
        for target, mode in op.touches:
            self._events_of[target][mode] ^= 1 << number
        for target, mode in turned.touches:
            self._events_of[target][mode] = self._events_of[target].get(mode, 0) ^ 1 << number
        self._ops[number], self._turned[number] = turned, op

    def _go_otherwise(self, at: int) -> bool:
        """Enter the other ways in which event `at` can go; whether that is settled."""
        thread, way = self._choices[at]
        left = self._enabled[at] & ~self._tried[at] & ~self._asleep[at]
        settled = True
        for other in range(self._ops[at].choices):
            if other != way and left & branch_of(Choice(thread, other)):
                settled = self._reverse(at, at, other) and settled
        return settled

    def _reverse(self, at: int, number: int, way: int) -> bool:
        """Enter the order in which event `number` comes before event `at`, and goes that way, if it is new.

        Returns whether the race is settled.
        """
        past, ops, choices = self._past, self._ops, self._choices
        bit = 1 << number
        events = self._without(at) | bit

        def begins(branch: int, touches: Touches) -> tuple[bool, int]:
            """Whether a step may come before `events`; its event if it is one of them, or else those that wake it."""
            thread, its_way = choice_of(branch)
            own = events & self._steps_of[thread]
            if not own:
                waking = self._meeting(touches) & events
                return not waking, waking
            first = own & -own
            its = first.bit_length() - 1
            if (way if its == number else choices[its].way) != its_way:
                return False, first | self._meeting(touches) & events & first - 1
            before = self._saved_past[its] | self._meeting(ops[its].touches) & ~bit if its == number else past[its]
            before &= events
            return (True, first) if not before else (False, self._meeting(touches) & before or before)

        waking: list[int] = []
        for branch, touches in self._sleepers[at]:
            can, which = begins(branch, touches)
            if can:
                return which <= bit if which else self._keeps_off(at, touches)
            waking.append(which)
        every = events
        followed = 0
        settled = True
        level = self._wakes[at]
        place = 0
        while place < len(level):
            step = level[place]
            can, which = begins(step.branch, step.touches)
            if not can:
                waking.append(which)
                place += 1
                continue
            settled = settled and (which <= bit if which else self._keeps_off(at, step.touches))
            followed |= which
            events &= ~which
            if not step.then:
                return settled
            level, place = step.then, 0
        enter = followed | bit | past[number] & every
        for which in waking:
            if not which & enter:
                low = which & -which
                enter |= low | past[low.bit_length() - 1] & every
        if number == at and not self._may_go(at, way, enter):
            return False
        enter &= ~followed
        settled = settled and enter < bit << 1
        for its in numbers(enter):
            branch = branch_of(Choice(choices[its].thread, way) if its == number else choices[its])
            if level is self._wakes[at] and not self._enabled[at] & branch:
                return True  # what it waits for is not there, and nobody else in the order touches it
            level.append(Wake(branch, ops[its].touches))
            level = level[-1].then
        return settled

    def _keeps_off(self, at: int, touches: Touches) -> bool:
        """Whether nothing that does not need event `at` can touch this after it."""
        alone = [target for target, mode in self._ops[at].touches if mode == ALONE]
        return all(target in alone for target, _ in touches)

    def _may_go(self, at: int, way: int, events: int) -> bool:
        """Whether no more allocations fail than may when event `at` goes that way and these follow."""
        most = self._most_failures
        before = sum(choice.way > 0 for choice in self._choices[:at])
        after = sum(self._choices[number].way > 0 for number in numbers(events) if number != at)
        return most is None or before + after + (way > 0) <= most
