"""What notices when the kernel's code is changed in one place: for bench/locks.py and bench/orders.py.

Every race variant, on one of its configurations, and every pair of other paths (lock_pairs.py and five like it) is
decided as it is; who comes to which place is noted. With a place changed, what comes there is decided again: first,
whether what was broken still is; then what was not, the quickest first, a few executions of each and then more, until
something notices or the place's processor time is spent.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from driver_pairs import driver_pairs
from hugetlb_pairs import hugetlb_pairs
from lock_pairs import pairs
from memhp.errors import BadInput, KernelBug
from memhp.explore.case import Case, Variant
from memhp.explore.cases import CASES
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from order_pairs import order_pairs
from rcu_pairs import rcu_pairs
from virtio_mem_pairs import virtio_mem_pairs

T = TypeVar("T")
FEW, EXECUTIONS, MANY = 3, 100, 1000
"""Executions of a program at first, those after which it is given up, and those that are tried when time is left."""
QUICK, LONGEST = 2.0, 6.0
"""Seconds that a program takes as it is up to which it is decided before others, and above which it is looked at for a
few executions only, or not at all if it is broken."""
ALIKE = re.compile(r"-4K-|-(NACK|BUSY|ERROR)$")
"""Variants that go through the code of others: a virtio-mem device with other answers, or with more pageblocks."""
DEADLOCKS = ("deadlock", "lock-order")


@dataclass(frozen=True)
class Decided:
    """What came of a program."""

    word: str
    reason: str = ""

    @property
    def kind(self) -> str:
        """What sort of failure it is: ``data race``, ``deadlock``, ``lock-order`` …"""
        if "KernelBug: deadlock: " in self.reason:
            return "deadlock"
        return "BUG" if ": KernelBug: " in self.reason else self.reason.split(":")[0]

    @property
    def safe(self) -> bool:
        """Whether nothing broke, and all was looked at."""
        return self.word.startswith("safe")


@dataclass(frozen=True)
class Known:
    """A program, decided as it is."""

    name: str
    make: Callable[[], KernelProgram]
    limits: Limits
    decided: Decided
    seconds: float
    notes: dict[str, Any]
    """What was seen of it, as JSON has it."""

    @cached_property
    def program(self) -> KernelProgram:
        """The program itself."""
        return self.make()


@dataclass
class Tried:
    """What came of programs with a place changed."""

    programs: int
    """How many come there."""
    looked_at: int = 0
    noticed: Counter[str] = field(default_factory=Counter)
    """By sort of failure: how many programs had it that were not broken."""
    example: str = ""
    finished: set[str] = field(default_factory=set)
    """Programs that were safe, and are."""
    still_broken: list[str] = field(default_factory=list)
    now_safe: list[str] = field(default_factory=list)
    """Programs that were broken, and are safe."""
    now_undecided: list[str] = field(default_factory=list)
    """Programs that were broken, and of which nothing is known now."""


@dataclass(frozen=True)
class Row:
    """One place, and what noticed that it was changed."""

    site: str
    programs: int
    tried: int
    noticed: dict[str, int]
    why: str
    """Where nothing noticed: why."""
    example: str
    became_safe: list[str]
    """Programs that were broken, and are safe now, for which nothing accounts."""
    ended: list[str]
    """Programs that were broken in a way that goes with the place, and are safe now."""
    undecided: list[str]

    @property
    def explained(self) -> bool:
        """Whether something noticed, or nothing can; and whether nothing became safe that should not.

        That the code cannot be run so changed is neither.
        """
        return bool(self.noticed or self.why) and ERROR not in self.noticed and not self.became_safe


def decide(program: KernelProgram, limits: Limits, executions: int) -> Decided:
    """A program decided within so many executions, its failure as it was found."""
    run = program.run()
    run.tell_apart(frozenset())
    try:
        found = search(run, replace(limits, executions=min(executions, limits.executions or executions)))
    except (KernelBug, BadInput) as error:
        return Decided("broken", f"{ERROR}: {error}")
    finally:
        run.close()
    return Decided(found.word, found.failure.reason if found.failure else "")


def programs(text: str) -> Iterator[tuple[str, Callable[[], KernelProgram], Limits]]:
    """The variants of the races, each on one configuration and none like another, and the pairs."""
    for case in CASES:
        for variant in case.variants:
            name = f"{case.name}/{variant.name}"
            if re.search(text, name) and not ALIKE.search(variant.name):
                yield name, partial(case.program, variant.name, _ordinary(case, variant)), case.limits
    others = chain(pairs(), virtio_mem_pairs(), order_pairs(), rcu_pairs(), hugetlb_pairs(), driver_pairs())
    for name, program in others:
        if re.search(text, name):
            yield name, program, Limits(failures=1 if "-failing" in name else None)


def _ordinary(case: Case, variant: Variant) -> str:
    """The first of a variant's configurations on which no variant of the race is known to be something particular."""
    noted = {one.name for other in case.variants for one in other.configurations if one.note}
    names = [one.name for one in variant.configurations]
    return next((name for name in names if name not in noted), names[0])


