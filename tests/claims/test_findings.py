"""The page of findings says of each what the table says: id, status, command and repair."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from pathlib import Path

import pytest

from memhp.claims.claim import Claim
from memhp.claims.table_findings import CLAIMS
from memhp.cli.main import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
STATUS = r"(read in source|seen in a guest|reported|fixed in [\w. ]+)"


@pytest.mark.parametrize("finding", CLAIMS, ids=lambda finding: finding.id)
def test_the_page_says_what_the_table_says(finding: Claim) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"\n\n`{finding.id}`: {finding.status}. `{finding.command}`\n\nRepair: {finding.answer}\n" in text


def test_ids_stand_on_the_page_in_the_order_of_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## .*\n\n`(f-\d+)`", text, re.M) == [finding.id for finding in CLAIMS]


@pytest.mark.parametrize("finding", CLAIMS, ids=lambda finding: finding.id)
def test_a_finding_has_a_status_and_a_command_of_ours(finding: Claim) -> None:
    assert re.fullmatch(f"{STATUS}(, {STATUS})*", finding.status)
    assert finding.command.split()[1] in COMMANDS
