"""By whatever method of maps and sets of spans shared state is looked at or changed, whoever watches is told."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from typing import Any

import pytest

from memhp.hw.counted import CountedSet
from memhp.hw.marked_map import MarkedMap, MarkedSet
from memhp.hw.shared import Counted, SharedFlags, SharedMap, SharedSet
from memhp.hw.stepper import Access
from memhp.spans import Span, SpanMap, SpanSet


class Told:
    """A machine and its stepper, which keeps whether it was told of reads and of writes."""

    listens = True

    def __init__(self) -> None:
        self.stepper: Any = self
        self.levels: dict[str, Counted] = {}
        self.heard: set[str] = set()

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        self.heard.add("write" if write else "read")

    def marked(self, *names: str, write: bool, by_cpu: bool = False, whole: bool = False) -> bool:
        self.heard.add("write" if write else "read")
        return write

    def step(self, access: Access) -> None:
        self.heard.add("write" if access.kind in ("write", "atomic") else "read")


READS: dict[str, Callable[[Any], object]] = {
    "__len__": len,
    "__bool__": bool,
    "__iter__": list,
    "__eq__": lambda one: one == (SpanMap() if isinstance(one, SpanMap) else SpanSet()),
    "__repr__": repr,
    "__contains__": lambda one: 5 in one,
    "copy": lambda one: one.copy(),
    "end": lambda one: one.end,
    "size": lambda one: one.size,
    "get": lambda one: one.get(5),
    "run_at": lambda one: one.run_at(5),
    "runs": lambda one: list(one.runs(0, 9)),
    "next_run": lambda one: one.next_run(0),
    "first_fit": lambda one: one.first_fit(1, 0, 9),
    "fits": lambda one: one.fits(1, 0, 9, 1),
    "gaps": lambda one: list(one.gaps(0, 9)),
    "covers": lambda one: one.covers(4, 6),
    "covered": lambda one: one.covered(4, 6),
    "differences": lambda one: one.differences(one),
    "minus": lambda one: one.minus(SpanSet()),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda one: one.set(5, 7, True),
    "clear": lambda one: one.clear(5, 6),
    "set_each": lambda one: one.set_each([Span(5, 7)], True),
    "clear_each": lambda one: one.clear_each([Span(5, 6)]),
    "add": lambda one: one.add(5, 7),
    "remove": lambda one: one.remove(5, 6),
    "add_each": lambda one: one.add_each([Span(5, 7)]),
    "remove_each": lambda one: one.remove_each([Span(5, 6)]),
}
NO_ACCESS = {"__init__", "__hash__", "joined"}
MADE: dict[str, Callable[[], Any]] = {
    "SharedMap": SharedMap, "SharedFlags": SharedFlags, "SharedSet": SharedSet, "CountedSet": CountedSet,
    "MarkedMap": lambda: MarkedMap(str), "MarkedSet": lambda: MarkedSet(str),
}  # fmt: skip


def methods(of: type) -> set[str]:
    return {name for base in of.__mro__ if base in (SpanMap, SpanSet) for name, what in vars(base).items()
            if callable(what) or isinstance(what, property | classmethod)
            if not name.startswith("_") or (name in READS or name in NO_ACCESS)}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_no_method_of_a_map_or_set_goes_past_who_watches(kind: str) -> None:
    for name in methods(type(MADE[kind]())) - NO_ACCESS:
        machine, one = Told(), MADE[kind]()
        (one.set if isinstance(one, SpanMap) else one.add)(*((3, 8, True) if isinstance(one, SpanMap) else (3, 8)))
        assert not one.is_heard
        one.belong(machine, "it")
        assert one.is_heard
        (WRITES[name] if name in WRITES else READS[name])(one)
        assert ("write" if name in WRITES else "read") in machine.heard, name
