"""Random lives, with a model in the place of the real machine: as it is, and with a defect that they have to find."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from captures import facts, open_capture
from memhp.conform.draw import KINDS, SAMPLES
from memhp.conform.life_file import scenario_text
from memhp.conform.life_results import Lives
from memhp.conform.lives import LENGTH, random_lives
from memhp.facts.observed import Facts
from memhp.scenario import schema
from memhp.scenario.load import loads
from memhp.target.model.target import ModelTarget
from memhp.target.target import Done, Target

MACHINE = "x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"


def boot() -> Facts:
    """What the machine showed when it had booted."""
    return facts(MACHINE, next(iter(open_capture(MACHINE))))


class Seen(ModelTarget):
    """A model that shows, besides what it derives, what a real machine of its kind showed after boot."""

    def facts(self) -> Facts:
        shown, seen = super().facts(), boot()
        return replace(
            seen,
            iomem=shown.iomem,
            zones=shown.zones,
            memory=shown.memory,
            params=shown.params,
            pagetypeinfo=shown.pagetypeinfo,
            qemu=None,
            meminfo={**seen.meminfo, **shown.meminfo},
            vmstat={**seen.vmstat, **shown.vmstat},
        )


class Deaf(Seen):
    """A machine whose parameters stay as they are, whatever is written."""

    def carry_out(self, step: schema.StepKind) -> Done:
        return Done(step, "ok") if isinstance(step, schema.Set) else super().carry_out(step)


def lives_of(kind: type[ModelTarget], count: int, number: int = 0) -> Lives:
    @contextmanager
    def begin() -> Iterator[Target]:
        yield kind(ModelTarget.like(boot()).session)

    first = [schema.VirtioMem(size="2G")]
    return random_lives(begin, count, number, first=first)


@pytest.fixture(scope="module")
def of_deaf() -> Lives:
    return lives_of(Deaf, 4, 1)


def test_a_machine_that_does_as_the_model_does_differs_in_no_life() -> None:
    out = lives_of(Seen, 2)
    assert (out.lives, out.tried, out.differed, out.kept) == (2, 0, 0, [])
    assert out.found.facts == out.found.equal > 2 * LENGTH[0] * 100
    assert out.steps >= 2 * LENGTH[0]


def test_a_difference_is_shrunk_to_the_one_step_that_shows_it(of_deaf: Lives) -> None:
    out = of_deaf
    device, step = out.kept[0].steps
    assert isinstance(device, schema.VirtioMem)
    assert step == schema.Set(parameter="auto_online_blocks", to="offline")
    assert out.kept[0].kind == {"/sys/devices/system/memory/auto_online_blocks"}
    assert out.tried > 0 == out.unsteady


def test_the_same_seed_draws_the_same_lives() -> None:
    one, other, another = (lives_of(Seen, 2, number) for number in (7, 7, 8))
    assert (one.steps, one.found.facts) == (other.steps, other.found.facts)
    assert (one.steps, one.found.facts) != (another.steps, another.found.facts)


def test_a_life_is_kept_as_a_scenario_that_says_the_same(of_deaf: Lives) -> None:
    life = of_deaf.kept[0]
    first = [schema.VirtioMem(size=2 << 30)]
    text = scenario_text(life, first, {"arch": "x86_64", "memory": "1G"}, "7.2.0", "")
    scenario = loads(text)
    assert scenario.steps[0] == first[0]
    assert scenario.steps[1:] == list(life.steps[1:])
    assert text.startswith("# A random life of 7.2.0, after whose last step these facts differed:\n# /")


def test_every_kind_has_a_sample() -> None:
    assert list(SAMPLES) == list(KINDS)


def test_nothing_is_printed_but_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    lives_of(Deaf, 1, 1)
    assert capsys.readouterr().out == ""
