"""Kernel code under exploration: the explorer as the stepper behind a machine's doors.

Each actor is a function of the kernel, on a greenlet and a CPU of its own; every access that the doors announce is one
step, taken when the search says so, together with what the code does up to the next access. Kernel state that does not
pass through doors announces itself too (:mod:`memhp.explore.doors.announced`): code that shares it must hold a lock, as
the kernel does, or races.

Going back rebuilds the state when a step is taken from there: the kernel as it was at the start
(:mod:`memhp.explore.doors.beginning`), and the same steps once more.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass

from greenlet import GreenletExit, greenlet

from memhp.errors import KernelError
from memhp.explore.doors import trace_line
from memhp.explore.doors.again import OVER, Astray
from memhp.explore.doors.beginning import Beginning
from memhp.explore.doors.callbacks import RCU_CALLBACKS, do_callbacks
from memhp.explore.doors.difference import Picture, differences, picture
from memhp.explore.doors.digest import digest
from memhp.explore.doors.door_op import BEGIN, DoorOp
from memhp.explore.doors.endless import Endless, give_up, to_end
from memhp.explore.doors.footprint import touched
from memhp.explore.doors.law_broken import law_broken
from memhp.explore.doors.leading import leading_of
from memhp.explore.doors.outside import astray, has_users, must_have_its_parts, parts_of
from memhp.explore.doors.program_parts import must_be_parts
from memhp.explore.doors.proof import Proof
from memhp.explore.doors.stepper import WAITING, Doors, reads_watched
from memhp.explore.doors.taken_step import Taken
from memhp.explore.doors.user_code import as_text, ends_it_all, line_of, must_have_run, told_bug, user_error, users
from memhp.explore.engine.control_state import Rounds
from memhp.explore.engine.op import Op, Round
from memhp.explore.engine.races import Data
from memhp.explore.engine.trace import Change, Line
from memhp.linux.state import Kernel

GRAIN = (
    "grain: a step is one access to a page-table entry, lock, counter or run of frames, with all up to the next one",
    "data races: all that the kernel's variables lead to is watched, an object by field, a map by range",
    "not modelled: interrupts, weak memory orders, allocation from per-CPU lists, reclaim, compaction",
)
"""What a step of kernel code is, and what is left out."""
Actor = Callable[[Kernel], Hashable]


@dataclass(frozen=True)
class KernelProgram:
    """A kernel and what its CPUs do at the same time, actor `i` on CPU `i`.

    With `failures`, every allocation of the actors named there (by number) may fail.
    """

    kernel: Kernel
    actors: tuple[Actor, ...]
    names: tuple[str, ...]
    failures: frozenset[int] = frozenset()
    check: Callable[[Kernel], str | None] | None = None
    of_user: bool = False
    """Whether a user has brought the code: then executions are done twice, the first ones and some later, and what they
    leave elsewhere than in the kernel is an error."""

    def __post_init__(self) -> None:
        must_be_parts(self.kernel, self.actors, self.names, self.failures, self.check)

    def run(self) -> "KernelRun":
        """The program, before its first step."""
        return KernelRun(self)


class KernelRun:
    """Kernel code under exploration."""

    def __init__(self, program: KernelProgram) -> None:
        self._program = program
        self._actors = (*program.actors, do_callbacks)
        self.names = (*program.names, RCU_CALLBACKS)
        self._done: list[Taken] = []
        self._rounds = [Rounds(*WAITING) for _ in self._actors]
        self.loops = False
        self._picture: Picture | None = None
        self._watched = False
        self.shared: frozenset[Hashable] | None = None
        self.unseen: set[Hashable] = set()
        self.notes_places = False
        self.grain: tuple[str, ...] = GRAIN
        self._live: int
        """How many of the steps done the greenlets have done; they are rebuilt when it is not all."""
        self._is_ours = not program.of_user and not has_users(program.actors)
        of_user = self._actors[0] if program.of_user else None
        self._beginning = Beginning(program.kernel, of_user, judged=program.check is not None)
        self._leading = leading_of(program.kernel)
        self._said: dict[Hashable, str | None] = {}
        """What the program's check said of the states in which executions ended."""
        self._proof: Proof | None = None
        """Of a user's code, once the first execution has begun."""
        self._greenlets: list[greenlet] = []
        self._kernel: Kernel
        self._stepper: Doors
        self._start()

    # The greenlets ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Each actor before its first step: nothing of its code has run, and the kernel is copied when it has to."""
        self.unseen.clear()
        self._live = -1
        self.pending: list[Op | None] = [*(BEGIN for _ in self._program.actors), None]
        self._raised: str | None = None
        self.broken: str | None = self._broken_now(self._program.kernel)
        self._first = (list(self.pending), [op is not None for op in self.pending], self.broken)

    def _set_up(self, again: Sequence[Taken]) -> None:
        """The kernel and each actor before the first step; the steps `again` are to be done once more."""
        k, put_in = self._beginning.begin(reads_watched(self.shared))
        k.hw.stepper = stepper = Doors(k, self._leading, self._program.failures, self.shared, again, self.unseen)
        self._kernel, self._stepper, self._parts, stepper.put_in = k, stepper, parts_of(k.hw), put_in
        stepper.is_ours = self._is_ours
        self._picture = self._raised = None
        self._results: list[Hashable] = [None] * len(self.names)
        self._greenlets = [greenlet(actor) for actor in self._actors]
        self.pending = list(self._first[0])
        self.broken = self._broken_now(k)

    def _resume(self, thread: int, way: int) -> DoorOp | None:
        """Let an actor run until it waits for its turn; what it does next, None when it has ended."""
        k, stepper = self._kernel, self._stepper
        k.hw.cpu = thread
        running = self._greenlets[thread]
        said: object
        try:
            said = stepper.resume(thread, running, way if running else k)
            if self._program.of_user:
                must_have_its_parts(k, stepper, self._parts, stepper.put_in)
        except KernelError as error:
            said = error.name
        except Astray as error:
            raise self._astray(thread, error) from error
        except Endless as error:
            raise error.told(f"{self.names[thread]} did nothing that others could see for") from None
        except BaseException as error:
            if ends_it_all(error):
                raise
            bug = told_bug(error)
            if bug is None:
                raise user_error(error, f"{self.names[thread]} raised ", line_of(self._actors[thread])) from error
            said = type(error).__name__
            self._raised = self._raised or f"{self.names[thread]}: {bug}"
        if running.dead:
            if isinstance(said, GreenletExit):
                raise user_error(said, f"{self.names[thread]} raised ", line_of(self._actors[thread]))
            must_have_run(said, self.names[thread])
            self._results[thread] = said
            return None
        return said  # type: ignore[return-value]

    def _astray(self, thread: int, error: Astray) -> Exception:
        """What to raise where an actor does not do again what it did."""
        return astray(self._actors[thread], self.names[thread], error, self._greenlets[thread].gr_frame)

    def _broken_now(self, k: Kernel) -> str | None:
        """What has gone wrong: a law broken at a door, or an actor that raised."""
        return law_broken(k.hw) or self._raised

    def _do(self, thread: int, op: DoorOp, way: int) -> None:
        """Let an actor take a new step, and run to its next one."""
        stepper = self._stepper
        stepper.begins(thread, op)
        stepper.notes_places = self.notes_places
        self.pending[thread] = self._resume(thread, way)
        if self.pending[-1] is None and self._kernel.hw.callbacks:
            self.pending[-1] = self._begin_callbacks()
        self.broken = self._broken_now(self._kernel)
        self._look_again(thread)

    def _begin_callbacks(self) -> DoorOp | None:
        """Somebody has given ``call_rcu()`` something to do: the CPU that does it begins, or begins once more."""
        if not self._greenlets[-1]:
            self._greenlets[-1] = greenlet(do_callbacks)
        return self._resume(len(self._program.actors), 0)

    def _look_again(self, thread: int) -> None:
        """What other actors are about to do may touch more, or less, since this one has done a step."""
        for other, op in enumerate(self.pending):
            if other != thread and isinstance(op, DoorOp) and op.changes_touched:
                assert op.access is not None
                touches = touched(self._kernel, op.access, self._stepper.ghost)
                if touches != op.touches:
                    self.pending[other] = changed = copy(op)
                    changed.touches = touches

    def _rebuild(self) -> None:
        """Bring the greenlets to where the steps done have led. BadInput, Astray: one does not do again what it did."""
        self.close()
        done = self._done
        pending, broken = self.pending, self.broken
        self._set_up(done)
        if self._program.of_user and self._proof is None:
            self._proof = Proof((*self._program.actors, self._program.check or str))
        stepper = self._stepper
        while stepper.at < len(done):
            step = done[stepper.at]
            if step.thread == len(self._program.actors) and self._greenlets[-1].dead:
                self._greenlets[-1] = greenlet(do_callbacks)
            if self._greenlets[step.thread].dead:
                raise self._astray(step.thread, Astray(f"has ended, and {step.op.text!r} came next before"))
            if step.op is BEGIN:
                stepper.begun(step.thread)
            self._resume(step.thread, 0)
        if pending[-1] is not None and not self._greenlets[-1]:
            self._begin_callbacks()
        for thread, op in enumerate(pending):
            try:
                stepper.must_stand_at(thread, op)
            except Astray as error:
                raise self._astray(thread, error) from error
        self.pending, self.broken = pending, broken
        self._live = len(done)

    def _proof_is_due(self) -> bool:
        return self._proof is not None and self._live == len(self._done) and self._proof.is_due()

    def _stands(self) -> Hashable:
        """Where the steps done have led: the kernel, and of what actors have returned what can be told from another."""
        said = (said if isinstance(said, int | str) else None for said in self._results)
        return self._likeness(), tuple(said), self.broken

    def _likeness(self) -> Hashable:
        return self._beginning.likeness(self._kernel)

    def _live_kernel(self) -> Kernel:
        """The kernel as the steps done have left it."""
        if self._live != len(self._done):
            self._rebuild()
        return self._kernel

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():
            self.close()

    def close(self) -> None:
        """Take the greenlets down."""
        if self._greenlets:
            self._stepper.given_up = True
        for name, running in zip(self.names, self._greenlets, strict=False):
            if running:
                give_up(running, name)
        if self._greenlets and hasattr(self._kernel, "hw"):
            self._kernel.hw.stepper = OVER

    # The run ---------------------------------------------------------------------------------------------------

    def _enabled_now(self) -> list[bool]:
        return [self._can(op, thread) for thread, op in enumerate(self.pending)]

    def _can(self, op: Op | None, thread: int) -> bool:
        if not isinstance(op, DoorOp):
            return False
        if op.waits:
            what, ready = f"what {self.names[thread]} waits for", self._stepper.waited_by(thread)
            with to_end(what) if self._program.of_user else nullcontext(), users(f"{what} raised ", ready):
                return self._stepper.is_ready(thread)
        if not op.lock:
            return True
        lock = self._kernel.hw.locks.get(op.lock)
        return lock is None or lock.can_come(thread, write=op.write)

    def enabled(self, thread: int) -> bool:
        """Whether an actor can go on now."""
        return (self._done[-1].enabled if self._done else self._first[1])[thread]

    def misses(self, thread: int) -> bool:
        """No attempt at a door has a form of its own for when it fails."""
        return False

    def step(self, thread: int, choice: int) -> None:
        """Let an actor do the access that it has announced."""
        k = self._live_kernel()
        op = self.pending[thread]
        assert isinstance(op, DoorOp)
        name = op.touches[0][0] if op.touches else ""
        lock = k.hw.locks.get(name[1]) if isinstance(name, tuple) and name[0] == "lock" else None
        before = lock.copy() if lock is not None else None
        if self._watched and self._picture is None:
            self._picture = picture(k)
        old = op.entry_in(k)
        self._do(thread, op, choice)
        new = op.entry_in(k)
        went = ("fails" if choice else "succeeds") if op.choices > 1 else ""
        changes = self._changes(thread) if self._watched else ()
        name = self.names[thread]
        told = trace_line.Step(thread, name, op.place, op.text, op.access, went, old, new, before, changes)
        along, alike, changed = self._stepper.along, self._stepper.alike_along, tuple(self._stepper.changed)
        course, pending = self._stepper.course.get(thread, 0), list(self.pending)
        self._done.append(
            Taken(thread, choice, op, told, pending, self._enabled_now(), self.broken, along, alike, course, changed)
        )
        self._live += 1
        self._look_for_rounds(thread)

    def _look_for_rounds(self, thread: int) -> None:
        """Whether an actor that has done a step goes round."""
        after = self.pending[thread]
        text = after.text if after is not None else ""
        said, wrote = self.said(len(self._done) - 1), self._stepper.wrote_fields
        self._rounds[thread].step(
            said, text, self._greenlets[thread], wrote, lambda: self._beginning.likeness_for_cpus(self._kernel)
        )
        self.loops = self.loops or self._rounds[thread].spin is not None

    def back(self, depth: int) -> None:
        """Return to the state after the first `depth` steps; rebuilt only when a step is taken from there."""
        if depth >= len(self._done):
            return
        if self._proof is not None:
            if self._proof_is_due():  # who watches the whole machine makes records that actors have not asked for
                self._proof.prove(self._stands, None if self._watched else self._rebuild, self._judge_again)
            self._proof.over()
        for done in self._done[depth:]:
            self._rounds[done.thread].back()
        del self._done[depth:]
        self._live = -1
        if self._done:
            last = self._done[-1]
            self.pending, self.broken = list(last.pending), last.broken
        else:
            self.pending, self.broken = list(self._first[0]), self._first[2]

    def could(self, op: Op, thread: int, depth: int) -> bool:
        """Whether a lock could have been taken before step `depth`; of other waits that is not known: yes, if any."""
        assert isinstance(op, DoorOp)
        before_it = (self._done[depth - 1].pending if depth else self._first[0])[thread]
        if before_it is None and self._done[depth].pending[thread] is not None:
            return False  # that step has let it begin
        before = self._done[depth].told.before if op.lock else None
        return before is None or before.can_come(thread, write=op.write)

    def spin(self, thread: int) -> Round | None:
        """The round that an actor has done twice, if it has."""
        return self._rounds[thread].spin

    def said(self, depth: int) -> Hashable:
        """What step `depth` did, and what was changed along with it."""
        done = self._done[depth]
        return done.op.text, done.way, done.told.old, done.told.new, done.changed

    def watch(self) -> None:
        """Look at the whole machine before and after every step, from the first step on."""
        self.back(0)
        self._watched = True

    def _changes(self, thread: int) -> tuple[Change, ...]:
        """What is different in the machine since it was last looked at, after a step of an actor."""
        k, was = self._kernel, self._picture
        assert was is not None
        self._picture = picture(k)
        found = tuple(differences(k, was, self._picture, self.names))
        if self.pending[thread] is not None:
            return found
        if self._raised is not None:
            return (*found, Change("broken", self.names[thread], "", self._raised))
        said = self._results[thread]
        return (*found, Change("end", self.names[thread], "", "done" if said is None else f"done: {as_text(said)}"))

    def line(self, depth: int) -> Line:
        """Step `depth` as a line of a trace."""
        return trace_line.line(self._kernel, depth + 1, self._done[depth].told)

    def tell_apart(self, shared: frozenset[Hashable] | None) -> None:
        """Take this for what actors share."""
        self.back(0)
        self.close()
        self.shared = shared
        self._said.clear()  # what is watched may be another kernel, of which other things tell how it stands
        self._start()

    def is_lock(self, target: Hashable) -> bool:
        """Whether an object is a lock."""
        return isinstance(target, tuple) and target[0] == "lock"

    def along(self, depth: int) -> int:
        """How many steps were taken along with step `depth`."""
        return self._done[depth].along

    @property
    def touched_along(self) -> list[tuple[Hashable, int]]:
        """What was touched along with the last step."""
        return self._stepper.touched

    @property
    def data(self) -> Mapping[Data, str]:
        """Plain accesses to shared data that the last step brought with it, and where they are made."""
        return self._stepper.data_seen

    def behaviour(self) -> Hashable:
        """What every actor returned, and the laws broken."""
        broken = tuple(sorted({violation.law for violation in self._live_kernel().hw.violations}))
        stuck = tuple(op.text if op is not None else None for op in self.pending[:-1])
        return tuple(self._results[:-1]), broken, stuck

    def state(self) -> Hashable:
        """A digest of the kernel and its machine."""
        return digest(self._live_kernel())

    def failure(self) -> str | None:
        """What has gone wrong: a law broken, an actor that raised, or what the program's check says at the end."""
        if self.broken is None and self._program.check is not None and not any(self.pending):
            return self._judge()
        return self.broken

    def _judge(self) -> str | None:
        """What the program's check says, of ends that are alike once."""
        self._live_kernel()
        proof = self._proof if self._proof_is_due() else None
        if proof is not None:
            proof.ended = self._stands()
        end = self._likeness()
        if end not in self._said:
            self._said[end] = self._judge_again()
        if proof is not None:
            proof.said = self._said[end]
        return self._said[end]

    def _judge_again(self) -> str | None:
        assert self._program.check is not None
        k = self._live_kernel()
        k.hw.stepper = k.hw.faults = None
        k.hw.cpu = 0
        with to_end("check"):
            return self._program.check(k)
