"""Every state that a program under exploration can come to, one after the other, each once.

What the reducing search is held against. It knows nothing of objects, modes or locks: it takes each step that can be
taken from each state, and leaves a state that it has been in before. What makes two states one is all that threads
share, and where each thread stands: its functions, their local variables, and what its steps have returned so far.

Where threads go round for ever no state is the last one. Then the states that a fair schedule stays in count as one
end (:class:`Space`): a set of states from each of which all the others, and no more, can be reached.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import permutations
from math import prod
from types import FrameType, FunctionType, GeneratorType
from typing import Any, cast

from memhp.explore.doors.digest import Written, describe
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.op import Run
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Coverage
from memhp.explore.programs.program import ProgramRun
from memhp.explore.programs.thread import Place
from memhp.spans import SpanSet

KEPT = Limits(stop_at_failure=False, deadlock_is_failure=False, keep_behaviours=True, keep_states=True)
"""How a search goes on after a failure, and keeps what it ends in."""
Values = tuple[Hashable, ...]
Key = Callable[[Any], Hashable]
"""Of a run as it stands: equal for equal states."""


@dataclass
class Space:
    """The states of a program: how many, those in which nobody can go on, and those that a fair schedule stays in."""

    states: int = 0
    steps: int = 0
    ends: set[Hashable] = field(default_factory=set)
    """Behaviour and state (:meth:`Run.behaviour`, :meth:`Run.state`) where no thread can go on."""
    rounds: list[set[Hashable]] = field(default_factory=list)
    """By set of states that is never left: the behaviours and states in it."""

    def differences(self, coverage: Coverage) -> list[str]:
        """What a search over the same program that kept behaviours with states has missed, or cannot have seen.

        Where it has told of a data race it has not switched at what races, so that it may miss ends is said.
        """
        going_round = set[Hashable]().union(*self.rounds)
        found = [f"missed: {end}" for end in self.ends - coverage.behaviours if not coverage.races]
        found += [f"made up: {end}" for end in coverage.behaviours - self.ends - going_round]
        if bool(self.rounds) != bool(coverage.livelocks):
            found.append(f"{len(self.rounds)} sets of states that are never left, {coverage.livelocks} livelocks")
        return found


class _Node:
    """A state: those that one step leads to, and what it is like."""

    def __init__(self, like: Hashable) -> None:
        self.like = like
        self.after: list[_Node] = []
        self.number = self.lowest = -1


def reachable(run: Run, key: Key, most: int, *, failures: int | None = None, at_end: bool = False) -> Space | None:
    """All that a run, at its start now and afterwards, can come to; None when these are more than `most` states.

    `failures`: the most allocations that fail. `at_end`: threads that go round are not looked for, which saves time.
    """
    space = Space()
    nodes: dict[Hashable, _Node] = {}
    failed = 0

    def enter() -> tuple[_Node, list[tuple[int, int]]]:
        """The state that the run stands in, and the steps to take from it: none where it was met before."""
        which = (key(run), failed if failures is not None else 0)
        if which in nodes:
            return nodes[which], []
        left = list(_steps(run, failures is None or failed < failures))
        like = (run.behaviour(), run.state()) if not at_end or not left else None
        node = nodes[which] = _Node(like)
        if not left:
            space.ends.add(like)
        return node, left

    node, left = enter()
    path = [(node, left, 0)]
    while path:
        node, left, before = path[-1]
        if not left or len(nodes) > most:
            path.pop()
            failed = before
            continue
        run.back(len(path) - 1)
        thread, way = left.pop(0)
        failures_so_far = failed
        failed += way > 0
        run.step(thread, way)
        space.steps += 1
        then, steps = enter()
        node.after.append(then)
        path.append((then, steps, failures_so_far))
    run.back(0)
    space.states = len(nodes)
    if len(nodes) > most:
        return None
    if not at_end:
        space.rounds = [{node.like for node in nodes} for nodes in _never_left(list(nodes.values()))]
    return space


def _steps(run: Run, may_fail: bool) -> Iterator[tuple[int, int]]:
    """The steps that can be taken now: thread and way."""
    for thread, op in enumerate(run.pending):
        if op is not None and run.enabled(thread):
            yield from ((thread, way) for way in range(op.choices if may_fail else 1))


def _never_left(nodes: list[_Node]) -> Iterator[list[_Node]]:
    """Sets of states, of more than one or with a step to itself, that lead to one another and nowhere else.

    R. E. Tarjan, Depth-first search and linear graph algorithms (SIAM J. Comput. 1:2, 1972).
    """
    stack: list[_Node] = []
    done: set[_Node] = set()
    count = 0
    for first in nodes:
        if first.number >= 0:
            continue
        path = [(first, iter(first.after))]
        first.number = first.lowest = count
        count += 1
        stack.append(first)
        while path:
            node, after = path[-1]
            then = next(after, None)
            if then is not None:
                if then.number < 0:
                    then.number = then.lowest = count
                    count += 1
                    stack.append(then)
                    path.append((then, iter(then.after)))
                elif then not in done:
                    node.lowest = min(node.lowest, then.number)
                continue
            path.pop()
            if path:
                path[-1][0].lowest = min(path[-1][0].lowest, node.lowest)
            if node.lowest == node.number:
                at = stack.index(node)
                together = stack[at:]
                del stack[at:]
                done.update(together)
                inside = set(together)
                if node.after and all(then in inside for one in together for then in one.after):
                    yield together


LATEST = 4
"""Of a thread in a loop: values that count because it saw them last, and may have them where they cannot be seen."""


def program_state(run: ProgramRun) -> Hashable:
    """A small program's variables, and where its threads stand: by all that each has seen, or by where its loop is."""
    return run.state(), tuple(_stands(place) for place in run._places)


