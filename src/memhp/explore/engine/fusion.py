"""Transition fusion: steps whose order with others' is settled anyway are taken along with their thread's step before.

Design. Most of what a thread does, nobody else looks at: the entries of a table that only it reads; or others look at
it only before or after, as the locks have it. The search need not see such steps. It sees those that touch what is
*shared*, and a step brings those after it along up to the next one of these. What is shared is not known in advance:
the search begins with nothing. Of two steps on one object that do not commute, one of them taken along, no chain of
steps that the search saw may be missing that puts one before the other; where it is, the object is shared. What was
looked at with too little known does not count; the search begins again, and ends when it comes upon nothing new.
Locks come first, for they put other things in order, and of locks that are taken under others the outermost
(:mod:`memhp.explore.engine.nesting`).

That loses nothing. Take an execution, step by step, up to the first two steps that ought to have been seen. Every step
that is taken along can be moved up to the one that brings it: a step in between with which it does not commute would
be one that nothing puts in order with it. So there is an execution with steps taken along that comes to the same two
steps, and finds that they meet.

Literature: R. J. Lipton, Reduction: A Method of Proving Properties of Parallel Programs (CACM 18:12, 1975), fuses steps
that commute with all others'; C. Flanagan, S. Qadeer, Transactions for Software Model Checking (SoftMC 2003), do so in
a search. Here dependence is found lazily, by happens-before (L. Lamport, CACM 21:7, 1978) of what was seen so far.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from typing import Any, TypeVar

from memhp.explore.engine.op import Op, Run, Stretch
from memhp.explore.engine.schedule import Choice

T = TypeVar("T")

MOST_ALONG = 50_000
"""Steps that are taken along with one. A thread that goes on for longer than that may be going round for ever; from
then on each of its steps is taken by itself, so that it can be told."""

Touches = Sequence[tuple[Hashable, int]]


_Last = dict[tuple[int, ...], int]
PART = 3
"""Members of the name of an object that may be one of the parts of a :class:`~memhp.explore.engine.op.Stretch`."""


class LazyDependence:
    """Dependence as it is found: who has touched what is not known to be shared, in the execution up to here.

    When a step touched something is a number, twice the step's; one more for a step that it took along.
    """

    def __init__(self, nr_threads: int) -> None:
        self.found: set[Hashable] = set()
        """Objects that have turned out to be shared."""
        self._steps_of = [0] * nr_threads
        """By thread: a bit mask of its steps."""
        self._last: dict[Hashable, _Last] = {}
        """By object, then by thread, mode and whether it was taken along: when it was touched last."""
        self._parts: dict[tuple[Hashable, ...], list[tuple[Any, ...]]] = {}
        """By what they are parts of: objects that were ever touched, each by itself."""
        self._stretches: dict[tuple[Hashable, ...], _Last] = {}
        """By what they are parts of, then as above with the first part and the end: when a stretch was touched last."""
        self._log: list[list[tuple[_Last, tuple[int, ...], int | None]]] = []

    def step(self, thread: int, op: Op, along: Touches, past: int, shared: Set[Hashable]) -> None:
        """A thread has done a step, and then those that it took along; `past` are the steps before, and itself.

        A step that had to wait for a lock that is not shared would be taken along where it has not.
        """
        self._steps_of[thread] |= 1 << len(self._log)
        self._log.append([])
        self._touch(thread, op.touches, op.blocking, past, shared)
        self._touch(thread, along, True, past, shared)

    def _touch(self, thread: int, touches: Touches, along: bool, past: int, shared: Set[Hashable]) -> None:
        log = self._log[-1]
        now = 2 * len(self._log) - 2 + along
        for target, mode in dict.fromkeys(touches):
            if type(target) is Stretch:
                self._touch_stretch(thread, target, mode, now, past)
                continue
            if target in shared:
                continue
            last = self._last.get(target)
            if last is None:
                last = self._last[target] = {}
                if type(target) is tuple and len(target) == PART:
                    self._parts.setdefault(target[:-1], []).append(target)
            key = (thread, mode, along)
            before = last.get(key)
            if before == now:
                continue
            if len(last) > (before is not None) and self._meets(last, thread, mode, along, past):
                self.found.add(target)
            if self._stretches and type(target) is tuple and (others := self._stretches.get(target[:-1])):
                at = target[-1]
                inside = {key: when for key, when in others.items() if key[3] <= at < key[4]}
                if self._meets(inside, thread, mode, along, past):
                    self.found.add(target)
            log.append((last, key, before))
            last[key] = now

    def _touch_stretch(self, thread: int, stretch: Stretch, mode: int, now: int, past: int) -> None:
        """As many touches of parts, of which none is shared, all of them taken along."""
        of, start, end = stretch
        last = self._stretches.get(of)
        if last is None:
            last = self._stretches[of] = {}
        key = (thread, mode, True, start, end)
        before = last.get(key)
        if before == now:
            return
        for part in self._parts.get(of, ()):
            if start <= part[-1] < end and self._meets(self._last[part], thread, mode, True, past):
                self.found.add(part)
        for other, at in last.items():
            if self._meets({other: at}, thread, mode, True, past):
                self.found.update((*of, one) for one in range(max(start, other[3]), min(end, other[4])))
        self._log[-1].append((last, key, before))
        last[key] = now

    def _meets(self, last: _Last, thread: int, mode: int, along: bool, past: int) -> bool:
        """Whether a touch meets one of these of other threads that nothing puts before it: one of the two was taken
        along.
        """
        for key, at in last.items():
            if key[0] != thread and (along or key[2]) and (key[1] != mode or not mode):
                latest = (self._steps_of[key[0]] & past).bit_length() - 1
                if 2 * latest < at:
                    return True
        return False

    def waits(self, thread: int, op: Op, past: int, shared: Set[Hashable]) -> None:
        """A thread waits and nobody goes on: it would do its step where others had not come before."""
        self.step(thread, op, (), past, shared)
        self.back(thread)

    def back(self, thread: int) -> None:
        """Take the last step, which was this thread's, back."""
        for last, key, before in reversed(self._log.pop()):
            if before is None:
                del last[key]
            else:
                last[key] = before
        self._steps_of[thread] &= ~(1 << len(self._log))


def settled(run: Run, look: Callable[[Run], tuple[T, Set[Hashable]]]) -> T:
    """What `look` finds when it comes upon nothing that is shared and was not known to be.

    `look` returns what it found, and what is to be taken as shared; the run is at its start afterwards.
    """
    while True:
        found, more = look(run)
        if not more or run.shared is None:
            return found
        run.tell_apart(run.shared | more)


def one_by_one(steps: Iterable[Choice], along: Iterable[int]) -> list[Choice]:
    """A schedule with those steps in it that `steps` take along: so many each."""
    return [choice for step, more in zip(steps, along, strict=True) for choice in (step, *[Choice(step.thread)] * more)]


def taken_along(run: Run, single: Sequence[Choice]) -> list[Choice] | None:
    """The schedule that takes along what can be, of one that has every step by itself; None where it does not go so.

    The run is at its start before and after.
    """
    steps: list[Choice] = []
    left = 0
    for step in single:
        if left and step == Choice(steps[-1].thread):
            left -= 1
            continue
        op = run.pending[step.thread]
        if left or op is None or not run.enabled(step.thread) or step.way >= op.choices:
            run.back(0)
            return None
        run.step(*step)
        steps.append(step)
        left = run.along(len(steps) - 1)
    run.back(0)
    return steps
