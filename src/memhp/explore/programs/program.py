"""Programs: threads that are plain functions over a small shared memory, each on a greenlet of its own.

A thread meets the others in shared memory only, so what it does next depends on nothing but what its operations have
returned so far. A run therefore keeps a tree for every thread, of operations by returned values, and puts a greenlet
to work only where the tree does not reach yet; going back is a matter of restoring one cell and one place in a tree.
Thread functions must be deterministic and keep their state in local variables.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Optional

from greenlet import GreenletExit, getcurrent, greenlet

from memhp.errors import KernelBug
from memhp.explore.engine.meetings import MOST_ALONG
from memhp.explore.engine.op import Op, Outcome, Round
from memhp.explore.engine.schedule import MOST_THREADS
from memhp.explore.engine.standing import standing
from memhp.explore.engine.trace import Change, Line, Value
from memhp.explore.programs import cells
from memhp.explore.programs.cells import CellOp

Body = Callable[["Shared"], Hashable]
LONGEST = 200
"""Steps of the longest round that is looked for."""


class Shared:
    """A thread's view of shared memory; every call is one step."""

    def __init__(self) -> None:
        self._hub = getcurrent()
        self.given_up = False
        """Whether the thread is being taken down: it does no more steps."""

    def _ask(self, op: CellOp) -> Hashable:
        if self.given_up:
            raise GreenletExit
        return self._hub.switch(op)  # type: ignore[no-any-return]

    def load(self, cell: str) -> int:
        """Read a variable."""
        return self._ask(cells.load(cell))  # type: ignore[return-value]

    def store(self, cell: str, value: Hashable) -> None:
        """Write a variable."""
        self._ask(cells.store(cell, value))

    def update(self, cell: str, change: Callable[[Hashable], Hashable]) -> Hashable:
        """Change a variable in one atomic step; returns the value it had."""
        return self._ask(cells.update(cell, change))

    def wait(self, cell: str, ready: Callable[[Hashable], bool]) -> Hashable:
        """Block until `ready` holds of a variable's value; returns the value."""
        return self._ask(cells.wait(cell, ready))

    def lock(self, name: str, *, write: bool = True) -> None:
        """Take a lock, alone or shared; blocks."""
        self._ask(cells.lock_op("lock", name, write=write))

    def trylock(self, name: str, *, write: bool = True) -> bool:
        """Take a lock if it can be had now."""
        return bool(self._ask(cells.lock_op("trylock", name, write=write)))

    def unlock(self, name: str, *, write: bool = True) -> None:
        """Let a lock go. KernelBug: the thread does not hold it."""
        if not self._ask(cells.lock_op("unlock", name, write=write)):
            raise KernelBug(f"a thread lets go of {name}, which it does not hold", place="explore")

    @contextmanager
    def locked(self, name: str, *, write: bool = True) -> Iterator[None]:
        """Hold a lock for the length of a ``with`` block."""
        self.lock(name, write=write)
        try:
            yield
        finally:
            self.unlock(name, write=write)

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails this time: both ways are explored."""
        return self._ask(cells.choose(f"allocate at {site}", 2)) == 1


@dataclass(frozen=True)
class Program:
    """Threads and the memory that they share.

    `variables` gives initial values; locks need no mention. `check` looks at the final variables and says what is
    wrong with them, or None; it is asked when every thread has ended.
    """

    threads: tuple[Body, ...]
    variables: Mapping[str, Hashable] = field(default_factory=dict)
    check: Callable[[Mapping[str, Hashable]], str | None] | None = None
    names: tuple[str, ...] = ()

    def run(self) -> "ProgramRun":
        """The program, before its first step."""
        return ProgramRun(self)


class _Place:
    """Where a thread stands after it has seen certain values: what it does next, or how it ended."""

    __slots__ = ("above", "error", "next", "op", "result", "seen", "spin", "standing")

    def __init__(self, above: Optional["_Place"], seen: Hashable) -> None:
        self.above = above
        self.seen = seen
        self.next: dict[Hashable, _Place] = {}
        self.op: CellOp | None = None
        self.result: Hashable = None
        self.error: str | None = None
        self.standing: Hashable = None
        self.spin: Round | None = None

    def goes_round(self) -> Round | None:
        """The last two rounds, the same in all that was seen, if there were any."""
        again = self._up()
        once = again[0]._up() if again is not None else None
        return Round(len(again[1])) if again is not None and once is not None and once[1] == again[1] else None

    def _up(self) -> tuple["_Place", list[Hashable]] | None:
        """The nearest place above at which the thread stood the same, and what it saw from there to here."""
        seen: list[Hashable] = []
        place = self
        while place.above is not None and len(seen) < LONGEST:
            seen.append(place.seen)
            place = place.above
            if place.standing == self.standing:
                return place, seen
        return None


class _Thread:
    """One thread's tree of places, and the greenlet that stands at one of them."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._shared = Shared()
        self._greenlet: greenlet | None = None
        self.first = _Place(None, None)
        self._start()
        self._at = self.first
        self._enter(self.first, None)

    def _start(self) -> None:
        self._shared = Shared()
        self._greenlet = greenlet(self._body)

    def _enter(self, place: _Place, value: Hashable) -> None:
        """Let the greenlet go on with `value`, and note at `place` where it stops."""
        assert self._greenlet is not None
        try:
            said = self._greenlet.switch(self._shared if place is self.first else value)
        except Exception as error:
            place.error = f"{type(error).__name__}: {error}"
        else:
            if self._greenlet.dead:
                place.result = said
            else:
                place.op = said
                place.standing = standing(self._greenlet)
                place.spin = place.goes_round()

    def grow(self, place: _Place, value: Hashable) -> _Place:
        """The place after `place` when its operation returns `value`, which no execution has come to before."""
        if self._at is not place:
            self.give_up()
            self._start()
            values = []
            at = place
            while at.above is not None:
                values.append(at.seen)
                at = at.above
            assert self._greenlet is not None
            self._greenlet.switch(self._shared)
            for seen in reversed(values):
                self._greenlet.switch(seen)
        self._at = place.next[value] = _Place(place, value)
        self._enter(self._at, value)
        return self._at

    def give_up(self) -> None:
        """Take the greenlet down, wherever it stands."""
        self._shared.given_up = True
        if self._greenlet is not None and not self._greenlet.dead:
            self._greenlet.throw(GreenletExit)
        self._greenlet = None


