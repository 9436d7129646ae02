"""What the claims about altmaps and ZONE_DEVICE rest on, and the examples that show them at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shlex
from pathlib import Path

import pytest

from memhp.claims.claim import Claim, decide
from memhp.claims.table import CLAIMS
from memhp.scenario.load import load
from memhp.scenario.run import rehearse_scenario

ROOT = Path(__file__).parents[2]
MINE = [claim for claim in CLAIMS if claim.id in {"alt-1", "alt-2", "alt-3", "alt-4", "zd-1", "zd-2", "zd-3"}]
DRAFTS = {"altmap-draft-helper": ["memmap-storage", "altmaps"], "altmap-draft-consolidated": ["vmemmap"]}


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
def test_each_is_decided_and_shown(claim: Claim) -> None:
    row = decide(claim)
    assert row.verdict == ("answered" if row.id in {"alt-3", "alt-4", "zd-3"} else "reproduced")
    words = shlex.split(row.command)
    assert words[0] == "memhp" and all((ROOT / word).is_file() for word in words if word.endswith(".toml"))


@pytest.mark.parametrize("name", ["devdax-arm64-64k", "pmem-to-ram"])
def test_examples_end_as_they_say_and_keep_every_law(name: str) -> None:
    assert rehearse_scenario(load(ROOT / "examples" / f"{name}.toml"))[0].ok


@pytest.mark.parametrize(("name", "laws"), DRAFTS.items())
def test_examples_of_drafts_break_the_laws_that_they_are_about(name: str, laws: list[str]) -> None:
    run, _ = rehearse_scenario(load(ROOT / "examples" / f"{name}.toml"))
    assert [each.law for each in run.laws if not each.held] == laws
    assert all(step.as_expected for step in run.steps)
