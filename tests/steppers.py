"""Steppers for tests: what the explorer puts behind the doors, without its switching."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby

from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.stepper import Access, EachAlone, Fields, Level
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.spans import Span


class Recorder(EachAlone):
    """A stepper that never switches: it takes everything apart into single accesses and writes them down."""

    listens = True

    def __init__(self) -> None:
        self.accesses: list[Access] = []

    def step(self, access: Access) -> None:
        self.accesses.append(access)

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        pass

    def fails(self, site: str) -> bool:
        return False

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        assert ready(), f"nobody else is there to bring an end to {why}"

    def told(self, *locks: str) -> list[str]:
        """The accesses in words, runs of equal ones as one with a star; of locks only the named ones, no counters."""
        words = [_words(access) for access in self.accesses if _wanted(access, locks)]
        return [word if len(list(same)) == 1 else f"{word} *" for word, same in groupby(words)]


def halves(count: int) -> Iterator[int]:
    """A loop of so many rounds, in two."""
    return (half for half in (count // 2, count - count // 2) if half)


class Asked:
    """Faults by which nothing fails: they count how often each site asks."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def fails(self, site: str) -> bool:
        self.times[site] += 1
        return False

    def parts(self, count: int) -> Iterator[int]:
        return halves(count)


class Failing:
    """Faults by which one allocation fails: the one at a site (any, if none is named) for the so-and-so-many-th time.

    Loops are cut in half, so that what fails is the first half or the second.
    """

    def __init__(self, site: str | None, time: int) -> None:
        self.site = site
        self.left = time
        self.failed: str | None = None
        """The site that did fail."""

    def fails(self, site: str) -> bool:
        self.left -= self.site in (None, site)
        if self.failed is None and self.left == 0 and self.site in (None, site):
            self.failed = site
            return True
        return False

    def parts(self, count: int) -> Iterator[int]:
        return halves(count)


def _wanted(access: Access, locks: tuple[str, ...]) -> bool:
    if isinstance(access.target, Level | Fields):
        return False
    return access.kind not in ("lock", "unlock") or access.target in locks


def _words(access: Access) -> str:
    target = access.target
    if isinstance(target, Table):
        text = f"{access.kind} {HEIGHT_NAMES[target.height]}"
        return text if access.kind == "load" or access.value else f"{text} none"
    if isinstance(target, Span):
        if access.kind == "flush":
            return "flush all" if target == ALL_ADDRESSES else "flush range"
        return f"{access.kind} {target.size}"
    return f"{access.kind} {target}"