Watching = Callable[[dict[str, Any]], AbstractContextManager[None]]
"""What notes, within a context, what a program's actors come to, as JSON has it."""


def as_they_are(text: str, watching: Watching, kept: "Kept") -> dict[str, Known]:
    """Each program decided, while what it comes to is noted; by name."""
    known = {}
    for name, make, limits in programs(text):
        before = kept.programs.get(name)
        if before is None:
            kept.look_at_the_clock()
            begun = time.process_time()
            notes: dict[str, Any] = {}
            program = make()
            with watching(notes):
                decided = decide(program, limits, EXECUTIONS)
            before = (decided, time.process_time() - begun, notes)
            kept.add_program(name, *before)
            progress(f"{before[1]:6.1f} s  {name}: {decided.word} {decided.reason[:120]}")
        known[name] = Known(name, make, limits, *before)
    return known


def try_all(
    coming: Iterable[Known], changed: AbstractContextManager[None], seconds: float, *, stays_broken: bool = True
) -> Tried:
    """The programs that come to a place, with that changed, for about so many seconds.

    With `stays_broken` those that were broken are looked at first, however long it takes.
    """
    order = sorted(coming, key=lambda one: (one.seconds, one.name))
    tried = Tried(len(order))
    with changed:
        for one in (one for one in order if one.decided.word == "broken" and one.seconds <= LONGEST and stays_broken):
            tried.looked_at += 1
            then = decide(one.program, one.limits, EXECUTIONS)
            now = tried.now_safe if then.safe else tried.now_undecided
            (tried.still_broken if then.word == "broken" else now).append(one.name)
        others = [one for one in order if one.decided.word != "broken"]
        _look_for_failures(others, time.process_time() + seconds, tried)
    return tried


def _look_for_failures(others: Sequence[Known], end: float, tried: Tried) -> None:
    """Of programs that were not broken: whether one is now.

    Quick ones are decided at once, others begun first; then it is gone on with those that are undecided.
    """
    quick = [one for one in others if one.seconds <= QUICK]
    slow = [one for one in others if one.seconds > QUICK]
    turns = [(one, EXECUTIONS) for one in quick] + [(one, FEW) for one in slow]
    turns += [(one, EXECUTIONS) for one in slow if one.seconds <= LONGEST]
    for one, executions in turns:
        if time.process_time() > end:
            return
        tried.looked_at += executions == EXECUTIONS
        then = decide(one.program, one.limits, executions)
        if then.word == "undecided" and executions == EXECUTIONS:
            turns.append((one, MANY))
        elif then.safe:
            tried.finished.add(one.name)
        elif then.word == "broken":
            tried.noticed[then.kind] += 1
            tried.example = f"{one.name}: {then.reason}"
            return


def row(site: str, tried: Tried, why: str, ends: Callable[[str], bool]) -> Row:
    """The row of a place; `ends` says of what was broken whether it is no wonder that it is safe now."""
    ended = [name for name in tried.now_safe if ends(name)]
    if not why and ended:
        why = "a deadlock ends that it is part of"
    elif not why and tried.programs == len(tried.still_broken) > 0:
        why = f"only what is broken comes here, and stays so: {', '.join(tried.still_broken)}"
    return Row(
        site,
        tried.programs,
        tried.looked_at,
        dict(tried.noticed),
        "" if tried.noticed else why,
        tried.example,
        [name for name in tried.now_safe if name not in ended],
        ended,
        tried.now_undecided,
    )


def about(decided: Decided, locks: Iterable[str]) -> bool:
    """Whether a program was broken by a deadlock in whose circle one of these locks is, as its report tells."""
    found = (re.search(rf"(?<![\w.]){re.escape(lock)}(?![\w.])", decided.reason) for lock in locks)
    return decided.kind in DEADLOCKS and any(found)


