"""Threads that go round: who waits for whom by trying again and again, and when that never ends.

Design. A thread goes round when its last steps were the same ones twice, with the same values, and it stands again
where it stood (:meth:`memhp.explore.engine.op.Run.spin`). When no other thread has touched since what the two rounds
looked at, a third would be the same, so it is left out: the thread is *parked* until somebody touches it. That is a
wait in all but name, and the reduction takes it for one: the next step of a thread that goes round is a blocking
operation on everything that the round touches (:class:`SpinOp`). So a thread that spins for another's store never runs
ahead of it, and where all who could go on are parked, nobody ever will get further: a livelock, or non-progress cycle
(G. J. Holzmann, The SPIN Model Checker, 2003).

Threads that wake each other for ever are told by the whole execution: its last steps are the same ones twice
(:func:`repetition`), and all who could go on take part.

Who waits for a lock gets it when it is let go again and again: a fair lock. So where nobody can go on because a thread
that goes round holds what others wait for, it is let go on to where one of them can, and that one goes first there.

A loop that ends by itself is no such round, though it may look like one: how far a loop over equal things has come
cannot be seen. A ``for`` loop is taken to end, therefore, and before a thread is parked for the first time at some
place it is sent round a number of times more (:attr:`memhp.explore.engine.search.Limits.rounds`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Sequence

from memhp.explore.engine.op import Op, Run
from memhp.explore.engine.schedule import Choice

LONGEST = 500
"""Steps of all threads together in the longest repetition that is looked for."""
SHOWN = 6
"""Steps of a round that a livelock's text names."""


class SpinOp(Op):
    """The next step of a thread that goes round."""

    __slots__ = ("wakers",)

    def __init__(self, op: Op, touches: tuple[tuple[Hashable, int], ...], wakers: int) -> None:
        super().__init__(op.text, touches, blocking=True, choices=op.choices, place=op.place)
        self.wakers = wakers
        """The events that may let the round go otherwise, as a bit mask; where there is none the thread is parked."""


def own_steps(choices: Sequence[Choice], thread: int, count: int) -> list[int]:
    """The numbers of a thread's last `count` events, the first of them first."""
    found: list[int] = []
    at = len(choices)
    while len(found) < count:
        at -= 1
        if choices[at].thread == thread:
            found.append(at)
    return found[::-1]


def spin_op(op: Op, thread: int, period: int, ops: Sequence[Op], choices: Sequence[Choice]) -> Op:
    """What the search sees in the place of `op`, the next step of a thread that goes round in `period` steps."""
    own = own_steps(choices, thread, 2 * period)
    if any(choices[at].way for at in own):
        # It goes round because an allocation keeps failing: that it fails once more shows nothing new.
        return Op(op.text, op.touches, blocking=op.blocking, place=op.place)
    touches = dict.fromkeys(op.touches)
    for at in own:  # the first round's first step may have been seen as that of a longer round
        touches.update(dict.fromkeys(ops[at].touches))
    wakers = 0
    for at in range(own[0] + 1, len(ops)):
        if choices[at].thread != thread and any(not ops[at].commutes(ops[mine]) for mine in own if mine < at):
            wakers |= 1 << at
    return SpinOp(op, tuple(touches), wakers)


def endless(run: Run, round_: Sequence[int], choices: Sequence[Choice], rounds: int) -> bool:
    """Whether the events of these numbers happen `rounds` times more when nothing else does; the run comes back."""
    done = len(choices)
    broken = run.broken
    before = [run.said(at) for at in round_]
    goes_on = True
    for number in range(rounds * len(round_)):
        place = number % len(round_)
        thread = choices[round_[place]].thread
        goes_on = run.broken == broken and run.pending[thread] is not None and run.enabled(thread)
        if goes_on:
            run.step(thread, 0)
            goes_on = run.said(done + number) == before[place]
        if not goes_on:
            break
    run.back(done)
    return goes_on


def spin_of(run: Run, thread: int) -> int:
    """The length of the round that a thread is in, 0 when it is in none, or in one that ends by itself."""
    spin = run.spin(thread) if run.pending[thread] is not None else None
    return spin.period if spin is not None and spin.endless is not False else 0


def repetition(run: Run, choices: Sequence[Choice]) -> int:
    """How many steps the whole execution repeats: its last steps were the same twice; 0: they were not."""
    done = len(choices)
    for length in range(2, min(done // 2, LONGEST) + 1):
        if choices[done - length :] != choices[done - 2 * length : done - length]:
            continue
        if not all(spin_of(run, thread) for thread in {choice.thread for choice in choices[done - length :]}):
            continue
        if all(run.said(at) == run.said(at - length) for at in range(done - length, done)):
            return length
    return 0


def lets_go(
    run: Run, pending: Sequence[Op | None], ops: Sequence[Op], choices: Sequence[Choice], before: Sequence[int]
) -> int:
    """Nobody can go on. A thread that goes round and in each round lets somebody go on who waits, as a mask.

    It counts as well where it has not gone round once since that one waits, who could have gone on in the round.
    `before` tells, as masks, who could go on before each of the steps that were taken.
    """
    enabled = [*before[: len(choices)], 0]
    waiting = {who: op for who, op in enumerate(pending) if op is not None and not spin_of(run, who)}
    stepped = {
        who: max((at for at, choice in enumerate(choices) if choice.thread == who), default=-1) for who in waiting
    }
    for thread in range(len(pending)):
        period = 0 if thread in waiting else spin_of(run, thread)
        if not period:
            continue
        round_ = own_steps(choices, thread, period)
        for who, op in waiting.items():
            met = (at for at in round_ if not ops[at].commutes(op))
            if round_[0] < stepped[who] and any(run.could(op, who, at) for at in met):
                return 1 << thread
        for at in round_:
            stopped = enabled[at] & ~enabled[at + 1]
            if any(stopped >> who & 1 and stepped[who] < at for who in waiting):
                return 1 << thread
    return 0


def livelock(run: Run, ops: Sequence[Op], choices: Sequence[Choice]) -> str:
    """Who goes round doing what, and who waits, where nobody gets any further."""
    parts = []
    for thread, op in enumerate(run.pending):
        period = spin_of(run, thread)
        if period:
            texts = [ops[at].text for at in own_steps(choices, thread, period)]
            more = f" ... ({period} steps)" if period > SHOWN else ""
            parts.append(f"{run.names[thread]} repeats {', '.join(texts[:SHOWN])}{more}")
        elif op is not None:
            parts.append(f"{run.names[thread]} waits at {op.text}")
    return f"livelock: {'; '.join(parts)}"
