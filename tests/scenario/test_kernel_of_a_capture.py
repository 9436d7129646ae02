"""Which kernel a captured machine is taken for: that of the release it tells of itself."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import replace

import pytest

from captures import all_captures, facts, open_capture
from memhp.errors import BadInput
from memhp.scenario.schema import MachineText, Scenario
from memhp.target.model.run import rehearse
from memhp.target.seen.assumptions import CHOICES, KERNEL
from memhp.target.seen.sources import facts_spec

OLD = [name for name in all_captures() if name.startswith("x86_64-6.1.0-")]
NEW = next(name for name in all_captures() if name.startswith("x86_64-6.12"))


def taken_for(release: str) -> str:
    observed = replace(facts(NEW, next(iter(open_capture(NEW)))), release=release)
    return facts_spec(observed, MachineText(source=NEW)).config.profile.name


@pytest.mark.parametrize(
    ("release", "kernel"),
    [
        ("6.12.94+deb13-amd64", "linux-6.12.94"),
        ("6.12.117+deb13-amd64", "linux-6.12"),
        ("6.1.0-56-cloud-amd64", "linux-6.1"),
        ("5.15.0-91-generic", "linux-5.15"),
        ("5.14.0-503.el9.x86_64", "linux-5.14"),
        ("6.8.12", "linux-6.8"),
        ("7.4.0", "linux-7.2"),
    ],
)
def test_a_capture_is_taken_for_the_release_that_it_tells(release: str, kernel: str) -> None:
    assert taken_for(release) == kernel


@pytest.mark.parametrize("name", OLD)
def test_a_6_1_capture_runs_6_1_and_assumes_nothing_of_its_choices(name: str) -> None:
    observed = facts(name, next(iter(open_capture(name))))
    spec = facts_spec(observed, MachineText(source=name))
    run, _ = rehearse(spec, Scenario(machine=MachineText(source=name)).steps, observed=observed)
    said = {each.what: each for each in run.assumptions}
    assert spec.config.profile.name == "linux-6.1"
    assert said[KERNEL].basis == "told"
    assert CHOICES not in said


@pytest.mark.parametrize(
    ("release", "profile", "words"),
    [
        ("8.1.0", None, "Linux 8.1.0 does what linux-7.2 does; in what else they differ is not known, "),
        ("5.10.0-30-amd64", "linux-5.13", "does what linux-5.13 does; in what else they differ is not known"),
        # memmap_on_memory=force came with 6.6
        ("6.5.3", "linux-6.12", r"does what linux-6.12 does; known to differ: .*\bmemmap_on_memory, "),
    ],
)
def test_a_kernel_that_stands_in_is_named_with_what_is_known_to_differ(
    release: str, profile: str | None, words: str
) -> None:
    observed = replace(facts(NEW, next(iter(open_capture(NEW)))), release=release)
    run, _ = rehearse(facts_spec(observed, MachineText(source=NEW, profile=profile)), [], observed=observed)
    (told,) = [each for each in run.assumptions if each.what == KERNEL]
    assert told.basis == "assumed"
    assert re.search(words, told.text)


@pytest.mark.parametrize(("release", "words"), [("5.10.1", "is older than any"), ("weird", "is no release of Linux")])
def test_a_kernel_for_which_none_can_stand_in_unasked_is_refused(release: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        taken_for(release)


def test_a_release_that_was_not_read_says_what_it_assumes() -> None:
    observed = replace(facts(NEW, next(iter(open_capture(NEW)))), release="6.18.3")
    run, _ = rehearse(facts_spec(observed, MachineText(source=NEW)), [], observed=observed)
    (told,) = [each for each in run.assumptions if each.what == CHOICES]
    assert told.basis == "assumed"
    assert "vmap_huge_lock" in told.text