class ProgramRun:
    """A program under exploration."""

    def __init__(self, program: Program) -> None:
        if len(program.threads) > MOST_THREADS:
            raise ValueError(f"{len(program.threads)} threads; a schedule has letters for {MOST_THREADS}")
        self._program = program
        self._threads = [_Thread(body) for body in program.threads]
        self._places = [thread.first for thread in self._threads]
        self._cells: dict[str, Hashable] = dict(program.variables)
        self._done: list[tuple[int, _Place, str, Hashable, Hashable]] = []
        self.shared: frozenset[Hashable] | None = None
        self._rounds: dict[_Place, Round | None] = {}
        self._begins: list[int] = []
        """Where steps are taken along: the number of steps done before each that is not."""
        self.pending: list[Op | None] = [place.op for place in self._places]
        self.broken: str | None = self._error()
        self.loops = False
        for place in self._places:
            self._mention(place)

    def _mention(self, place: _Place) -> None:
        """Locks come into being, free, when a thread first names them."""
        op = place.op
        if op is not None and op.cell not in self._cells:
            if op.cell and op.text.split()[0] not in ("lock", "trylock", "unlock"):
                raise ValueError(f"variable {op.cell} has no initial value")
            self._cells[op.cell] = cells.FREE

    @property
    def names(self) -> tuple[str, ...]:
        """The threads' names."""
        given = self._program.names
        return tuple(given[i] if i < len(given) else f"thread {i}" for i in range(len(self._threads)))

    def enabled(self, thread: int) -> bool:
        """Whether a thread can do its pending operation now."""
        op = self._places[thread].op
        return op is not None and (op.ready is None or op.ready(self._cells[op.cell], thread))

    def misses(self, thread: int) -> bool:
        """Whether a thread's attempt finds its lock taken now."""
        op = self._places[thread].op
        return op is not None and op.taken is not None and not op.taken(self._cells[op.cell], thread)

    def step(self, thread: int, choice: int) -> None:
        """Do a thread's pending operation."""
        if self.shared is None:
            self._step(thread, choice)
            return
        self._begins.append(len(self._done))
        self._step(thread, choice)
        for _ in range(MOST_ALONG):
            place = self._places[thread]
            op = place.op
            if op is None or op.choices > 1 or place.spin is not None or op.cell in self.shared:
                break
            if not self.enabled(thread):
                break
            self._step(thread, 0)

    def _step(self, thread: int, choice: int) -> None:
        place = self._places[thread]
        op = place.op
        assert op is not None
        cell = op.cell
        old = self._cells[cell]
        new, seen = op.act(old, thread, choice)
        after = place.next.get(seen)
        if after is None:
            after = self._threads[thread].grow(place, seen)
            self._mention(after)
            self.loops = self.loops or after.spin is not None
        self._cells[cell] = new
        self._places[thread] = after
        self.pending[thread] = after.op
        if after.error is not None:
            self.broken = self._error()
        self._done.append((thread, place, cell, old, seen))

    def back(self, depth: int) -> None:
        """Return to the state after the first `depth` steps."""
        begins = self._begins
        if self.shared is not None:
            number = self._number(depth)
            del begins[depth:]
            depth = number
        self._back(depth)

    def _number(self, depth: int) -> int:
        """How many steps were done before step `depth`, with those that were taken along."""
        if self.shared is None:
            return depth
        return self._begins[depth] if depth < len(self._begins) else len(self._done)

    def _back(self, depth: int) -> None:
        done = self._done
        while len(done) > depth:
            thread, place, cell, old, _ = done.pop()
            self._cells[cell] = old
            self._places[thread] = place
            self.pending[thread] = place.op
        if self.broken is not None:
            self.broken = self._error()

    def _error(self) -> str | None:
        """The first thread that has raised, and what."""
        for place, name in zip(self._places, self.names, strict=True):
            if place.error is not None:
                return f"{name}: {place.error}"
        return None

    def could(self, op: Op, thread: int, depth: int) -> bool:
        """Whether a blocking operation would have been enabled just before step `depth`."""
        assert isinstance(op, CellOp) and op.ready is not None
        return op.ready(self._done[self._number(depth)][3], thread)

    def spin(self, thread: int) -> Round | None:
        """The round that a thread has done twice, if it has."""
        place = self._places[thread]
        if self.shared is None or place.spin is None:
            return place.spin
        if place not in self._rounds:
            begins, period = set(self._begins), place.spin.period
            own = [at in begins for at, done in enumerate(self._done) if done[0] == thread][-2 * period :]
            alike = any(own) and own[:period] == own[period:]
            self._rounds[place] = Round(sum(own[period:])) if alike else None
        return self._rounds[place]

    def said(self, depth: int) -> Hashable:
        """What step `depth` did, and those that were taken along."""
        return tuple(self._line(at).text for at in range(self._number(depth), self._number(depth + 1)))

    def watch(self) -> None:
        """Nothing: what a step changes is its cell, which is known anyway."""

    def line(self, depth: int) -> Line:
        """Step `depth` as a line of a trace."""
        return self._line(self._number(depth))

    def _line(self, depth: int) -> Line:
        thread, place, cell, old, seen = self._done[depth]
        assert place.op is not None
        later = next((step[3] for step in self._done[depth + 1 :] if step[2] == cell), self._cells[cell])
        kind, what = place.op.text.partition(" ")[::2]
        same = later == old
        return Line(
            step=depth + 1, thread=thread, name=self.names[thread], place=place.op.place, kind=kind, what=what,
            old=_value(seen if same else old), new=None if same else _value(later),
            text=place.op.text + (f": {seen!r}" if same else f": {old!r} -> {later!r}"),
            changes=() if same else (Change("variable", cell, repr(old), repr(later)),),
        )  # fmt: skip

    def outcome(self) -> Outcome:
        """Final variables and locks, and how each thread ended or where it is stuck."""
        ends = tuple(
            (place.result, place.error, place.op.text if place.op is not None else None) for place in self._places
        )
        held = {name: value for name, value in self._cells.items() if value != cells.FREE}
        state = (tuple(sorted(held.items())), ends)
        failure = self.broken
        if failure is None and self._program.check is not None and not any(self.pending):
            failure = self._program.check(self._cells)
        return Outcome(state, failure)

    def tell_apart(self, shared: frozenset[Hashable] | None) -> None:
        """Take this for what threads share."""
        self._back(0)
        self._begins.clear()
        self._rounds.clear()
        self.shared = shared

    def is_lock(self, target: Hashable) -> bool:
        """Whether a cell is a lock."""
        return isinstance(self._cells.get(str(target)), tuple) and target not in self._program.variables

    def along(self, depth: int) -> int:
        """How many steps were taken along with step `depth`."""
        return self._number(depth + 1) - self._number(depth) - 1

    @property
    def touched_along(self) -> list[tuple[Hashable, int]]:
        """The cells that were touched along with the last step."""
        along = self._done[self._begins[-1] + 1 :] if self._begins else []
        return [touch for _, place, *_ in along if place.op is not None for touch in place.op.touches]

    def close(self) -> None:
        """Take the greenlets down."""
        for thread in self._threads:
            thread.give_up()


def _value(value: Hashable) -> Value:
    return Value(value if isinstance(value, int) else None, repr(value))
