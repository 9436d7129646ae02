"""Programs: threads that are plain functions over a small shared memory, each on a greenlet of its own.

A thread meets the others in shared memory only, so what it does next depends on nothing but what its operations have
returned so far. A run therefore keeps a tree for every thread, of operations by returned values, and puts a greenlet
to work only where the tree does not reach yet; going back is a matter of restoring one cell and one place in a tree.
Thread functions must be deterministic and keep their state in local variables.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from memhp.explore.engine.fusion import MOST_ALONG
from memhp.explore.engine.op import Op, Round
from memhp.explore.engine.races import Data
from memhp.explore.engine.schedule import MOST_THREADS
from memhp.explore.engine.trace import Change, Line, Value
from memhp.explore.programs import cells
from memhp.explore.programs.cells import CellOp, Values
from memhp.explore.programs.shared import Body
from memhp.explore.programs.thread import Place, Thread


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
        """The program, before its first step. ValueError: it has more threads than a schedule has letters."""
        if len(self.threads) > MOST_THREADS:
            raise ValueError(f"{len(self.threads)} threads; a schedule has letters for {MOST_THREADS}")
        return ProgramRun(self)


class ProgramRun:
    """A program under exploration."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._threads = [Thread(body) for body in program.threads]
        self._places = [thread.first for thread in self._threads]
        self._cells: dict[str, Hashable] = dict(program.variables)
        self._done: list[tuple[int, CellOp, Place, Values, Hashable]] = []
        """By step: whose, what, where the thread stood, the cells' old values, what it saw."""
        self.shared: frozenset[Hashable] | None = None
        self.data: Mapping[Data, str] = {}
        self.grain: tuple[str, ...] = ("grain: a step is one operation on one variable or lock",)
        self.unseen: set[Hashable] = set()
        self.notes_places = False
        self._rounds: dict[Place, Round | None] = {}
        self._begins: list[int] = []
        """Where steps are taken along: the number of steps done before each that is not."""
        self.pending: list[Op | None] = [place.op for place in self._places]
        self._moody = False
        """Whether what some operation touches depends on values."""
        self.broken: str | None = self._error()
        self.loops = False
        for place in self._places:
            self._mention(place)
        self._look_again()

    def _mention(self, place: Place) -> None:
        """Locks come into being, free, when a thread first names them."""
        op = place.op
        if op is None:
            return
        self._moody = self._moody or op.meets is not None
        for cell in op.cells:
            if cell not in self._cells:
                if cell and op.text.split()[0] not in ("lock", "trylock", "unlock"):
                    raise ValueError(f"variable {cell} has no initial value")
                self._cells[cell] = cells.FREE

    def _look_again(self) -> None:
        """What threads are about to do may touch more, or less, since values have changed."""
        if self._moody:
            for thread, place in enumerate(self._places):
                self.pending[thread] = None if place.op is None else place.op.now(self._cells)

    def _values(self, op: CellOp) -> Values:
        return tuple([self._cells[cell] for cell in op.cells])

    @property
    def names(self) -> tuple[str, ...]:
        """The threads' names."""
        given = self._program.names
        return tuple(given[i] if i < len(given) else f"thread {i}" for i in range(len(self._places)))

    def enabled(self, thread: int) -> bool:
        """Whether a thread can do its pending operation now."""
        op = self._places[thread].op
        return op is not None and (op.ready is None or op.ready(self._values(op), thread))

    def misses(self, thread: int) -> bool:
        """Whether a thread's attempt finds its lock taken now."""
        op = self._places[thread].op
        return op is not None and op.taken is not None and not op.taken(self._values(op), thread)

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
            if op is None or op.choices > 1 or place.spin is not None:
                break
            if any(target in self.shared for target, _ in op.now(self._cells).touches):
                break
            if not self.enabled(thread):
                break
            self._step(thread, 0)

    def _step(self, thread: int, choice: int) -> None:
        place = self._places[thread]
        op = place.op
        assert op is not None
        op = op.now(self._cells)
        olds = self._values(op)
        news, seen = op.act(olds, thread, choice)
        after = place.next.get(seen)
        if after is None:
            after = self._threads[thread].grow(place, seen)
            self._mention(after)
            self.loops = self.loops or after.spin is not None
        for cell, new in zip(op.cells, news, strict=True):
            self._cells[cell] = new
        self._places[thread] = after
        self.pending[thread] = after.op
        self._look_again()
        if after.error is not None:
            self.broken = self._error()
        self._done.append((thread, op, place, olds, seen))

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
            thread, op, place, olds, _ = done.pop()
            for cell, old in zip(op.cells, olds, strict=True):
                self._cells[cell] = old
            self._places[thread] = place
            self.pending[thread] = place.op
        self._look_again()
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
        return op.ready(tuple([self._value_before(cell, self._number(depth)) for cell in op.cells]), thread)

    def _value_before(self, cell: str, number: int) -> Hashable:
        """What a cell held before a step."""
        for _, op, _, olds, _ in self._done[number:]:
            if cell in op.cells:
                return olds[op.cells.index(cell)]
        return self._cells[cell]

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
        thread, op, _, olds, seen = self._done[depth]
        laters = tuple([self._value_before(cell, depth + 1) for cell in op.cells])
        kind, what = op.text.partition(" ")[::2]
        same = laters == olds
        old, later = (olds[0], laters[0]) if len(olds) == 1 else (olds, laters)
        return Line(
            step=depth + 1, thread=thread, name=self.names[thread], place=op.place, kind=kind, what=what,
            old=_value(seen if same else old), new=None if same else _value(later),
            text=op.text + (f": {seen!r}" if same else f": {old!r} -> {later!r}"),
            changes=tuple(
                Change("variable", cell, repr(was), repr(then))
                for cell, was, then in zip(op.cells, olds, laters, strict=True) if was != then
            ),
        )  # fmt: skip

    def behaviour(self) -> Hashable:
        """Final variables and locks, and how each thread ended or where it is stuck."""
        ends = tuple(
            (place.result, place.error, place.op.text if place.op is not None else None) for place in self._places
        )
        return self.state(), ends

    def state(self) -> Hashable:
        """Variables and locks."""
        return tuple(sorted((name, value) for name, value in self._cells.items() if value != cells.FREE))

    def failure(self) -> str | None:
        """What has gone wrong: a thread that raised, or what the program's check says when all have ended."""
        if self.broken is None and self._program.check is not None and not any(self.pending):
            return self._program.check(self._cells)
        return self.broken

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
        return [touch for _, op, *_ in along for touch in op.touches]

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():
            self.close()

    def close(self) -> None:
        """Let the greenlets go; that ends the run."""
        while self._threads:
            self._threads.pop().close()


def _value(value: Hashable) -> Value:
    return Value(value if isinstance(value, int) else None, repr(value))
