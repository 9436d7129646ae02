"""Actors that wait until something has come: whether it has, and that they look at nothing else meanwhile.

A wait is about one name. The search looks at what is waited for whenever others may have brought it about.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Sequence

from greenlet import GreenletExit, getcurrent

from memhp.errors import BadInput
from memhp.explore.doors.again import Again, Done, sort_of
from memhp.explore.doors.door_op import DoorOp, door_op, place
from memhp.explore.engine.op import SHARED
from memhp.hw.stepper import Access
from memhp.linux.state import Kernel


class Waits(Again):
    """The waits of a kernel's actors; `again`: steps to be done once more."""

    def __init__(self, k: Kernel, again: Sequence[Done]) -> None:
        super().__init__(again)
        self._kernel = k
        self._last: dict[int, Access] = {}
        """By actor: its last step, where that may stand for what its code does next."""
        self.listens = False
        """Whether it does a new step; what those do that are done once more is known."""
        self._ready: dict[int, tuple[Callable[[], bool], str]] = {}
        """By actor: what it waits for, or did when it last waited, and on which name."""
        self.given_up = False
        self._waits_on = ""
        """What an actor waits for, while it is looked at whether that has come: the wait is about that name alone."""

    def is_looked_on(self) -> bool:
        """Whether it is no actor that runs, but who looks on: that is no access."""
        return getcurrent() is self._hub

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Go on when `ready()`, which looks at the shared field `on`."""
        if self.given_up:
            raise GreenletExit
        if not on or not isinstance(on, str):
            wanted = "on=, the name of the field that it looks at and others change"
            raise BadInput(f"a wait for {why}: wanted {wanted}", where="wait")
        if not callable(ready):
            wanted = f"wanted a function that says whether to go on, not {type(ready).__name__}"
            raise BadInput(f"a wait for {why}: {wanted}", where="wait")
        self._ready[self.thread] = ready, on
        self._last.pop(self.thread, None)
        op = DoorOp(f"wait for {why}", ((("field", on), SHARED),), "")
        op.blocking = op.waits = True
        if self._turn(sort_of(op)) is None:
            op.place = place()
            self._ask(op)
        if self.listens:
            self.is_ready(self.thread)  # what is read there belongs to this step

    def waited_by(self, thread: int) -> Callable[[], bool]:
        """The function that says whether an actor may go on."""
        return self._ready[thread][0]

    def is_ready(self, thread: int) -> bool:
        """Whether what an actor waits for has come. BadInput: that looks at more than it names."""
        ready, self._waits_on = self._ready[thread]
        made = len(self._kernel._statics)
        try:
            return ready()
        finally:
            self._waits_on = ""
            while len(self._kernel._statics) > made:  # who looks changes nothing
                self._kernel._statics.popitem()

    def _must_be_waited_on(self, access: Access) -> None:
        """BadInput: who waits looks at something else than the wait names."""
        if access.target != self._waits_on or access.kind != "read":
            does = door_op(access, ()).text
            fix = "all that a wait looks at without a lock goes by one name"
            self._raise(BadInput(f"a wait on {self._waits_on} does {does!r}", where="wait", fix=fix))
