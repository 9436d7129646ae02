"""What was done to a real machine, written down by hand as scenario files: played, each ends as that machine did.

``tests/data/scenarios/CAPTURE--STEP.toml`` leads from the first moment of a capture to a later step of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import DATA, captures, facts
from memhp.facts.derive import derive
from memhp.scenario.load import load
from memhp.target.model.run import rehearse_scenario
from replay.test_captures import compared
from replay.unequal import unnamed

SCENARIOS = sorted(path.stem for path in (DATA / "scenarios").glob("*.toml") if path.stem.split("--")[0] in captures())


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_the_machine_did(name: str) -> None:
    capture, step = name.split("--")
    run, k = rehearse_scenario(load(DATA / "scenarios" / f"{name}.toml"))
    assert [(each.title, each.outcome.reason) for each in run.steps if not each.as_expected] == []
    assert [law.law for law in run.laws if not law.held] == []
    observed = facts(capture, step)
    real, mine = compared(observed, derive(k))
    unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
    surprising, _ = unnamed(observed, unequal)
    assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}
