"""What the claims about altmaps and ZONE_DEVICE rest on, and the examples that show them at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.scenario.load import load
from memhp.target.model.run import rehearse_scenario

ROOT = Path(__file__).parents[2]
DRAFTS = {"altmap-draft-helper": ["memmap-storage", "altmaps"], "altmap-draft-consolidated": ["vmemmap"]}


@pytest.mark.parametrize("name", ["devdax-arm64-64k", "pmem-to-ram"])
def test_examples_end_as_they_say_and_keep_every_law(name: str) -> None:
    assert rehearse_scenario(load(ROOT / "examples" / f"{name}.toml"))[0].ok


@pytest.mark.parametrize(("name", "laws"), DRAFTS.items())
def test_examples_of_drafts_break_the_laws_that_they_are_about(name: str, laws: list[str]) -> None:
    run, _ = rehearse_scenario(load(ROOT / "examples" / f"{name}.toml"))
    assert [each.law for each in run.laws if not each.held] == laws
    assert all(step.as_expected for step in run.steps)
