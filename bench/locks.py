"""What notices when a lock of the model is not taken: each acquisition is removed, and races are decided again.

Run as ``python bench/locks.py [--site TEXT] [--race TEXT] [--seconds N] [--json]``. Every race variant is decided as it
is, on the first of its configurations, and so are pairs of other paths (lock_pairs.py); who comes to which acquisition
with which locks is noted. Then each acquisition is removed in turn (:mod:`memhp.explore.lock_removal`), and what comes
there is decided again, the quickest first, for as long as the budget of a place lasts or until what was safe is not.
The table shows for each place what noticed: a data race, a law, a deadlock, the order of locks; or why nothing can: the
locks that were held there every time; that nobody else takes that lock; the other locks that put in order what is
shared, as the detector of data races found in searches that ended; or that no race comes there. What is broken,
unless by a deadlock, must stay so. Exits with 1 when something became safe, or a place is left without an explanation.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from lock_pairs import pairs
from memhp.errors import BadInput, KernelBug
from memhp.explore.cases import CASES
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.lock_removal import Position, Site, removed, sites, told
from memhp.hw.locks import LockDoors

SECONDS = 20.0
"""Processor time that is spent on a place."""
LONGEST = 20.0
"""A variant that takes longer than that as it is, in seconds, is left out, and said to be."""
EXECUTIONS = 40
"""Executions after which a program is given up."""


@dataclass(frozen=True)
class Decided:
    """What came of a program."""

    word: str
    reason: str = ""

    @property
    def kind(self) -> str:
        """What sort of failure it is: ``data race``, ``deadlock``, ``lock-order`` …"""
        return "BUG" if ": KernelBug: " in self.reason else self.reason.split(":")[0]


@dataclass
class Known:
    """A program, decided as it is."""

    name: str
    program: KernelProgram
    limits: Limits
    decided: Decided
    seconds: float


@dataclass
class Came:
    """Who came to a place."""

    programs: set[str] = field(default_factory=set)
    held: set[str] | None = None
    """Locks that were held alone every time."""
    names: set[tuple[str, str]] = field(default_factory=set)
    """Programs and the names that the lock had there."""


@dataclass
class Seen:
    """What is known of all acquisitions in all programs."""

    came: dict[Position, Came] = field(default_factory=lambda: defaultdict(Came))
    takers: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """By program and lock: the actors that take it."""

    def note(self, program: str) -> Callable[[Position, LockDoors, str], None]:
        """What notes the acquisitions of a program's actors."""

        def note(position: Position, hw: LockDoors, lock: str) -> None:
            if hw.stepper is None:
                return
            held = {one.name for one in hw.locks.values() if one.writer == hw.cpu}
            came = self.came[position]
            came.programs.add(program)
            came.held = held if came.held is None else came.held & held
            came.names.add((program, lock))
            self.takers[program, lock].add(hw.cpu)

        return note

    def contended(self, position: Position) -> bool:
        """Whether some program has two actors that take the lock of a place."""
        return any(len(self.takers[one]) > 1 for one in self.came[position].names)

    def others(self, position: Position, programs: set[str]) -> list[str]:
        """Locks other than that of a place that two actors of the same program take."""
        own = {name for _, name in self.came[position].names}
        return sorted({
            name for (program, name), actors in self.takers.items()
            if program in programs and len(actors) > 1 and name not in own
        })  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One place, and what noticed that its lock was not taken."""

    site: str
    programs: int
    """How many programs come there."""
    tried: int
    noticed: dict[str, int]
    """By sort of failure: how many programs had it that were safe."""
    why: str
    """Where nothing noticed: why."""
    hidden: list[str]
    """Programs that were broken, and are safe without the lock."""
    example: str = ""

    @property
    def explained(self) -> bool:
        """Whether something noticed, or nothing can."""
        return bool(self.noticed) or self.why != UNEXPLAINED


UNEXPLAINED = "nothing noticed"


def decide(program: KernelProgram, limits: Limits) -> Decided:
    """A program decided, its failure as it was found."""
    run = program.run()
    run.tell_apart(frozenset())
    try:
        found = search(run, limits)
    except (KernelBug, BadInput) as error:
        return Decided("broken", f"error: {error}")
    finally:
        run.close()
    return Decided(found.word, found.failure.reason if found.failure else "")


def variants(text: str) -> Iterator[tuple[str, KernelProgram, Limits]]:
    """The variants of the races, each on the first of its configurations."""
    for case in CASES:
        if text in case.name:
            for variant in case.variants:
                yield f"{case.name}/{variant.name}", case.program(variant.name), case.limits


def programs(text: str) -> Iterator[tuple[str, KernelProgram, Limits]]:
    """The variants of the races, each on the first of its configurations, and the pairs."""
    yield from variants(text)
    yield from ((name, program, Limits(executions=EXECUTIONS)) for name, program in pairs() if text in name)


def as_they_are(programs: Iterable[tuple[str, KernelProgram, Limits]], seen: Seen) -> Iterator[Known]:
    """Each program decided with all its locks."""
    for name, program, limits in programs:
        begun = time.process_time()
        with told(seen.note(name)):
            decided = decide(program, replace(limits, executions=min(EXECUTIONS, limits.executions or EXECUTIONS)))
        yield Known(name, program, limits, decided, time.process_time() - begun)


def without(site: Site, known: dict[str, Known], seen: Seen, seconds: float) -> Row:
    """The row of a place."""
    came = seen.came[site.position]
    coming = sorted((known[name] for name in came.programs if name in known), key=lambda one: (one.seconds, one.name))
    noticed: Counter[str] = Counter()
    hidden = []
    finished: set[str] = set()
    example = ""
    tried = 0
    end = time.process_time() + seconds
    with removed(site):
        for one in coming:
            if time.process_time() > end or (noticed and one.decided.word != "broken"):
                continue
            tried += 1
            then = decide(one.program, replace(one.limits, executions=EXECUTIONS))
            if then.word.startswith("safe"):
                finished.add(one.name)
            deadlock = one.decided.kind in ("deadlock", "lock-order")
            if one.decided.word == "broken" and then.word.startswith("safe") and not deadlock:
                hidden.append(one.name)
            if one.decided.word != "broken" and then.word == "broken":
                noticed[then.kind] += 1
                example = example or f"{one.name}: {then.reason}"
    why = ""
    if not noticed:
        why = UNEXPLAINED
        if not coming:
            why = "no race comes here"
        elif came.held:
            why = f"always under {', '.join(sorted(came.held))}"
        elif not seen.contended(site.position):
            why = "no race has two who take it"
        elif finished:
            why = f"ordered without it: {', '.join(seen.others(site.position, finished)) or 'nothing is shared'}"
    return Row(str(site), len(coming), tried, dict(noticed), why, hidden, example)


def text(row: Row) -> str:
    """A row for people."""
    what = ", ".join(row.noticed) or row.why
    lines = [f"{row.site}: {what}"]
    if row.example:
        lines.append(f"    {row.example}")
    lines += [f"    BROKEN BECAME SAFE: {name}" for name in row.hidden]
    return "\n".join(lines)


def main() -> int:
    """Remove each lock in turn and print what noticed; 1 when something broken became safe or nothing explains it."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--site", default="", help="only places with this text in them")
    options.add_argument("--race", default="", help="only races with this text in their names")
    options.add_argument("--seconds", type=float, default=SECONDS, help="processor time for a place  [default: 20]")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    seen = Seen()
    known = {one.name: one for one in as_they_are(programs(chosen.race), seen)}
    long = {name: one for name, one in known.items() if one.seconds > LONGEST}
    rows = []
    for site in sites():
        if chosen.site in str(site):
            rows.append(without(site, {name: known[name] for name in known.keys() - long.keys()}, seen, chosen.seconds))
            if not chosen.json:
                print(text(rows[-1]), flush=True)
    if chosen.json:
        print(json.dumps([vars(row) for row in rows], indent=2))
    else:
        count = Counter(next(iter(row.noticed), row.why.split(" ")[0]) for row in rows)
        print(f"{len(rows)} places; " + ", ".join(f"{number} {what}" for what, number in count.most_common()))
        print(f"left out, as they take long: {', '.join(sorted(long)) or 'none'}")
    return 1 if any(row.hidden or not row.explained for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
