"""Random lives of a live kernel: drawn step by step, played on guest and model in lock-step, shrunk where they differ.

Hypothesis draws and shrinks. A life ends with the first step after which anything differs. What differs has a kind, the
facts' names without their numbers; once a kind has its smallest life, further lives are drawn, and those that differ in
nothing else are counted and not shrunk again. Every life begins from the same snapshot of the guest.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, FlakyFailure
from hypothesis.reporting import with_reporter

from memhp.conform.compare import add_lost
from memhp.conform.draw import DEVICE, KINDS, SAMPLES, Choices
from memhp.conform.life_results import Life, Lives
from memhp.conform.lockstep import Lockstep
from memhp.scenario.schema import Resize, StepKind
from memhp.scenario.titles import title
from memhp.target.guest.agent import GuestLost, GuestSlow
from memhp.target.model.target import ModelTarget
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


class Differs(Exception):
    """A life showed a kind of difference that is not known yet."""


class _Enough(BaseException):
    """A life has been made as small as time allows; Hypothesis lets it pass."""


def _nobody(text: object) -> None:
    """Whom Hypothesis tells what it thinks of a life: it would print that into our own output."""


class _Drawn:
    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def pick(self, values: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(values))

    def number(self, most: int) -> int:
        return self._data.draw(st.integers(0, most))


def play(both: Lockstep, first: Sequence[StepKind], choices: Choices, until: float = math.inf) -> None:
    """One life, until something differs or it is long enough. `first` are steps that every life begins with.

    Raises :class:`GuestSlow` when ``time.monotonic()`` is past `until`.
    """
    for step in first:
        both.carry_out(step)
    length = choices.number(LENGTH[1] - LENGTH[0]) + LENGTH[0]
    kinds = [kind for kind, sample in SAMPLES.items() if both.real.refusal(sample) is None]
    for _ in range(length * DRAWINGS):
        if both.found.differing or len(both.done) - len(first) >= length:
            return
        if time.monotonic() > until:
            raise GuestSlow("time is up")
        drawn = KINDS[choices.pick(kinds)](choices, both.model)
        if drawn is None:
            continue
        both.carry_out(drawn)
        if isinstance(drawn, Resize) and not both.found.differing and (left := _left(both.model)) is not None:
            both.carry_out(left)


def _left(model: ModelTarget) -> Resize | None:
    """What ends the driver's trying where a device did not get to its size: it would go on in 50 seconds of real time,
    which is at another step in every run.
    """
    device = model.session.devices[DEVICE].device
    stuck = device.plugged_size != device.requested_size
    return Resize(to=device.plugged_size, device=DEVICE) if stuck else None


def random_lives(
    begin: Begin,
    count: int,
    number: int,
    *,
    first: Sequence[StepKind] = (),
    progress: Progress | None = None,
    seconds: float = math.inf,
) -> Lives:
    """Play `count` lives that follow from the seed `number`, or as many as begin in so many seconds.

    A guest that dies of its life is a difference; one that is too slow is none.
    """
    out = Lives()
    known: set[str] = set()
    until = time.monotonic() + seconds
    while out.lives < count and time.monotonic() < until:
        smallest = _until_new(out, known, begin, count - out.lives, number + len(out.kept), first, progress, until)
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
    until: float,
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
        if time.monotonic() > until or (latest and out.tried - tried >= SHRINKS):
            raise _Enough
        if latest:
            out.tried += 1
        else:
            out.lives += 1
        life = _one_life(out, begin, first, _Drawn(data), until)
        if progress is not None:
            progress(out.lives, f"{'shrinking, ' if latest else ''}{len(life.steps)} steps")
        if life.kind - known:
            latest.append(life)
            raise Differs(", ".join(sorted(life.kind)))

    with suppress(Differs, _Enough, Flaky, FlakyFailure), with_reporter(_nobody):
        one()
    smallest = min(latest, key=lambda life: (len(life.steps), sum(map(len, map(title, life.steps)))), default=None)
    if smallest is not None and sum(bool(life.kind & smallest.kind) for life in latest) < 2:
        out.unsteady += 1
    return smallest


def _one_life(out: Lives, begin: Begin, first: Sequence[StepKind], choices: Choices, until: float) -> Life:
    both: Lockstep | None = None
    try:
        with begin() as real:
            both = Lockstep(real)
            play(both, first, choices, until)
    except GuestSlow as error:
        out.unfinished.append(f"after {len(both.done) if both is not None else 0} steps: {error}")
    except GuestLost as error:
        if both is None or not both.done:
            raise
        add_lost(both.found, f"{len(both.done)}-{title(both.done[-1])}", error)
    if both is None:
        return Life((), ())
    _count(out, both)
    return Life(tuple(both.done), tuple(each for each in both.found.details if each.verdict == "differing"))


def _count(out: Lives, both: Lockstep) -> None:
    """Add what a life came to."""
    out.steps += len(both.done)
    out.differed += both.found.differing > 0
    out.found.facts += both.found.facts
    out.found.equal += both.found.equal
    out.found.details += both.found.details
