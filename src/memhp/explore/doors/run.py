"""Kernel code under exploration: the explorer as the stepper behind a machine's doors.

Each actor is a function of the kernel, on a greenlet and a CPU of its own; every access that the doors announce is one
step, taken when the search says so, together with what the code does up to the next access. Kernel state that does not
pass through doors is not seen by the reduction: code that shares it must hold a lock, as the kernel does.

Going back rebuilds the state: a copy of the kernel as it was at the start, and the same steps once more.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator
from copy import copy, deepcopy
from dataclasses import dataclass

from greenlet import GreenletExit, getcurrent, greenlet

from memhp.errors import KernelError
from memhp.explore.doors import telling
from memhp.explore.doors.difference import Picture, differences, picture
from memhp.explore.doors.ghost import Ghost, links_touched
from memhp.explore.doors.places import place
from memhp.explore.engine.op import ALONE, SHARED, Op, Outcome, Round
from memhp.explore.engine.standing import Rounds
from memhp.explore.engine.trace import Change, Line
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.lifetime import walk
from memhp.hw.stepper import Access
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.linux.state import Kernel
from memhp.spans import Span

Actor = Callable[[Kernel], Hashable]

FIELD_MODES = {"read": SHARED, "write": ALONE, "atomic": ALONE}
"""How accesses to a shared field outside page tables meet."""

OWNERS_CHUNK = 1 << 13
"""Frames by which claims and releases are told apart: those of different chunks have nothing to do with each other."""
UNMAPS, FLUSHES, GIVES = 1, 2, 3
"""Modes of the translations that CPUs may hold: entries that go, flushes, frames given back look at them."""


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

    def run(self) -> "KernelRun":
        """The program, before its first step."""
        return KernelRun(self)


class DoorOp(Op):
    """A step at a door."""

    __slots__ = ("access", "announced", "lock", "ready", "table", "write")

    def __init__(self, text: str, touches: tuple[tuple[Hashable, int], ...], place: str, choices: int = 1) -> None:
        super().__init__(text, touches, choices=choices, place=place)
        self.access: Access | None = None
        """The access, where what it touches depends on the machine as it is now."""
        self.announced: Access | None = None
        """The access, of every step that is one."""
        self.lock = ""
        """The lock that the step takes and may have to wait for."""
        self.write = True
        self.ready: Callable[[], bool] | None = None
        """What the step waits for; it can be asked of the machine as it is now only."""
        self.table: tuple[Table, int] | None = None
        """The entry that the step reads or writes."""


@dataclass
class _Done:
    """A step that was taken, and the state it led to."""

    thread: int
    way: int
    op: DoorOp
    told: telling.Step
    pending: list[Op | None]
    enabled: list[bool]
    broken: str | None


class KernelRun:
    """Kernel code under exploration."""

    def __init__(self, program: KernelProgram) -> None:
        self._program = program
        self.names = program.names
        self._done: list[_Done] = []
        self._rounds = [Rounds() for _ in program.actors]
        self.loops = False
        self._picture: Picture | None = None
        self._watched = False
        self._live = 0
        """How many of the steps done the greenlets have done; they are rebuilt when it is not all."""
        self._set_up()
        self._first = (list(self.pending), self._enabled_now(), self.broken)

    # The greenlets ---------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        """A fresh copy of the kernel, each actor before its first step."""
        k = deepcopy(self._program.kernel)
        k.hw.stepper = stepper = _Doors(k, self._program.failures)
        self._kernel, self._stepper = k, stepper
        self._picture = None
        self._results: list[Hashable] = [None] * len(self.names)
        self._raised: str | None = None
        self._greenlets = [greenlet(actor) for actor in self._program.actors]
        self.pending: list[Op | None] = [None] * len(self.names)
        self.broken: str | None = None
        for thread in range(len(self.names)):
            self._switch(thread, k)

    def _switch(self, thread: int, value: object) -> None:
        """Let an actor run to its next access."""
        self._kernel.hw.cpu = self._stepper.thread = thread
        running = self._greenlets[thread]
        try:
            said = running.switch(value)
        except KernelError as error:
            said = error.name
        except Exception as error:
            said = type(error).__name__
            self._raised = self._raised or f"{self.names[thread]}: {said}: {error}"
        self.pending[thread] = None if running.dead else said
        if running.dead:
            self._results[thread] = said
        violations = self._kernel.hw.violations
        self.broken = self._raised
        if violations:
            law, text, where = violations[0]
            self.broken = f"{law}: {text}" + (f" ({where})" if where else "")
        self._look_again(thread)

    def _look_again(self, thread: int) -> None:
        """What other actors are about to do may touch more, or less, since this one has done a step."""
        for other, op in enumerate(self.pending):
            if other != thread and isinstance(op, DoorOp) and op.access is not None:
                touches = self._stepper.touches(op.access)
                if touches != op.touches:
                    changed = copy(op)
                    changed.touches = touches
                    self.pending[other] = changed

    def _rebuild(self) -> None:
        """Bring the greenlets to where the steps done have led."""
        self.close()
        self._set_up()
        for done in self._done:
            op = self.pending[done.thread]
            if op is None or op.touches != done.op.touches:
                raise RuntimeError(f"{self.names[done.thread]} does not do the same again: {done.op.text}")
            self._switch(done.thread, done.way)
        self._live = len(self._done)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Take the greenlets down."""
        self._stepper.given_up = True
        for running in self._greenlets:
            if not running.dead:
                running.throw(GreenletExit)

    # The run ---------------------------------------------------------------------------------------------------

    def _enabled_now(self) -> list[bool]:
        return [self._can(op, thread) for thread, op in enumerate(self.pending)]

    def _can(self, op: Op | None, thread: int) -> bool:
        if not isinstance(op, DoorOp):
            return False
        if op.ready is not None:
            return op.ready()
        if not op.lock:
            return True
        lock = self._kernel.hw.locks.get(op.lock)
        return lock is None or lock.can_take(thread, write=op.write)

    def enabled(self, thread: int) -> bool:
        """Whether an actor can go on now."""
        return (self._done[-1].enabled if self._done else self._first[1])[thread]

    def misses(self, thread: int) -> bool:
        """No attempt at a door has a form of its own for when it fails."""
        return False

    def step(self, thread: int, choice: int) -> None:
        """Let an actor do the access that it has announced."""
        if self._live != len(self._done):
            self._rebuild()
        op = self.pending[thread]
        assert isinstance(op, DoorOp)
        hw = self._kernel.hw
        name = op.touches[0][0] if op.touches else ""
        lock = hw.locks.get(name[1]) if isinstance(name, tuple) and name[0] == "lock" else None
        before = deepcopy(lock) if lock is not None else None
        if self._watched and self._picture is None:
            self._picture = picture(self._kernel)
        old = self._entry(op)
        self._switch(thread, choice)
        new = self._entry(op)
        went = ("fails" if choice else "succeeds") if op.choices > 1 else ""
        changes = self._changes(thread) if self._watched else ()
        told = telling.Step(
            thread, self.names[thread], op.place, op.text, op.announced, went, old, new, before, changes
        )
        self._done.append(_Done(thread, choice, op, told, list(self.pending), self._enabled_now(), self.broken))
        self._live += 1
        self._look_for_rounds(thread)

    def _look_for_rounds(self, thread: int) -> None:
        """Whether an actor that has done a step goes round."""
        after = self.pending[thread]
        text = after.text if after is not None else ""
        self._rounds[thread].step(len(self._done) - 1, text, self._greenlets[thread], self.told)
        self.loops = self.loops or self._rounds[thread].spin is not None

    def _entry(self, op: DoorOp) -> int | None:
        """What stands in the entry that a step is about."""
        if op.table is None:
            return None
        row = self._kernel.hw.memory.arena.row(op.table[0].frame)
        return None if row is None else int(row[op.table[1]])

    def back(self, depth: int) -> None:
        """Return to the state after the first `depth` steps; rebuilt only when a step is taken from there."""
        if depth >= len(self._done):
            return
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
        """Whether a lock could have been taken just before step `depth`; of other waits: that is not known, so yes."""
        assert isinstance(op, DoorOp)
        if not op.lock:
            return True
        before = self._done[depth].told.before
        return before is None or before.can_take(thread, write=op.write)

    def spin(self, thread: int) -> Round | None:
        """The round that an actor has done twice, if it has."""
        return self._rounds[thread].spin

    def told(self, depth: int) -> str:
        """What step `depth` did: where in the kernel, the access, old and new value."""
        step = self._done[depth].told
        return f"{step.place}: {telling.told(step)}" if step.place else telling.told(step)

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
        return (*found, Change("end", self.names[thread], "", "done" if said is None else f"done: {said}"))

    def line(self, depth: int) -> Line:
        """Step `depth` as a line of a trace."""
        return telling.line(self._kernel, depth + 1, self._done[depth].told)

    def outcome(self) -> Outcome:
        """What every actor returned, and the laws broken."""
        if self._live != len(self._done):
            self._rebuild()
        broken = tuple(sorted({violation.law for violation in self._kernel.hw.violations}))
        stuck = tuple(op.text if op is not None else None for op in self.pending)
        failure = self.broken
        if failure is None and self._program.check is not None and not any(self.pending):
            self._kernel.hw.stepper = None
            failure = self._program.check(self._kernel)
        return Outcome((tuple(self._results), broken, stuck), failure)


