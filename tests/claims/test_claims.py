"""Every claim has the verdict that it is known to have, kernel by kernel, and names what stands behind it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import shlex
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from claims.verdicts import VERDICTS, Pinned
from memhp.claims.claim import Claim, ClaimRow, Evidence, Finding, RepairRow, decide, over_releases, together
from memhp.claims.device_records import records
from memhp.claims.parallel import decided
from memhp.claims.table import CLAIMS
from memhp.cli.main import main
from memhp.report.claims import print_claims
from memhp.report.claims_page import claims_page
from memhp.scenario.load import load

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
KINDS = {"capture", "guest", "source", "posting", "model only"}


def test_every_claim_has_an_id_of_its_own_and_a_pinned_verdict() -> None:
    assert [each for each, count in Counter(claim.id for claim in CLAIMS).items() if count > 1] == []
    assert [claim.id for claim in CLAIMS] == list(VERDICTS)


FIGURES = dict(line.split("\t") for line in (Path(__file__).parent / "figures.tsv").read_text().splitlines()[1:])
"""What stood behind each verdict when it was judged, as ``memhp claims --json`` has it. What is known of the figures
from elsewhere is in test_figures.py; a figure that is another now wants its verdict judged anew.
"""


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_decided_as_is_known_kernel_by_kernel_by_the_figure_that_it_was_judged_by(claim: Claim) -> None:
    row = decide(claim)
    assert Pinned(row.verdict, row.by_release, VERDICTS[claim.id].why) == VERDICTS[claim.id], row.figure
    assert row.as_known
    assert row.figure == FIGURES[claim.id]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_what_a_claim_is_held_against_is_there(claim: Claim) -> None:
    """Captures, page tables and logs of guests come with the tests; functions are in the record of kernel sources."""
    guests = {path.name for path in (DATA / "ptcores").iterdir()} | {record.release for record in records()}
    guests |= {path.stem for folder in ("modules", "logs") for path in (DATA / folder).glob("*.txt")}
    functions = {
        ":".join(line.split("\t")[:2]) for line in (ROOT / "tools" / "functions.tsv").read_text().splitlines()[1:]
    }
    assert claim.held_against
    for each in claim.held_against:
        assert each.kind in KINDS
        if each.kind == "capture":
            assert (DATA / "captures" / f"{each.name}.tar.xz").is_file(), each.name
        elif each.kind == "guest":
            assert each.name in guests, each.name
        elif each.kind == "source":
            assert each.name in functions, each.name
        else:
            assert bool(each.name) is (each.kind == "posting")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_an_answer_is_one_or_two_sentences_and_its_command_names_what_exists(claim: Claim) -> None:
    assert claim.text and claim.answer.endswith(".")
    assert 1 <= claim.answer.count(". ") + 1 <= 2
    words = shlex.split(claim.command)
    assert words[0] == "memhp"
    for file in (word for word in words if word.endswith(".toml")):
        assert load(ROOT / file).steps


def test_kernels_that_differ_make_a_claim_hold_in_part() -> None:
    assert over_releases("1", {"linux-6.12": "reproduced", "linux-7.2": "refuted"}).verdict == "in part"
    assert together(["refuted", "refuted"]) == "refuted"
    assert together([]) == "open"


def row(verdict: str = "refuted") -> ClaimRow:
    claim = Claim(
        id="x-1", source="a thread", text="tables are <freed>", answer="They are not. They stay.", known="reproduced",
        decide=lambda: Finding("refuted", "3 of 4 & more", {"linux-6.12": "refuted"}), command="memhp claims x-1",
        held_against=(Evidence("capture", "some-guest"), Evidence("source", "mm/x.c:y")),
    )  # fmt: skip
    return decide(claim)


def test_the_page_shows_question_answer_figure_evidence_and_command_escaped() -> None:
    text = claims_page([row()])
    for part in (
        "tables are &lt;freed&gt;", "They are not. They stay.", "3 of 4 &amp; more", "linux-6.12 refuted",
        "capture some-guest", "source mm/x.c:y", "<code>memhp claims x-1</code>", "known as reproduced",
    ):  # fmt: skip
        assert part in text, part


def test_a_long_verdict_is_apart_from_the_claim() -> None:
    claim = structs.replace(row(), verdict="not decidable here", known="not decidable here")
    out = Console(file=StringIO(), width=80)
    print_claims(out, [claim])
    assert isinstance(out.file, StringIO)
    assert "  x-1    not decidable here tables are <freed>\n" in out.file.getvalue()


def test_the_page_and_the_terminal_say_what_a_patch_changes_and_costs() -> None:
    repair = RepairRow(
        machine="x86_64 linux-7.2, 4 KiB pages", choices={"failed_add": "taken-back"}, explored="two-blocks safe",
        rehearsed="every law held", cost="invalidations 2 → 64",
    )  # fmt: skip
    claim = structs.replace(row(), repair=repair)
    out = Console(file=StringIO(), width=200)
    print_claims(out, [claim])
    assert isinstance(out.file, StringIO)
    for text in (out.file.getvalue(), claims_page([claim])):
        for part in ("failed_add=taken-back (x86_64 linux-7.2", "two-blocks safe", "every law held", "2 → 64"):
            assert part in text, part


def test_the_command_tells_verdict_kernels_and_evidence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "claims.html"
    assert main(["claims", "rv-3", "--html", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "expected"
    (found,) = document["claims"]
    assert {"id", "verdict", "figure", "command", "held_against", "by_release"} <= set(found)
    assert found["by_release"]["linux-7.2"] == "reproduced"
    assert {each["kind"] for each in found["held_against"]} == {"guest", "source"}
    assert 'id="rv-3"' in page.read_text(encoding="utf-8")


def test_a_verdict_that_is_not_the_known_one_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = [each for each in CLAIMS if each.id == "rv-3"]
    monkeypatch.setattr("memhp.claims.table.CLAIMS", (replace(claim, known="refuted"),))
    assert main(["claims", "rv-3"]) == 1
    assert "known as refuted" in capsys.readouterr().out


def test_claims_decided_by_two_processes_are_those_decided_by_one_in_their_order() -> None:
    chosen = [claim for claim in CLAIMS if claim.id in {"rv-3", "rv-8", "a64-2", "mom-6", "zd-1", "zd-3"}]
    assert list(decided(chosen, workers=2)) == list(decided(chosen, workers=1))
