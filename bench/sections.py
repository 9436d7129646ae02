"""What programs do in RCU read-side sections, for bench/locks.py: why nothing can notice that one is not there.

A section holds up whoever begins a grace period meanwhile. So it is needed where somebody may do so who has changed
what is read in it. Where nobody does, something else keeps them apart: the section lies within another one; or whoever
begins a grace period has waited for those first who can be in the section, such as for the callers of a file's
operation.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from memhp.explore.doors.footprint import FIELD_MODES
from memhp.explore.doors.stepper import Doors
from memhp.hw.lifetime import RCU
from memhp.hw.stepper import Access, Fields


class Sections:
    """What a program's actors do in sections, as JSON has it."""

    def __init__(self, notes: dict[str, Any]) -> None:
        notes = notes.setdefault("sections", {})
        self._within: dict[str, list[str]] = notes.setdefault("within", {})
        """By place of a section that lies within another one: the places of those outermost."""
        self._uses: dict[str, dict[str, list[str]]] = notes.setdefault("uses", {})
        """By place of a section that was the outermost one, and by actor: the fields that steps in it are about."""
        self._before: dict[str, list[str]] = notes.setdefault("before", {})
        """By place: fields that its actor had changed whenever it began."""
        self._periods: dict[str, list[list[list[str]]]] = notes.setdefault("periods", {})
        """By actor, of each grace period that it begins: the fields that it has changed, and those it has waited at."""
        self._meanwhile: dict[str, list[str]] = notes.setdefault("meanwhile", {})
        """By place: the fields that somebody else had changed who began a grace period while an actor was there."""

    def alone(self, place: str) -> bool:
        """Whether a section is ever the outermost one."""
        return place in self._uses

    def around(self, place: str) -> set[str]:
        """The places of sections that one lies within."""
        return set(self._within.get(place, ()))

    def held_up(self, place: str) -> bool:
        """Whether somebody begins a grace period while another actor is in a section that uses what it has changed."""
        return bool(self._used(place) & set(self._meanwhile.get(place, ())))

    def ordered(self, place: str) -> list[set[str]]:
        """Of each grace period of somebody who has changed what others use in a section: what keeps them apart.

        Those are fields that whoever comes to the section has changed, and who begins the period has waited at.
        """
        return [
            set(waits) & set(self._before[place])
            for actor, periods in self._periods.items()
            for changed, waits in periods
            if set(changed) & self._used(place, actor)
        ]

    def _used(self, place: str, but: str = "") -> set[str]:
        """The fields that actors, but for one, use in a section."""
        return {name for actor, names in self._uses.get(place, {}).items() if actor != but for name in names}

    def enter(self, place: str, outer: str, actor: int, changed: Iterable[str]) -> None:
        """An actor has entered a section, within the one that began at `outer`, or not within any."""
        if outer:
            _add(self._within.setdefault(place, []), [outer])
            return
        self._uses.setdefault(place, {}).setdefault(str(actor), [])
        self._before[place] = sorted(set(self._before.get(place, changed)) & set(changed))

    def use(self, place: str, actor: int, names: Iterable[str]) -> None:
        """A step in a section is about these fields."""
        _add(self._uses[place][str(actor)], names)

    def period(self, actor: int, changed: Iterable[str], waits: Iterable[str], places: Iterable[str]) -> None:
        """An actor begins a grace period while others are in sections of `places`."""
        _add(self._periods.setdefault(str(actor), []), [[sorted(changed), sorted(waits)]])
        for place in places:
            _add(self._meanwhile.setdefault(place, []), sorted(changed))


def _add(found: list[Any], more: Iterable[Any]) -> None:
    """Add what is not there yet."""
    found += [one for one in more if one not in found]


def why(place: str, proved: Sequence[Sections]) -> str:
    """Why nothing can notice that a section is not there, by the programs that come there and were looked at to their
    end; empty where that is not known.
    """
    if proved and not any(seen.alone(place) for seen in proved):
        return f"always within {', '.join(sorted(set.union(*(seen.around(place) for seen in proved))))}"
    ordered = [names for seen in proved if seen.alone(place) for names in seen.ordered(place)]
    if not ordered or any(seen.held_up(place) for seen in proved):
        return ""
    apart = set.intersection(*ordered)
    return f"apart from grace periods: who begins one has waited at {', '.join(sorted(apart))}" if apart else ""


class _Execution:
    """Where actors are."""

    def __init__(self) -> None:
        self.begins: dict[int, str] = {}
        """By actor: the place of the section that it begins."""
        self.outer: dict[int, str] = {}
        """By actor: the place of the outermost section that it is in."""
        self.depth: defaultdict[int, int] = defaultdict(int)
        self.changed: defaultdict[int, set[str]] = defaultdict(set)
        self.waits: defaultdict[int, set[str]] = defaultdict(set)


def of_execution(doors: Doors) -> _Execution:
    """Where the actors of an execution are."""
    found = vars(doors).setdefault("execution_noted", _Execution())
    assert isinstance(found, _Execution)
    return found


@contextmanager
def sections_told(seen: Sections) -> Iterator[None]:
    """What happens in sections and around them is noted, for the length of a ``with`` block."""
    step, wait = Doors.step, Doors.wait

    def stepping(doors: Doors, access: Access) -> None:
        step(doors, access)
        _note(seen, of_execution(doors), doors.thread, access)

    def waiting(doors: Doors, ready: Any, why: str, on: str) -> None:
        wait(doors, ready, why, on)
        of_execution(doors).waits[doors.thread].add(on)

    for name, door in (("step", stepping), ("wait", waiting)):
        setattr(Doors, name, door)
    try:
        yield
    finally:
        for name, before in (("step", step), ("wait", wait)):
            setattr(Doors, name, before)


def _note(seen: Sections, now: _Execution, actor: int, access: Access) -> None:
    """A step that an actor takes."""
    if access.kind not in FIELD_MODES:
        return
    names = access.target.names if isinstance(access.target, Fields) else (str(access.target),)
    if access == Access("enter", RCU):
        now.depth[actor] += 1
        seen.enter(now.begins[actor], now.outer.get(actor, ""), actor, now.changed[actor])
        now.outer.setdefault(actor, now.begins[actor])
    elif access == Access("leave", RCU):
        now.depth[actor] -= 1
        if not now.depth[actor]:
            del now.outer[actor]
    elif access == Access("atomic", RCU):
        others = [place for other, place in now.outer.items() if other != actor]
        seen.period(actor, now.changed[actor], now.waits[actor], others)
    else:
        if access.kind != "read":
            now.changed[actor].update(names)
        if actor in now.outer:
            seen.use(now.outer[actor], actor, names)
