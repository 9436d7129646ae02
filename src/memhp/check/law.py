"""What a law is: a sentence about the machine, and a function that finds where it does not hold."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memhp.check.machine_view import MachineView
from memhp.check.snapshot import Snapshot
from memhp.linux.state import Kernel
from memhp.spans import Span

MOST_TOLD = 8
"""Places of one law that are told one by one; the rest are counted."""


@dataclass(frozen=True)
class Breach:
    """A law that does not hold, and where. `pfns` and `vas` (bytes) are the span concerned, where there is one."""

    law: str
    text: str
    pfns: Span | None = None
    vas: Span | None = None
    step: int | None = None
    """Index of the step after which it was first seen; whoever runs the steps fills it in."""


@dataclass(frozen=True)
class Note:
    """What a law allows but a reader wants to know, with how many there were."""

    law: str
    text: str
    count: int


def as_many_as_are_told(law: str, found: list[Breach]) -> list[Breach]:
    """The first breaches of a law, and how many more there are."""
    if len(found) <= MOST_TOLD + 1:
        return found
    return [*found[:MOST_TOLD], Breach(law, f"and in {len(found) - MOST_TOLD} more places")]


Check = Callable[[MachineView, Snapshot | None], Iterable[Breach]]
Notes = Callable[[MachineView, Snapshot | None], Iterable[Note]]
Still = Callable[[MachineView, MachineView], bool]


def nothing_near(find: Check) -> Still:
    """How a law that looks at frames and leaves one by one says that it still holds: it finds nothing where something
    changed.
    """
    return lambda look, near: near.nothing or next(iter(find(near, None)), None) is None


@dataclass(frozen=True)
class Law:
    """One law.

    `doors` are the names under which the machine's doors record that it was broken in passing
    (:class:`memhp.hw.machine.Violation`): what went wrong in the middle of a step and cannot be seen at its end.
    """

    name: str
    sentence: str
    find: Check
    doors: tuple[str, ...] = ()
    find_notes: Notes | None = None
    still: Still | None = None
    """Whether a law that held before still does, for a look at the whole and one confined to what has changed since:
    says no when it is not sure. Without it the law is cheap, and looked at anew each time.
    """

    def holds_on(self, look: MachineView, near: MachineView) -> bool:
        """Whether the law, which held, is known to hold still."""
        if self.still is None or any(violation.law in self.doors for violation in look.k.hw.violations):
            return False
        return self.still(look, near)

    def check(self, k: Kernel, before: Snapshot | None = None) -> list[Breach]:
        """Where the law does not hold now; empty when it does."""
        return self.check_look(MachineView(k), before)

    def check_look(self, look: MachineView, before: Snapshot | None) -> list[Breach]:
        """The same, on a look that other laws share."""
        found = [
            Breach(self.name, f"{violation.text}, in {violation.where}" if violation.where else violation.text)
            for violation in look.k.hw.violations
            if violation.law in self.doors
        ]
        found += self.find(look, before)
        return as_many_as_are_told(self.name, found)

    def notes(self, look: MachineView, before: Snapshot | None) -> list[Note]:
        """What the law allows but is worth telling."""
        return list(self.find_notes(look, before)) if self.find_notes is not None else []
