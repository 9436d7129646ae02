"""``memhp races``: the verdict table, whole or in part, and what its exit code says."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json

import pytest
from rich.console import Console

from memhp.cli.main import main
from memhp.explore.cases import CASES
from memhp.explore.row import Row
from memhp.report.races import print_races, shows_reason

KEYS = {"name", "variant", "configuration", "verdict", "executions", "classes", "bound", "schedule"}


def row(**changes: object) -> Row:
    """A row as a search that found nothing would give it."""
    told: dict[str, object] = {
        "name": "race", "variant": "with-lock", "configuration": "arm64-4K-48-linux-6.12", "stands_for": "repaired",
        "current": False, "verdict": "safe", "executions": 2, "classes": 2, "steps": 10, "bound": None,
        "schedule": None, "reason": None,
    }  # fmt: skip
    return Row(**(told | changes))  # type: ignore[arg-type]


def printed(capsys: pytest.CaptureFixture[str], *rows: Row, full: bool = False) -> str:
    print_races(Console(width=200, highlight=False), rows, full=full)
    return capsys.readouterr().out


def test_rows_have_the_same_keys_whatever_the_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["races", "ptdump-vs-hot-remove", "--arch", "x86_64", "--json", "--jobs", "1"]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert {one["verdict"] for one in rows} == {"safe", "broken"}
    for one in rows:
        assert one.keys() >= KEYS
        assert one["name"] == "ptdump-vs-hot-remove"
        assert (one["schedule"] is None) == (one["verdict"] == "safe")


def test_processes_give_the_rows_that_one_process_gives(capfd: pytest.CaptureFixture[str]) -> None:
    found = []
    for jobs in ("1", "2"):
        main(["races", "ptdump-vs-hot-remove", "--arch", "x86_64", "--release", "linux-6.12", "--json", "--jobs", jobs])
        found.append(capfd.readouterr().out)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], ", ".join(one.name for one in CASES)),
        (["two-hotplugs", "--page-size", "8K"], "no race is left by these options"),
        (["--page-size", "big"], "--page-size"),
    ],
)
def test_what_cannot_be_decided_is_told_in_one_line(
    capfd: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(["races", *arguments]) == 2
    said = capfd.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert line in said.err


@pytest.mark.parametrize(
    ("changes", "as_known"),
    [
        ({}, True),
        ({"stands_for": "broken", "verdict": "broken"}, True),
        ({"verdict": "safe up to 1 failed allocation"}, True),
        ({"verdict": "broken"}, False),
        ({"verdict": "broken", "finding": "A heading"}, True),
        ({"stands_for": "broken"}, False),
        ({"stands_for": "broken", "note": "no table is shared here"}, True),
        ({"verdict": "undecided"}, False),
        ({"verdict": "undecided", "note": "too large"}, False),
    ],
)
def test_a_verdict_is_as_known_or_explained_or_neither(changes: dict[str, object], as_known: bool) -> None:
    assert row(**changes).as_known is as_known


def test_verdicts_of_a_variant_are_counted_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(
        capsys,
        row(stands_for="broken", verdict="broken", reason="freed-table: x"),
        row(stands_for="broken", configuration="arm64-64K-48-linux-6.12", note="no table is shared here"),
    )
    assert "broken 1, safe 1" in out
    assert "race with-lock (1 of its configurations): safe: no table is shared here" in out
    assert "1 race, 2 verdicts: 1 safe, 1 broken; 2 as known or explained" in out


def test_a_broken_kernel_of_today_is_named_with_its_finding(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, row(verdict="broken", current=True, finding="A heading", reason="leak: x"), full=True)
    assert "arm64-4K-48-linux-6.12" in out
    assert "broken: a kernel of today is broken: docs/findings.md, A heading" in out


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"verdict": "broken"}, True),
        ({"verdict": "broken", "stands_for": "broken", "current": True}, True),
        ({"verdict": "broken", "stands_for": "broken"}, False),
        ({"verdict": "broken", "finding": "A heading"}, False),
        ({"verdict": "broken", "note": "too large"}, False),
        ({"verdict": "safe"}, False),
    ],
)
def test_what_goes_wrong_is_told_where_nothing_else_explains_it(
    capsys: pytest.CaptureFixture[str], changes: dict[str, object], shown: bool
) -> None:
    one = row(**changes, reason="leak: x")
    assert shows_reason(one) is shown
    assert ("leak: x" in printed(capsys, one)) is shown


def test_an_undecided_race_says_how_far_it_got(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, row(verdict="undecided", executions=7))
    assert "undecided after 7 executions" in out
    assert "0 as known or explained" in out
