"""Every claim is decided as this model decides it, and the command that it names works."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from pathlib import Path

import pytest

from memhp.claims import riscv_hotplug
from memhp.claims.claim import Claim, decide
from memhp.claims.table import CLAIMS
from memhp.scenario.load import load

ROOT = Path(__file__).parent.parent.parent


def test_every_claim_has_an_id_of_its_own() -> None:
    assert [each for each, count in Counter(claim.id for claim in CLAIMS).items() if count > 1] == []
    families = Counter(claim.id.split("-")[0] for claim in CLAIMS)
    assert families == {"rv": 11, "a64": 7, "mom": 9, "alt": 4, "zd": 3}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_decided_with_a_figure_and_none_is_refuted(claim: Claim) -> None:
    row = decide(claim)
    assert row.verdict in {"reproduced", "answered"}, row
    assert row.figure


def test_virtio_mem_on_riscv64_works_in_the_model_on_every_mainline_kernel() -> None:
    figure = riscv_hotplug.virtio_mem().figure
    assert figure.startswith("in the model 12 of 12 devices of mainline kernels")
    assert figure.count("in a guest with this device: 15 of 15 steps") == 2


def test_commands_name_scenarios_that_exist_and_can_be_read() -> None:
    files = [claim.command.split()[2] for claim in CLAIMS if claim.command.startswith("memhp rehearse examples/")]
    assert files
    for file in files:
        assert load(ROOT / file).steps


def test_a_policy_that_does_not_do_what_it_says_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(riscv_hotplug.POLICIES, "preallocate", riscv_hotplug.POLICIES["none"])
    assert riscv_hotplug.root_entries().verdict == "refuted"


def test_a_rule_that_changes_nothing_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, race, off, _, name = riscv_hotplug.RULES[0]
    monkeypatch.setattr(riscv_hotplug, "RULES", ((rule, race, off, off, name),))
    assert riscv_hotplug.neighbours().verdict == "refuted"
