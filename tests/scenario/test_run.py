"""What a rehearsal says of its steps: as expected or not, what a dead machine is worth, the same bytes each time."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memhp.check import LAWS
from memhp.cli.main import main
from memhp.cli.output import json_bytes
from memhp.scenario.load import load, loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario
from scenario.examples import EXAMPLES, ROOT, rehearsed

BREAKING = {
    "altmap-draft-consolidated.toml",
    "altmap-draft-helper.toml",
    "memblock-order.toml",
    "riscv-folded-levels.toml",
    "mirrored-memory.toml",
    "too-large-a-step.toml",
    "two-adds-one-removal.toml",
}
"""Examples that show how laws are broken; all others go as they expect to go."""

SMALL = '[machine]\npreset = "riscv-vm"\nmemory = "1G"\n'
DEADLY = """
[[steps]]
do = "plug"
size = "128M"
expect = "BUG"

[[steps]]
do = "online"

[[steps]]
do = "plug"
size = "128M"
expect = "not run"
"""


def run_of(text: str) -> Run:
    return rehearse_scenario(loads(text))[0]


def without_init(steps: str) -> str:
    """A kernel that threw its page-table code away after boot: hot-add kills it."""
    return SMALL + 'choices = { page_table_section = "__init" }\n' + steps


def ended(capsys: pytest.CaptureFixture[str], file: Path, text: str, *args: str) -> tuple[int, str]:
    """The exit code and the output of a rehearsal."""
    file.write_text(text, encoding="utf-8")
    return main(["rehearse", str(file), *args]), capsys.readouterr().out


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_ends_as_it_says(name: str) -> None:
    run, _ = rehearsed(name)
    assert [step.title for step in run.steps if not step.as_expected] == []
    assert run.ok
    assert any(law.meant for law in run.laws) is (name in BREAKING)
    assert run.title == load(ROOT / "examples" / name).title != ""


def test_an_errno_that_is_expected_is_as_good_as_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = '[[steps]]\ndo = "plug"\nsize = "128M"\nat = "0x{:x}"\nexpect = "{}"\n'
    far = SMALL + step.format(1 << 50, "E2BIG")
    assert ended(capsys, tmp_path / "far.toml", far)[0] == 0
    code, out = ended(capsys, tmp_path / "not.toml", SMALL + step.format(1 << 50, "EEXIST"))
    assert code == 1
    assert "E2BIG (expected EEXIST)" in out and "Step 1 did not end as expected." in out


def test_success_where_an_errno_is_expected_is_not_as_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plug = '[[steps]]\ndo = "plug"\nsize = "128M"\nexpect = "EBUSY"\n'
    assert ended(capsys, tmp_path / "x.toml", SMALL + plug)[0] == 1


def test_a_law_that_breaks_is_exit_1_though_every_step_went_as_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "examples" / "memblock-order.toml").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("breaks"))
    code, out = ended(capsys, tmp_path / "x.toml", text)
    assert code == 1
    assert "Broken law: " in out.splitlines()[-1]


def test_nothing_is_run_on_a_machine_that_died_and_no_law_is_judged_on_it() -> None:
    run = run_of(without_init(DEADLY.replace('expect = "not run"\n', "")))
    assert [step.outcome.result for step in run.steps] == ["BUG", "not run", "not run"]
    assert [step.as_expected for step in run.steps] == [True, False, False]
    assert run.steps[1].outcome.reason == f"the machine died in {run.steps[0].title!r}"
    assert all(law.held for law in run.laws)
    assert [step.breaches for step in run.steps] == [[], [], []]
    assert run.steps[1].memory_before == run.steps[1].memory_after == run.steps[2].memory_after
    assert not run.ok


def test_what_broke_before_a_machine_died_is_told() -> None:
    run, _ = rehearsed("memblock-order.toml")
    assert run.steps[-1].outcome.result == "BUG"
    assert {law.law: law.first_broken for law in run.laws if not law.held} == {"blocks": 2}


def test_a_run_that_ends_in_the_expected_death_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_death = DEADLY[: DEADLY.index('[[steps]]\ndo = "online"')]
    assert ended(capsys, tmp_path / "x.toml", without_init(only_death))[0] == 0


def test_a_step_that_nobody_ran_cannot_be_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.toml").write_text(without_init(DEADLY), encoding="utf-8")
    assert main(["rehearse", str(tmp_path / "x.toml")]) == 2
    assert 'no step can end in "not run"' in capsys.readouterr().err


def test_a_broken_law_is_told_once_since_when_and_in_which_step() -> None:
    remove = '[[steps]]\ndo = "plug"\nsize = "128M"\n[[steps]]\ndo = "remove"\n'
    run = run_of(
        '[machine]\npreset = "riscv-vm"\nprofile = "riscv-hotplug-v1"\nmemory = "1G"\n'
        + remove
        + '[[steps]]\ndo = "allocate"\nsize = "1M"\n'
    )
    broken = {law.law for law in run.laws if not law.held}
    assert {"direct-map", "vmemmap"} <= broken
    assert {law.first_broken for law in run.laws if not law.held} == {1}
    assert {breach.law for breach in run.steps[1].breaches} == broken
    assert run.steps[2].breaches == []


def test_json_holds_machine_steps_state_and_laws(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    name = "refused.toml"
    assert main(["rehearse", str(ROOT / "examples" / name), "--json"]) == 0
    report: dict[str, Any] = json.loads(capfdbinary.readouterr().out)
    assert set(report) - {"title", "plan"} == {"schema", "verdict", "machine", "steps", "state", "laws", "assumptions"}
    assert [law["law"] for law in report["laws"]] == [law.name for law in LAWS]
    assert [step["outcome"]["result"] for step in report["steps"]] == ["ok", "ok", "EBUSY", "ok", "ok"]
    assert report["machine"]["block_size"] == 128 << 20
    run, _ = rehearsed(name)
    assert json_bytes(run) == json_bytes(rehearse_scenario(load(ROOT / "examples" / name), where=name)[0])


@pytest.mark.parametrize("name", ["fragmented.toml", "self-hosted.toml"])
def test_every_seed_of_pythons_hashes_gives_the_same_bytes(name: str) -> None:
    outputs = set()
    for seed in ("0", "4242"):
        command = [sys.executable, "-m", "memhp", "rehearse", str(ROOT / "examples" / name), "--json"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        outputs.add(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    assert len(outputs) == 1