def _stands(place: Place) -> Hashable:
    if place.standing is None:
        return id(place)
    seen: list[Hashable] = []
    at: Place | None = place
    while at is not None and len(seen) < LATEST:
        seen.append(at.seen)
        at = at.above
    return place.standing, tuple(seen)


class _All(Written):
    """Values written down, those as well that only functions have: iterators, generators, frames."""

    def contents(self, value: Any) -> None:
        """As of shared state, and what else there is by its type and what is in it."""
        if type(value) is SpanSet and not hasattr(value, "_map"):
            self.each(("being made",))  # in whose frame it is: what it is made of is written down there
            return
        try:
            super().contents(value)
        except TypeError:
            self.each((type(value).__name__, *self._inside(value)))

    def value(self, value: Any) -> None:
        """A function with what it has taken from where it was made."""
        super().value(value)
        if isinstance(value, FunctionType) and value.__closure__:
            self.each(cell.cell_contents for cell in value.__closure__ if cell.cell_contents is not value)

    def _inside(self, value: Any) -> tuple[object, ...]:
        if isinstance(value, FrameType):
            return value.f_code.co_qualname, value.f_lasti, value.f_locals
        if isinstance(value, GeneratorType):
            return (value.gi_frame,)
        if "iterator" in type(value).__name__ or type(value) in (enumerate, zip, map, filter, reversed):
            return tuple(value.__reduce__()[1:])
        return (getattr(value, "__dict__", None),)


STEPPERS = "memhp.explore.doors"
"""Modules by whose functions a thread waits for its turn."""


def kernel_state(run: KernelRun) -> Hashable:
    """A kernel and its machine, where its actors stand, and what the steps of each did."""
    written = _All()
    describe(written, run._live_kernel())
    written.each(run._results)
    for running in run._greenlets:
        frame = running.gr_frame
        while frame is not None:
            if not frame.f_globals["__name__"].startswith(STEPPERS):
                written.value(frame)
            frame = frame.f_back
    seen: dict[int, list[Hashable]] = {}
    for done in run._done:
        seen.setdefault(done.thread, []).append((done.op.text, done.way, done.told.old, done.told.new))
    said = sorted((thread, tuple(steps)) for thread, steps in seen.items())
    return blake2b(f"{written.text()}{said}".encode(), digest_size=16).digest()


def case_differs(program: KernelProgram, limits: Limits, states: int, counts: Counter[str]) -> list[str]:
    """What is different between the search and all states, the actors in every order; counts what was compared."""
    found: list[str] = []
    space: Space | None = None
    for order in permutations(range(len(program.actors))):
        ordered = in_order(program, order)
        run = ordered.run()
        run.tell_apart(frozenset())
        reduced = search(run, limits)
        if reduced.finished and (space is None or space.ends != _as_first(reduced.coverage, order)):
            space = _space(run, limits, states, counts)
            if space is not None:
                found += [f"in order {order}: {text}" for text in space.differences(reduced.coverage)]
                space.ends = _in_first_order(space.ends, order)
        counts["executions, reduced"] += reduced.coverage.executions
        run.close()
        if space is None or not reduced.finished:
            counts["passed over: more states" if reduced.finished else "passed over: more executions"] += 1
            return found
        counts["orders of actors"] += 1
    counts["variants on a configuration"] += 1
    counts["final states"] += len(space.ends) if space is not None else 0
    return found


def in_order(program: KernelProgram, order: tuple[int, ...]) -> KernelProgram:
    """The same with other actors first."""
    return replace(
        program,
        actors=tuple(program.actors[at] for at in order),
        names=tuple(program.names[at] for at in order),
        failures=frozenset(now for now, at in enumerate(order) if at in program.failures),
    )


def _space(run: KernelRun, limits: Limits, states: int, counts: Counter[str]) -> Space | None:
    """All states of a race, one access at a time if these are few enough, else with what the search takes along."""
    shared = run.shared
    for apart in (None, shared) if single_states(run) <= states else (shared,):
        run.tell_apart(apart)
        space = reachable(run, kernel_state, states, failures=limits.failures, at_end=True)
        if space is not None:
            counts["states"] += space.states
            counts["one access at a time"] += apart is None
            return space
    return None


def single_states(run: KernelRun) -> int:
    """About how many states there are, one access at a time: the product of the actors' lengths in an execution."""
    lengths = Counter[int]()
    depth = 0
    while any(run.enabled(thread) for thread, op in enumerate(run.pending) if op is not None):
        thread = next(thread for thread, op in enumerate(run.pending) if op is not None and run.enabled(thread))
        run.step(thread, 0)
        lengths[thread] += 1 + run.along(depth)
        depth += 1
    run.back(0)
    return prod(length + 1 for length in lengths.values())


def _as_first(coverage: Coverage, order: tuple[int, ...]) -> set[Hashable]:
    return _in_first_order(coverage.behaviours, order)


def _in_first_order(ends: set[Hashable], order: tuple[int, ...]) -> set[Hashable]:
    """Ends with what each actor returned, or where it is stuck, in the program's own order of actors."""
    back = [order.index(at) for at in range(len(order))]
    ordered: set[Hashable] = set()
    for end in ends:
        (results, broken, stuck), state = cast(tuple[tuple[Values, Hashable, Values], Hashable], end)
        ordered.add(((tuple(results[at] for at in back), broken, tuple(stuck[at] for at in back)), state))
    return ordered
