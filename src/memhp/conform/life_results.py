"""What came of random lives: each life with what differed at its end, and the sums."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass, field

from memhp.conform.compare import Comparison, Detail
from memhp.scenario.schema import StepKind


@dataclass(frozen=True)
class Life:
    """The steps of a life as they were carried out, and what differed after the last."""

    steps: tuple[StepKind, ...]
    details: tuple[Detail, ...]

    @property
    def kind(self) -> frozenset[str]:
        """The names of the facts that differ, without their numbers."""
        return frozenset(re.sub(r"0x[0-9a-f]+|\d+", "N", detail.fact) for detail in self.details)


@dataclass
class Lives:
    """What came out of lives; `kept` are the smallest of each kind that differed."""

    lives: int = 0
    """Those that were drawn; those that shrinking tried are `tried`."""
    tried: int = 0
    steps: int = 0
    differed: int = 0
    """Lives at whose end something differed."""
    found: Comparison = field(default_factory=Comparison)
    kept: list[Life] = field(default_factory=list)
    unsteady: int = 0
    """Of `kept`, those that did not differ so again, in the time that there was."""
    unfinished: list[str] = field(default_factory=list)
    """Why lives ended before their time though nothing differed: the guest was too slow, or time was up."""