def text(one: Row) -> str:
    """A row for people."""
    lines = [f"{one.site}: {', '.join(one.noticed) or one.why or UNEXPLAINED}"]
    lines += [f"    {one.example}"] * bool(one.example)
    lines += [f"    ends the deadlock of {name}" for name in one.ended]
    lines += [f"    not decided any more: {name}" for name in one.undecided]
    lines += [f"    BROKEN BECAME SAFE: {name}" for name in one.became_safe]
    return "\n".join(lines)


UNEXPLAINED = "NOTHING NOTICED"
ERROR = "error"


def report(rows: Sequence[Row], *, as_json: bool) -> int:
    """Print what all rows come to; 1 when a place is left without an explanation, or something became safe."""
    if as_json:
        print(json.dumps([asdict(one) for one in rows], indent=2))
    else:
        count = Counter(next(iter(one.noticed), one.why.split(":")[0].split(" ")[0] or UNEXPLAINED) for one in rows)
        print(f"{len(rows)} places; " + ", ".join(f"{number} {what}" for what, number in count.most_common()))
        print(f"broken and safe without it: {sum(len(one.became_safe) for one in rows)}")
    return 0 if all(one.explained for one in rows) else 1


class Kept:
    """What was worked out before, in a file of JSON lines, or nowhere; and how much time there is for more."""

    def __init__(self, file: Path | None, seconds: float | None) -> None:
        self._file = file
        self._end = None if seconds is None else time.process_time() + seconds
        self.programs: dict[str, tuple[Decided, float, dict[str, Any]]] = {}
        self.rows: dict[str, Row] = {}
        """By place."""
        for line in file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []:
            one = json.loads(line)
            if "program" in one:
                self.programs[one["program"]] = (Decided(*one["decided"]), one["seconds"], one["notes"])
            else:
                self.rows[one["site"]] = Row(**one)

    def add_program(self, name: str, decided: Decided, seconds: float, notes: dict[str, Any]) -> None:
        """Keep what a program is as it is."""
        self._add({"program": name, "decided": [decided.word, decided.reason], "seconds": seconds, "notes": notes})

    def add_row(self, one: Row) -> None:
        """Keep a row."""
        self.rows[one.site] = one
        self._add(asdict(one))

    def look_at_the_clock(self) -> None:
        """SystemExit: the time is spent; what was found is kept."""
        if self._end is not None and time.process_time() > self._end:
            raise SystemExit("not done yet: call it again with the same --keep")

    def _add(self, one: dict[str, Any]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                print(json.dumps(one), file=file)


def options(description: str) -> argparse.ArgumentParser:
    """The options of both programs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--site", default="", help="only places with this text in them")
    parser.add_argument("--race", default="", help="only races and pairs whose names match (regular expression)")
    parser.add_argument("--seconds", type=float, default=8.0, help="processor time for a place  [default: 8]")
    parser.add_argument("--all-seconds", type=float, help="processor time for all of this call; to go on later: --keep")
    parser.add_argument("--part", default="1/1", help="2/4: of all places the second, the sixth …")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="take what is there, add what is found")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def table(
    chosen: argparse.Namespace, sites: Sequence[T], watching: Watching, of: Callable[[T, dict[str, Known]], Row]
) -> int:
    """Work out the rows of places and print them; 1 when one is without an explanation, or something became safe."""
    kept = Kept(chosen.keep, chosen.all_seconds)
    wanted = part_of([site for site in sites if chosen.site in str(site)], chosen.part)
    if not all(str(site) in kept.rows for site in wanted):
        known = as_they_are(chosen.race, watching, kept)
        for number, site in enumerate(wanted, 1):
            if str(site) not in kept.rows:
                kept.look_at_the_clock()
                progress(f"{number} of {len(wanted)}: {site}")
                kept.add_row(of(site, known))
    rows = [kept.rows[str(site)] for site in wanted]
    if not chosen.json:
        print("\n".join(map(text, rows)))
    return report(rows, as_json=chosen.json)


def part_of(every: Sequence[T], part: str) -> Sequence[T]:
    """``2/4``: the second, sixth, tenth … of all."""
    number, _, of = part.partition("/")
    return every[int(number) - 1 :: int(of)]


def progress(said: str) -> None:
    """Tell people how far it is, apart from what is printed."""
    print(said, file=sys.stderr, flush=True)
