"""A thread as a tree: of the operations that it does by the values that they return.

The tree grows where an execution comes to something new; a greenlet then runs the thread function up to there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from typing import Optional

from greenlet import GreenletExit

from memhp.explore.engine.control_state import standing
from memhp.explore.engine.op import Round
from memhp.explore.programs.cells import CellOp
from memhp.explore.programs.shared import Body, Ended, Shared, hire, let_go

LONGEST = 200
"""Steps of the longest round that is looked for."""


class Place:
    """Where a thread stands after it has seen certain values: what it does next, or how it ended."""

    __slots__ = ("above", "error", "next", "op", "result", "seen", "spin", "standing")

    def __init__(self, above: Optional["Place"], seen: Hashable) -> None:
        self.above = above
        self.seen = seen
        """What the operation above returned."""
        self.next: dict[Hashable, Place] = {}
        """By what this one's operation returns."""
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

    def _up(self) -> tuple["Place", list[Hashable]] | None:
        """The nearest place above at which the thread stood the same, and what it saw from there to here."""
        seen: list[Hashable] = []
        place = self
        while self.standing is not None and place.above is not None and len(seen) < LONGEST:
            seen.append(place.seen)
            place = place.above
            if place.standing == self.standing:
                return place, seen
        return None


class Thread:
    """One thread's tree of places, and the greenlet that stands at one of them."""

    def __init__(self, body: Body) -> None:
        self.first = self._at = Place(None, None)
        self._body = body
        self._shared = Shared()
        self._greenlet = hire()
        self._stopped(self.first, self._greenlet.switch(body, self._shared))

    def _stopped(self, place: Place, said: CellOp | Ended) -> None:
        """The greenlet has stopped at `place`: note why."""
        if isinstance(said, Ended):
            place.result, place.error = said
        else:
            place.op = said
            place.standing = standing(self._greenlet, {Shared.__module__})
            place.spin = place.goes_round()

    def grow(self, place: Place, value: Hashable) -> Place:
        """The place after `place` when its operation returns `value`, which no execution has come to before."""
        if self._at is not place:
            self._give_up()
            values = []
            at = place
            while at.above is not None:
                values.append(at.seen)
                at = at.above
            self._shared = Shared()
            self._greenlet.switch(self._body, self._shared)
            for seen in reversed(values):
                self._greenlet.switch(seen)
        self._at = place.next[value] = Place(place, value)
        self._stopped(self._at, self._greenlet.switch(value))
        return self._at

    def _give_up(self) -> None:
        """Take the thread function down, wherever it stands."""
        if self._at.op is not None:
            self._shared.given_up = True
            self._greenlet.throw(GreenletExit)

    def close(self) -> None:
        """Take the thread function down and let the greenlet go; the tree is not to grow any more."""
        self._give_up()
        let_go(self._greenlet)
