"""What notices when a lock of the model is not taken, or an RCU read-side section not begun: each such place is left
out, and races are decided again.

Run as ``python bench/locks.py`` (``--help`` names its options). Each place is removed in turn
(:mod:`memhp.explore.lock_removal`), and what comes there is decided again (noticed.py). The table shows for each place
what noticed: a data race, a law, a deadlock, the order of locks; or why nothing can. Where two actors of a program take
the lock, and the search of it without this acquisition ended, that is the outer lock which whoever takes this one holds
alone, or the other locks that put in order what is shared. Of a read-side section it is what keeps grace periods apart
from it (sections.py). Where nobody can meet another there, it is which functions call this one, back to the one that
does so before there is a second CPU (callers.py). What is broken must stay so; only a deadlock may end when one of the
locks that its report names is not taken. Exits with 1 when something became safe otherwise, or a place is left without
an explanation.

All of it takes about a quarter of an hour. With ``--keep`` what is found goes to a file, and what is there is not
worked out again, so that ``--all-seconds`` can cut the work into calls, and ``--part`` into machines. Progress is told
on the standard error output.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sections
from callers import of_boot
from memhp.explore.doors.stepper import Doors
from memhp.explore.lock_removal import SECTION, Position, Site, removed, sites, told
from memhp.hw.lifetime import RCU
from memhp.hw.locks import LockDoors
from noticed import Known, Row, about, options, row, table, try_all
from sections import Sections, of_execution, sections_told


class Seen:
    """What a program's actors come to: ``{"came": {place: names of its lock}, "takers": {lock: {actor: held}}}``.

    `held` are the locks that an actor held alone whenever it took that one, wherever.
    """

    def __init__(self, notes: dict[str, Any]) -> None:
        self._came: dict[str, list[str]] = notes.setdefault("came", {})
        self._takers: dict[str, dict[str, list[str]]] = notes.setdefault("takers", {})
        self.sections = Sections(notes)

    def note(self, position: Position, hw: LockDoors, lock: str) -> None:
        """An acquisition."""
        if hw.stepper is None:
            return
        held = sorted(one.name for one in hw.locks.values() if one.writer == hw.cpu)
        takers = self._takers.setdefault(lock, {})
        takers[str(hw.cpu)] = [name for name in takers.get(str(hw.cpu), held) if name in held]
        if position in PLACES:
            names = self._came.setdefault(PLACES[position], [])
            names += [lock] if lock not in names else []

    def note_section(self, position: Position, hw: LockDoors) -> None:
        """A read-side section is about to begin."""
        if isinstance(hw.stepper, Doors):
            of_execution(hw.stepper).begins[hw.cpu] = PLACES.get(position, "elsewhere")
            if position in PLACES:
                self._came[PLACES[position]] = [RCU]

    def comes(self, place: str) -> bool:
        """Whether somebody comes to a place."""
        return place in self._came

    def names(self, place: str) -> list[str]:
        """The names that the lock has at a place."""
        return self._came[place]

    def outer(self, place: str) -> set[str]:
        """The locks that every actor holds alone whenever it takes a place's lock, wherever that is."""
        return set.intersection(*(set(held) for name in self.names(place) for held in self._takers[name].values()))

    def contended(self) -> set[str]:
        """The locks that two actors take."""
        return {name for name, actors in self._takers.items() if len(actors) > 1}


PLACES = {site.position: str(site) for site in sites()}
"""Places of kernel code; actors that stand for other callers take locks elsewhere."""


def why(place: str, proved: list[Seen]) -> str:
    """Why nothing notices, by the programs that were looked at to their end: what puts them in order."""
    proved = [seen for seen in proved if seen.contended() & set(seen.names(place))]
    if not proved:
        return ""
    outer = set.intersection(*(seen.outer(place) for seen in proved))
    if outer:
        return f"always under {', '.join(sorted(outer))}"
    others = sorted(set.union(*(seen.contended() - set(seen.names(place)) for seen in proved)))
    return f"ordered without it: {', '.join(others) or 'nothing else is shared'}"


def without(site: Site, known: dict[str, Known]) -> Row:
    """The row of a place."""
    place = str(site)
    seen = {name: Seen(one.notes) for name, one in known.items()}
    tried = try_all([one for name, one in known.items() if seen[name].comes(place)], removed(site), CHOSEN.seconds)
    proved = [seen[name] for name in sorted(tried.finished)]
    boot = [] if tried.programs else of_boot(site.function)
    if boot:
        reason = f"boot has one CPU: {' > '.join(boot)}"
    elif site.lock == SECTION:
        reason = sections.why(place, [one.sections for one in proved])
    else:
        reason = why(place, proved)
    return row(place, tried, reason, lambda name: about(known[name].decided, seen[name].names(place)))


@contextmanager
def _watching(notes: dict[str, Any]) -> Iterator[None]:
    """Within it, what a program's actors come to is noted."""
    seen = Seen(notes)
    with told(seen.note, seen.note_section), sections_told(seen.sections):
        yield


if __name__ == "__main__":
    CHOSEN = options(__doc__.split("\n")[0]).parse_args()
    sys.exit(table(CHOSEN, sites(), _watching, without))
