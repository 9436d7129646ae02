"""What notices when a lock of the model is not taken: each acquisition is removed, and races are decided again.

Run as ``python bench/locks.py [--site TEXT] [--race TEXT] [--seconds N] [--part 1/4] [--keep FILE] [--json]``. Each
acquisition is removed in turn (:mod:`memhp.explore.lock_removal`), and what comes there is decided again
(noticed.py). The table shows for each place what noticed: a data race, a law, a deadlock, the order of locks; or why
nothing can, though two actors of a program take the lock and the search of it without this acquisition ended: the locks
that were held there every time, or others that put in order what is shared. What is broken must stay so; only a
deadlock may end when one of the locks that its report names is not taken. Exits with 1 when something became safe
otherwise, or a place is left without an explanation.

All places take about half an hour. With ``--keep`` rows go to a file as they are found, and those that are in it are
not worked out again; ``--part`` takes every fourth place. Progress is told on the standard error output.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from memhp.explore.lock_removal import Position, Site, removed, sites, told
from memhp.hw.locks import LockDoors
from noticed import Kept, Known, Row, about, as_they_are, part_of, progress, report, row, text, try_all

SECONDS = 20.0
"""Processor time that is spent on a place, beside what was broken."""


@dataclass
class Came:
    """How a program's actors come to a place."""

    held: set[str]
    """Locks that were held alone every time."""
    names: set[str] = field(default_factory=set)
    """The names that the lock had there."""


@dataclass
class Seen:
    """What is known of all acquisitions in all programs."""

    came: dict[Position, dict[str, Came]] = field(default_factory=lambda: defaultdict(dict))
    takers: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """By program and lock: the actors that take it."""

    def watching(self, program: str) -> AbstractContextManager[None]:
        """Within it, the acquisitions of a program's actors are noted."""
        return told(self._note(program))

    def _note(self, program: str) -> Callable[[Position, LockDoors, str], None]:
        def note(position: Position, hw: LockDoors, lock: str) -> None:
            if hw.stepper is None:
                return
            held = {one.name for one in hw.locks.values() if one.writer == hw.cpu}
            came = self.came[position].setdefault(program, Came(held))
            came.held &= held
            came.names.add(lock)
            self.takers[program, lock].add(hw.cpu)

        return note

    def names(self, position: Position, program: str) -> set[str]:
        """The names that a lock has at a place in a program."""
        return self.came[position][program].names

    def contended(self, position: Position, program: str) -> bool:
        """Whether two actors of a program take the lock of a place."""
        return any(len(self.takers[program, name]) > 1 for name in self.names(position, program))

    def why(self, position: Position, finished: set[str]) -> str:
        """Why nothing notices: what puts in order the programs that were looked at to their end."""
        proved = sorted(program for program in finished if self.contended(position, program))
        if not proved:
            return ""
        held = set.intersection(*(self.came[position][program].held for program in proved))
        if held:
            return f"always under {', '.join(sorted(held))}"
        own = set.union(*(self.names(position, program) for program in proved))
        others = {
            name for (program, name), actors in self.takers.items()
            if program in proved and len(actors) > 1 and name not in own
        }  # fmt: skip
        return f"ordered without it: {', '.join(sorted(others)) or 'nothing else is shared'}"


def without(site: Site, known: dict[str, Known], seen: Seen, seconds: float) -> Row:
    """The row of a place."""
    came = seen.came[site.position]
    tried = try_all((known[name] for name in came), removed(site), seconds)
    return row(
        str(site),
        tried,
        seen.why(site.position, tried.finished),
        lambda name: about(known[name].decided, seen.names(site.position, name)),
    )


def main() -> int:
    """Remove each lock in turn and print what noticed; 1 when something broken became safe or nothing explains it."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--site", default="", help="only places with this text in them")
    options.add_argument("--race", default="", help="only races with this text in their names")
    options.add_argument("--seconds", type=float, default=SECONDS, help="processor time for a place  [default: 20]")
    options.add_argument("--part", default="1/1", help="2/4: of all places the second, the sixth …")
    options.add_argument("--keep", type=Path, metavar="FILE", help="rows that are there are taken, others added")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    kept = Kept(chosen.keep)
    wanted = part_of([site for site in sites() if chosen.site in str(site)], chosen.part)
    seen = Seen()
    known: dict[str, Known] = {}
    rows = []
    for number, site in enumerate(wanted, 1):
        progress(f"{number} of {len(wanted)}: {site}")
        one = kept.get(str(site))
        if one is None:
            known = known or as_they_are(chosen.race, seen.watching)
            one = without(site, known, seen, chosen.seconds)
            kept.add(one)
        rows.append(one)
        if not chosen.json:
            print(text(one), flush=True)
    return report(rows, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
