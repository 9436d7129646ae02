"""The page of findings says of each what the table says: id, status, command and repair."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from pathlib import Path

import pytest

from memhp.claims.claim import Claim, decide
from memhp.claims.fix import Called, Raced
from memhp.claims.repair import repair_row
from memhp.claims.table_findings import CLAIMS
from memhp.claims.table_repairs import REPAIRS
from memhp.claims.table_witnesses import WITNESSES
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


def test_every_finding_has_a_repair_that_is_explored_or_says_why_there_is_no_race() -> None:
    assert list(REPAIRS) == list(WITNESSES) == [finding.id for finding in CLAIMS]
    for name, repair in REPAIRS.items():
        assert repair.choices
        assert isinstance(WITNESSES[name], Raced) != bool(repair.no_race), name


@pytest.mark.parametrize("name", REPAIRS)
def test_with_the_repair_every_law_holds_over_the_steps_that_show_its_cost(name: str) -> None:
    row = repair_row(REPAIRS[name], "explored")
    assert row.rehearsed.startswith("every law held; ")


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        # a PMD leaf of struct pages for each 128 MiB, flushed by one page of it
        ("f-2", "invalidations 263171 → 263179"),
        # one flush behind all in place of one behind all
        ("f-3", "invalidations 11, as before"),
        # 16 MiB of struct pages for a GiB that was plugged
        ("f-1", f"free 916692 KiB → {916692 + 16 * 1024} KiB"),
        # a leaf of 32 MiB, and its flush
        ("f-16", "invalidations 1 → 2"),
        ("f-16", f"free 3990032 KiB → {3990032 + 32 * 1024} KiB"),
        ("f-18", "invalidations 1036, as before; entries written 525330, as before"),
    ],
)
def test_what_a_repair_costs(name: str, cost: str) -> None:
    assert cost in repair_row(REPAIRS[name], "").cost


CALLED = [finding for finding in CLAIMS if isinstance(WITNESSES[finding.id], Called)]


@pytest.mark.parametrize("finding", CALLED, ids=lambda finding: finding.id)
def test_where_steps_do_not_come_by_functions_show_the_repair_on_both_sides(finding: Claim) -> None:
    row = decide(finding)
    assert row.repair is not None
    broken = row.figure.removeprefix("as it is: ").removesuffix("; repaired: nothing breaks")
    assert row.repair.rehearsed.endswith(f"; called by themselves: {broken} → nothing breaks")
