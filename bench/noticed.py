"""What notices when the kernel's code is changed in one place: for bench/locks.py and bench/orders.py.

Every race variant, on the first of its configurations, and every pair of other paths (lock_pairs.py) is decided as it
is; who comes to which place is noted. With a place changed, what comes there is decided again: first, whether what was
broken still is; then what was not, the quickest first, a few executions of each and then more, until something notices
or the place's processor time is spent.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lock_pairs import pairs
from memhp.errors import BadInput, KernelBug
from memhp.explore.cases import CASES
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search

FEW, EXECUTIONS = 3, 100
"""Executions of a program at first, and those after which it is given up."""
LONGEST = 6.0
"""A program that takes longer than that as it is, in seconds, is looked at for a few executions only."""
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
    program: KernelProgram
    limits: Limits
    decided: Decided
    seconds: float


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
        """Whether something noticed, or nothing can; and whether nothing became safe that should not."""
        return bool(self.noticed or self.why) and not self.became_safe


def decide(program: KernelProgram, limits: Limits, executions: int) -> Decided:
    """A program decided within so many executions, its failure as it was found."""
    run = program.run()
    run.tell_apart(frozenset())
    try:
        found = search(run, replace(limits, executions=min(executions, limits.executions or executions)))
    except (KernelBug, BadInput) as error:
        return Decided("broken", f"error: {error}")
    finally:
        run.close()
    return Decided(found.word, found.failure.reason if found.failure else "")


def programs(text: str) -> Iterator[tuple[str, KernelProgram, Limits]]:
    """The variants of the races, each on the first of its configurations and none like another, and the pairs."""
    for case in CASES:
        for variant in case.variants:
            name = f"{case.name}/{variant.name}"
            if text in name and not ALIKE.search(variant.name):
                yield name, case.program(variant.name), case.limits
    yield from ((name, program(), Limits()) for name, program in pairs() if text in name)


def as_they_are(text: str, watching: Callable[[str], AbstractContextManager[object]]) -> dict[str, Known]:
    """Each program decided within the context that `watching` makes for it, by name."""
    known = {}
    for name, program, limits in programs(text):
        begun = time.process_time()
        with watching(name):
            decided = decide(program, limits, EXECUTIONS)
        known[name] = Known(name, program, limits, decided, time.process_time() - begun)
        progress(f"{known[name].seconds:6.1f} s  {name}: {decided.word} {decided.reason[:120]}")
    return known


def try_all(coming: Iterable[Known], changed: AbstractContextManager[None], seconds: float) -> Tried:
    """The programs that come to a place, with that changed, for about so many seconds."""
    order = sorted(coming, key=lambda one: (one.seconds, one.name))
    tried = Tried(len(order))
    end = time.process_time() + seconds
    with changed:
        for one in (one for one in order if one.decided.word == "broken"):
            tried.looked_at += 1
            then = decide(one.program, one.limits, EXECUTIONS)
            if then.word != "broken":
                (tried.now_safe if then.safe else tried.now_undecided).append(one.name)
        others = [one for one in order if one.decided.word != "broken"]
        _look_for_failures(others, end, tried)
    return tried


def _look_for_failures(others: Sequence[Known], end: float, tried: Tried) -> None:
    """Of programs that were not broken: whether one is now."""
    tried.looked_at += len(others)
    for executions in (FEW, EXECUTIONS):
        for one in others:
            if one.name in tried.finished or (executions > FEW and one.seconds > LONGEST):
                continue
            if time.process_time() > end:
                return
            then = decide(one.program, one.limits, executions)
            if then.safe:
                tried.finished.add(one.name)
            elif then.word == "broken":
                tried.noticed[then.kind] += 1
                tried.example = tried.example or f"{one.name}: {then.reason}"
                return


def row(site: str, tried: Tried, why: str, ends: Callable[[str], bool]) -> Row:
    """The row of a place; `ends` says of what was broken whether it is no wonder that it is safe now."""
    return Row(
        site,
        tried.programs,
        tried.looked_at,
        dict(tried.noticed),
        "" if tried.noticed else why,
        tried.example,
        [name for name in tried.now_safe if not ends(name)],
        [name for name in tried.now_safe if ends(name)],
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
    """Rows that were worked out before, in a file of JSON lines, or nowhere."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
        self._rows = {one["site"]: Row(**one) for one in map(json.loads, lines)}

    def get(self, site: str) -> Row | None:
        """The row of a place, if there is one."""
        return self._rows.get(site)

    def add(self, one: Row) -> None:
        """Keep a row."""
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                print(json.dumps(asdict(one)), file=file)


def part_of(every: Sequence[Any], part: str) -> Sequence[Any]:
    """``2/4``: the second, sixth, tenth … of all."""
    number, _, of = part.partition("/")
    return every[int(number) - 1 :: int(of)]


def progress(said: str) -> None:
    """Tell people how far it is, apart from what is printed."""
    print(said, file=sys.stderr, flush=True)
