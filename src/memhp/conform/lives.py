"""Random lives of a live kernel: drawn step by step, played on guest and model in lock-step, shrunk where they differ.

Hypothesis draws and shrinks. A life ends with the first step after which anything differs. What differs has a kind, the
facts' names without their numbers; once a kind has its smallest life, further lives are drawn, and those that differ in
nothing else are counted and not shrunk again. Every life begins from the same snapshot of the guest.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, FlakyFailure

from memhp.conform.compare import Comparison, Detail
from memhp.conform.draw import KINDS, SAMPLES, Choices
from memhp.conform.lockstep import Lockstep
from memhp.conform.rules import Context
from memhp.scenario.schema import StepKind
from memhp.target.guest.agent import GuestLost
from memhp.target.model.steps import title
from memhp.target.target import Target

T = TypeVar("T")

LENGTH = (10, 20)
"""How many steps a life may have."""
SHRINKS = 60
"""How many lives are tried to make one smaller; a life takes seconds."""
DRAWINGS = 3
"""How often, for each step of a life, something is drawn that may come to nothing."""

Begin = Callable[[], AbstractContextManager[Target]]
"""A machine as it was at first, for as long as a block runs."""
Progress = Callable[[int, str], None]
"""Called with the number of lives that were begun, and what happens now."""


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
    """Of `kept`, those that did not differ again when they were played again."""


class Differs(Exception):
    """A life showed a kind of difference that is not known yet."""


class _Enough(BaseException):
    """A life has been made as small as time allows; Hypothesis lets it pass."""


class _Drawn:
    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def pick(self, values: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(values))

    def number(self, most: int) -> int:
        return self._data.draw(st.integers(0, most))


def play(both: Lockstep, first: Sequence[StepKind], choices: Choices) -> None:
    """One life, until something differs or it is long enough. `first` are steps that every life begins with."""
    for step in first:
        both.carry_out(step)
    length = choices.number(LENGTH[1] - LENGTH[0]) + LENGTH[0]
    kinds = [kind for kind, sample in SAMPLES.items() if both.real.refusal(sample) is None]
    for _ in range(length * DRAWINGS):
        if both.found.differing or len(both.done) - len(first) >= length:
            return
        drawn = KINDS[choices.pick(kinds)](choices, both.model)
        if drawn is not None:
            both.carry_out(drawn)


def random_lives(
    begin: Begin, count: int, number: int, *, first: Sequence[StepKind] = (), progress: Progress | None = None
) -> Lives:
    """Play `count` lives that follow from the seed `number`; a guest that dies of its life is a difference."""
    out = Lives()
    known: set[str] = set()
    while out.lives < count:
        smallest = _until_new(out, known, begin, count - out.lives, number + len(out.kept), first, progress)
        if smallest is None:
            break
        out.kept.append(smallest)
        known |= smallest.kind
    return out


def _until_new(
    out: Lives,
    known: set[str],
    begin: Begin,
    count: int,
    number: int,
    first: Sequence[StepKind],
    progress: Progress | None,
) -> Life | None:
    """Draw lives until one differs in a way that is not known, and shrink it; None when none of `count` does."""
    latest: list[Life] = []
    tried = out.tried

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def one(data: st.DataObject) -> None:
        if latest and out.tried - tried >= SHRINKS:
            raise _Enough
        if latest:
            out.tried += 1
        else:
            out.lives += 1
        life = _one_life(out, begin, first, _Drawn(data))
        if progress is not None:
            progress(out.lives, f"{'shrinking, ' if latest else ''}{len(life.steps)} steps")
        if life.kind - known:
            latest.append(life)
            raise Differs(", ".join(sorted(life.kind)))

    try:
        one()
    except (Differs, _Enough):
        pass
    except (Flaky, FlakyFailure):
        out.unsteady += 1
    return min(latest, key=lambda life: (len(life.steps), sum(map(len, map(title, life.steps)))), default=None)


def _one_life(out: Lives, begin: Begin, first: Sequence[StepKind], choices: Choices) -> Life:
    with begin() as real:
        both = Lockstep(real)
        try:
            play(both, first, choices)
        except GuestLost as error:
            both.found.add(f"{len(both.done)}-{title(both.done[-1])}", "the guest", str(error), "alive", Context())
        finally:
            _count(out, both)
    return Life(tuple(both.done), tuple(each for each in both.found.details if each.verdict == "differing"))


def _count(out: Lives, both: Lockstep) -> None:
    """Add what a life came to."""
    out.steps += len(both.done)
    out.differed += both.found.differing > 0
    out.found.facts += both.found.facts
    out.found.equal += both.found.equal
    out.found.details += both.found.details
