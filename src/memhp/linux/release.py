"""Kernel releases, which of them carries a change, and what that says of the change's history.

A release without a point, ``6.12``, is the stable series as distributions carry it: changes that went back to 6.12.y
count as made. ``6.12.43`` is that point release.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

FIRST, LAST = "5.13", "7.2"
"""The releases between which every kernel is known."""
LAST_MINOR = {5: 19, 6: 19, 7: 2}
"""The last release of each major number, up to the newest that is known."""
LONGTERM = ("5.15", "6.1", "6.6", "6.12", "6.18")
"""Series that stable fixes go back to for years."""
READ = {"6.1": 176, "6.12": 117, "7.2": 13}
"""Series whose source was read, and at which point: what a table does not say of them, they do not have."""
_RELEASE = re.compile(r"(?:linux-)?v?(\d+)\.(\d+)(?:\.(\d+))?([-+~].*)?", re.ASCII)
_CANDIDATE = re.compile(r"[-~]rc\d")
"""How the suffix of a release candidate begins: it has nothing of its stable series."""


class Release(NamedTuple):
    """A kernel release; without a point, its whole stable series, as far as it has come."""

    major: int
    minor: int
    point: int | None = None

    @property
    def series(self) -> tuple[int, int]:
        """``(6, 12)`` of 6.12.43."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + ("" if self.point is None else f".{self.point}")


def parse_release(text: str) -> Release | None:
    """The release that ``6.12``, ``linux-6.12``, ``v6.12.43`` or ``uname -r`` names; None for anything else.

    Distributions that number their kernels themselves, ``6.1.0-56-amd64``, do not tell the point: the series, then.
    ``6.1-rc3`` is before all of its points.
    """
    match = _RELEASE.fullmatch(text)
    if match is None:
        return None
    point = int(match[3]) if match[3] else None
    if match[4] and not point:
        point = 0 if _CANDIDATE.match(match[4]) else None
    return Release(int(match[1]), int(match[2]), point)


def left_open(text: str) -> str:
    """What the name of a kernel does not say of its fixes, as a sentence; empty for one that says all."""
    match, release = _RELEASE.fullmatch(text), parse_release(text)
    if match is None or release is None:
        return ""
    name = f"{release.major}.{release.minor}"
    parts = []
    if release.point is None:
        where = " (uname -v may have it)" if match[4] else ""
        parts.append(
            f"{text} names no point release{where} and is taken as the last of {name}.y: write {name}.N for another"
        )
    if match[4] and not _CANDIDATE.match(match[4]):
        parts.append("what a distribution took back by itself is not known here")
    return "; ".join(parts)


def known_release(release: Release) -> bool:
    """Whether the tables say what that kernel does."""
    newest = LAST_MINOR.get(release.major)
    return newest is not None and series(FIRST) <= release.series and release.minor <= newest


def same_series(release: Release, name: str) -> bool:
    """Whether a kernel of that name is of the release's series."""
    other = parse_release(name)
    return other is not None and other.series == release.series


def series(text: str) -> tuple[int, int]:
    """The major and the minor number of a release that is known to be one."""
    release = parse_release(text)
    assert release is not None
    return release.series


@dataclass(frozen=True)
class Since:
    """A value of a choice, and the change that brought it."""

    value: Any
    release: str = ""
    """The first release with it, or, with `after`, the oldest that is known to have it; empty for what was there before
    any that is known, and for what a stable series alone had."""
    title: str = ""
    """The title of the commit."""
    after: str = ""
    """The newest release that is known not to have it, where the first with it is not known; else empty."""
    stable: tuple[str, ...] = ()
    """Point releases of older series that took the commit, where they are known."""

    @property
    def from_the_start(self) -> bool:
        """Whether it was there before the first release that is known."""
        return not self.release and not self.stable

    @property
    def established(self) -> bool:
        """Whether the first release with it is known."""
        return not self.after

    def made_in(self, release: Release) -> bool:
        """Whether that kernel has it, as far as is known."""
        if self.from_the_start or (self.release and release.series >= series(self.release)):
            return True
        return any(
            release.series == taken.series and (release.point is None or release.point >= (taken.point or 0))
            for taken in map(parse_release, self.stable)
            if taken is not None
        )

    def open_in(self, release: Release) -> bool:
        """Whether it is not known if that kernel has it.

        Between the last release without and the first with it; and where some series are known to have taken it
        back, and this is another that stable fixes go to.
        """
        name = f"{release.major}.{release.minor}"
        if self.made_in(release) or not self.release or name in READ:
            return False
        if self.after and release.series > series(self.after):
            return True
        taken = any(series(point) == release.series for point in self.stable)
        return bool(self.stable) and name in LONGTERM and not taken and release.point != 0

    @property
    def when(self) -> str:
        """``5.18``, ``6.13–7.2`` for somewhere in between, with the point releases that took it."""
        text = f"after {self.after}, by {self.release}" if self.after else self.release
        points = ", ".join(self.stable)
        return f"{text} ({points})" if text and points else text or points or f"before {FIRST}"


def first(value: Any) -> Since:
    """What was there before any release that is known."""
    return Since(value)


def since(release: str, value: Any, title: str = "", stable: tuple[str, ...] = ()) -> Since:
    """What `release` was the first to have."""
    return Since(value, release, title, stable=stable)


def between(after: str, by: str, value: Any, title: str = "", stable: tuple[str, ...] = ()) -> Since:
    """What some release behind `after` was the first to have, and `by` has."""
    return Since(value, by, title, after, stable)


def only(stable: str, value: Any, title: str = "") -> Since:
    """What a stable series alone had, from that point release on."""
    return Since(value, "", title, stable=(stable,))