class _Doors:
    """The stepper: hands every access to the search and waits to be told to go on."""

    def __init__(self, k: Kernel, failures: frozenset[int]) -> None:
        self._kernel = k
        self._failures = failures
        self._ghost = Ghost(k.hw)
        self._hub = getcurrent()
        self.thread = 0
        self.given_up = False

    def __deepcopy__(self, memo: dict[int, object]) -> "_Doors":
        raise TypeError("a kernel under exploration cannot be copied")

    def _ask(self, op: DoorOp) -> int:
        if self.given_up:
            raise GreenletExit
        return int(self._hub.switch(op))

    def step(self, access: Access) -> None:
        """An access is about to happen."""
        op = self._op(access)
        op.announced = access
        self._ask(op)
        self._ghost.look(self._kernel.hw, access, op.place)

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails: both ways are explored for the actors that were named."""
        if self.thread not in self._failures:
            return False
        return self._ask(DoorOp("allocate", (), site, choices=2)) == 1

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Go on when `ready()`, which looks at the shared field `on`."""
        op = DoorOp(f"wait for {why}", ((("field", on), SHARED),), place())
        op.blocking, op.ready = True, ready
        self._ask(op)

    def _op(self, access: Access) -> DoorOp:
        where = place(access.target)
        target = access.target
        if isinstance(target, Table):
            op = DoorOp(f"{access.kind} {HEIGHT_NAMES[target.height]} {target.frame:#x}[{access.entry}]",
                        self.touches(access), where)  # fmt: skip
            op.table = (target, access.entry)
            op.access = access if access.kind == "store" else None
            return op
        if isinstance(target, str) and access.kind in FIELD_MODES:
            return DoorOp(f"{access.kind} {target}", ((("field", target), FIELD_MODES[access.kind]),), where)
        if isinstance(target, str):
            op = DoorOp(_lock_text(access), ((("lock", target), ALONE if access.value else SHARED),), where)
            if access.kind == "lock":
                op.blocking, op.lock, op.write = True, target, bool(access.value)
            return op
        if access.kind == "touch":
            op = DoorOp(f"read memory at {target.start:#x}", self.touches(access), where)
            op.access = access
            return op
        if access.kind == "flush":
            text = "flush everything" if target == ALL_ADDRESSES else f"flush [{target.start:#x}-{target.end:#x})"
            op = DoorOp(text, self.touches(access), where)
            op.access = access
            return op
        return DoorOp(f"{access.kind} PFN [{target.start:#x}-{target.end:#x})", self.touches(access), where)

    def touches(self, access: Access) -> tuple[tuple[Hashable, int], ...]:
        """What an access to an entry, translations or frames touches, were it done now."""
        target = access.target
        if isinstance(target, Table):
            return self._entry_touched(access, target)
        assert isinstance(target, Span)
        if access.kind == "touch":
            return self._walk_touched(access, target)
        if access.kind == "flush":
            return self._flush_touched(target)
        return self._frames_touched(access.kind, target)

    def _entry_touched(self, access: Access, table: Table) -> tuple[tuple[Hashable, int], ...]:
        """Only an entry that was valid leaves translations behind."""
        hw = self._kernel.hw
        touches: list[tuple[Hashable, int]] = [(("frame", table.frame), SHARED)]
        entry = ("entry", table.frame, access.entry)
        if access.kind == "load":
            return (*touches, (entry, SHARED))
        touches += [(entry, ALONE), *links_touched(hw.fmt, access, table)]
        row = hw.memory.arena.row(table.frame)
        if row is None or int(row[access.entry]) & hw.fmt.valid:
            size = hw.fmt.levels[table.height].size
            start = table.va + access.entry * size
            touches += (*self._translations(Span(start, start + size), UNMAPS), ("unmapped", UNMAPS))
        return tuple(touches)

    def _flush_touched(self, span: Span) -> tuple[tuple[Hashable, int], ...]:
        """A flush that finds nothing to drop only meets entries that go, and flushes that have dropped it."""
        tlb = self._kernel.hw.tlb
        if not tlb.reaches(span):
            return tuple(self._translations(span, FLUSHES))
        exposed = (("exposed", FLUSHES),) if tlb.exposed else ()
        return (*self._translations(span, ALONE), ("flushed", FLUSHES), *exposed)

    def _translations(self, span: Span, mode: int) -> Iterator[tuple[Hashable, int]]:
        """The translations of some addresses, by the areas of the kernel's address space that these lie in."""
        layout = self._kernel.layout
        areas = (layout.direct_map, layout.vmemmap, layout.vmalloc)
        yield from ((("translations", area.name), mode) for area in areas if area.span.overlaps(span))
        if not any(area.span.covers(span) for area in areas):
            yield ("translations", ""), mode

    def _walk_touched(self, access: Access, target: Span) -> tuple[tuple[Hashable, int], ...]:
        """Every entry that the walker goes through as the tables are now, and the use of the frame that it comes to."""
        hw = self._kernel.hw
        touches: list[tuple[Hashable, int]] = []
        for hop in walk(hw, Table(access.entry, hw.fmt.root_height, 0), target.start):
            touches += [(("frame", hop.table.frame), SHARED), (("entry", hop.table.frame, hop.entry), SHARED)]
            if hop.frame is not None:
                touches.append((("owners", hop.frame // OWNERS_CHUNK), SHARED))
        return tuple(touches)

    def _frames_touched(self, kind: str, frames: Span) -> tuple[tuple[Hashable, int], ...]:
        chunks = range(frames.start // OWNERS_CHUNK, (frames.end - 1) // OWNERS_CHUNK + 1)
        touches: list[tuple[Hashable, int]] = [(("owners", chunk), ALONE) for chunk in chunks]
        if kind == "claim":
            touches.append(("exposed", SHARED))
            tables = range(frames.start, frames.end) if frames.size == 1 else ()
            return (*touches, *((("frame", pfn), ALONE) for pfn in tables))
        if kind == "release":
            touches += (("unmapped", GIVES), ("flushed", GIVES))
            arena = self._kernel.hw.memory.arena
            if frames.size == 1:
                touches.append((("frame", frames.start), ALONE))
            else:
                inside = (frames.clip(span) for span in arena.frames())
                touches += [(("frame", pfn), ALONE) for span in inside if span for pfn in range(span.start, span.end)]
        return tuple(touches)


def _lock_text(access: Access) -> str:
    return f"{access.kind} {access.target}" + ("" if access.value else " shared")
