"""What ``--json`` prints of commands that ask real kernels: captures, comparisons, guests in QEMU."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal

import msgspec

from memhp.conform.compare import Detail
from memhp.target.guest.doctor import Check
from memhp.target.guest.run import GuestStep


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal[1] = 1
    """The version of the document."""


class CaptureDocument(_Document, frozen=True, kw_only=True):
    """``memhp capture --json``."""

    verdict: Literal["captured"] = "captured"
    out: str
    """The folder or archive."""
    steps: dict[str, list[str]]
    """Moment → the files that were kept."""


class ConformMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one comparison."""

    name: str
    facts: int
    equal: int
    differing: int
    incomparable: int


class LivesDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What came of random lives."""

    drawn: int
    finished: int
    """Those that ended with their last step, or with the first after which anything differed."""
    differed: int
    steps: int
    tried: int
    """More lives, to make those that differed smaller."""
    unsteady: int
    """Of `kept`, those that did not differ so again, in the time that there was."""
    unfinished: list[str]
    """Why the others ended before: a guest that is too slow is no difference."""
    kept: list[str]
    """The smallest life of each kind of difference, as a scenario."""


class ConformDocument(_Document, frozen=True, kw_only=True):
    """``memhp conform --json``."""

    verdict: Literal["conforms", "differs"]
    facts: int
    equal: int
    differing: int
    incomparable: int
    """Facts that cannot be held against each other, for the reasons in `details`."""
    machines: list[ConformMachine]
    """The same for each machine, and for each scenario on it."""
    skipped: dict[str, str]
    """What was not compared, and why."""
    details: list[Detail]
    lives: LivesDocument | None = None
    """With ``--random`` only."""


class GuestDoctorDocument(_Document, frozen=True, kw_only=True):
    """``memhp guest doctor --json``."""

    verdict: Literal["ready", "incomplete"]
    checks: list[Check]


class GuestFetchDocument(_Document, frozen=True, kw_only=True):
    """``memhp guest fetch --json``."""

    verdict: Literal["fetched"] = "fetched"
    cache: str
    """The folder that holds them."""
    kernels: list[str]
    """``uname -r`` of each."""


class FetchedKernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that is there."""

    release: str
    arch: str
    image: str
    """Its file."""


class GuestListDocument(_Document, frozen=True, kw_only=True):
    """``memhp guest list --json``."""

    verdict: Literal["listed"] = "listed"
    kernels: list[FetchedKernel]
    flavours: list[str]
    """What can be fetched."""


class GuestRunDocument(_Document, frozen=True, kw_only=True):
    """``memhp guest run --json``."""

    verdict: Literal["expected", "unexpected"]
    release: str
    steps: list[GuestStep]


GUEST_DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "capture": CaptureDocument,
    "conform": ConformDocument,
    "guest doctor": GuestDoctorDocument,
    "guest fetch": GuestFetchDocument,
    "guest list": GuestListDocument,
    "guest run": GuestRunDocument,
}
"""The document of each of these commands."""
