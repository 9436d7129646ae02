"""``memhp rehearse --plan``, ``memhp geometry --memmap-on-memory``, and what a failed plug advises."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path
from typing import Any

import pytest

from memhp.cli.main import main
from memhp.cli.output import PIPE_WIDTH

SHORT = """
[machine]
preset = "x86-vm"
memory = "1G"

[[steps]]
do = "plug"
size = "{size}"
expect = "{expect}"
"""


def report(capfd: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def scenario(folder: Path, size: str, expect: str) -> str:
    file = folder / "short.toml"
    file.write_text(SHORT.format(size=size, expect=expect), encoding="utf-8")
    return str(file)


def test_a_plan_comes_with_the_rehearsal_it_is_for(capfd: pytest.CaptureFixture[str]) -> None:
    found = report(capfd, "rehearse", "--machine", "riscv-vm", "--plug", "1G", "--online", "kernel", "--plan", "8G")
    assert set(found) == {"assumptions", "laws", "machine", "plan", "schema", "state", "steps", "title", "verdict"}
    (step,) = found["plan"]["steps"]
    (plugged,) = [run for run in found["state"]["blocks"] if run["first"] == 48]
    assert step["at"] == plugged["start"] + plugged["size"]
    assert (step["size"], step["zone"], found["plan"]["reached"]) == (8 << 30, "kernel", 8 << 30)


def test_the_exit_code_tells_that_a_plan_does_not_get_there(capfd: pytest.CaptureFixture[str]) -> None:
    """With three levels riscv64 maps 132 GiB at most."""
    assert main(["rehearse", "--machine", "riscv-vm-sv39", "--plan", "256G", "--json"]) == 1
    made = json.loads(capfd.readouterr().out)["plan"]
    assert 0 < made["reached"] < 132 << 30
    assert made["needed"] is None


def test_a_plan_for_a_size_that_is_no_blocks_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--machine", "x86-vm", "--plan", "100M"]) == 2
    assert capfd.readouterr().err.startswith("memhp: --plan: 100 MiB is not made of whole memory blocks of 128 MiB")


def test_a_plug_that_finds_no_memory_is_told_what_it_takes_and_how_to_do_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["rehearse", scenario(tmp_path, "64G", "ENOMEM"), "--json"])
    outcome = json.loads(capfd.readouterr().out)["steps"][0]["outcome"]
    assert outcome["advice"].startswith("it takes 1.00 GiB of free memory, and ")
    assert "the largest safe step now is" in outcome["advice"]
    assert "one step will do" in outcome["advice"]


def test_the_steps_that_were_advised_succeed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = scenario(tmp_path, "32G", "ok")
    assert main(["rehearse", file, "--plan", "32G", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["plan"]["steps"]) == 2


def test_every_configuration_has_a_verdict_with_its_conditions(capfd: pytest.CaptureFixture[str]) -> None:
    rows = report(capfd, "geometry", "--memmap-on-memory")["memmap_on_memory"]
    for row in rows:
        assert row["supported"] == all(each["met"] for each in row["conditions"])
        assert all(each["met"] == (each["why_not"] == "") for each in row["conditions"])
    can = {(row["arch"], row["page_size"], row["profile"]) for row in rows if row["supported"]}
    assert can == {
        ("arm64", 4096, "linux-5.13"),
        ("x86_64", 4096, "linux-5.13"),
        *((arch, 4096, name) for arch in ("arm64", "riscv64", "x86_64") for name in ("linux-6.12", "linux-7.2")),
    }


@pytest.mark.parametrize(
    ("page_size", "mode", "unmet"),
    [
        ("16K", "Y", ["whole pageblocks", "whole PMDs"]),
        ("16K", "force", ["whole PMDs"]),
        ("64K", "Y", ["whole pageblocks", "whole PMDs"]),
        ("64K", "force", ["memory left", "whole PMDs"]),
        ("64K", "N", ["parameter", "whole pageblocks", "whole PMDs"]),
    ],
)
def test_conditions_that_large_pages_do_not_meet_on_arm64(
    page_size: str, mode: str, unmet: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--memmap-on-memory", "--profile", "linux-7.2", "--page-size", page_size)
    rows = report(capfd, "geometry", *options)["memmap_on_memory"]
    found = [[each["name"] for each in row["conditions"] if not each["met"]] for row in rows if row["mode"] == mode]
    assert found == [unmet] * len(found) != []


def test_the_table_of_verdicts_fits_into_the_columns_of_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["geometry", "--memmap-on-memory"]) == 0
    assert max(len(line.rstrip()) for line in capfd.readouterr().out.splitlines()) <= PIPE_WIDTH


def test_the_page_holds_the_plan_with_every_step_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    args = ["rehearse", "--machine", "riscv-vm", "--plan", "512G", "--html", str(target), "--json"]
    assert main(args) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    page = target.read_text(encoding="utf-8")
    assert "Plan: 512 GiB more, dimm" in page
    assert len(plan["steps"]) == 2
    for number, step in enumerate(plan["steps"], 1):
        assert f"<title>step {number}: " in page
        assert f"{step['at']:#x}–{step['at'] + step['size']:#x}</title>" in page


def test_a_page_without_a_plan_says_nothing_of_one(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert main(["rehearse", "--machine", "riscv-vm", "--plug", "128M", "--html", str(target)]) == 0
    assert "Plan:" not in target.read_text(encoding="utf-8")
