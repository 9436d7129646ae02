"""A scenario can mean a law to break: then that is what is expected, and its holding is not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.scenario.load import load, loads
from memhp.target.model.run import rehearse_scenario

ROOT = Path(__file__).parents[2]
MEANT = ["altmap-draft-consolidated", "altmap-draft-helper", "memblock-order", "too-large-a-step"]


def test_a_law_that_breaks_as_meant_is_as_expected_and_unannounced_it_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "examples" / "memblock-order.toml").read_text(encoding="utf-8")
    file = tmp_path / "scenario.toml"
    file.write_text(text, encoding="utf-8")
    assert main(["rehearse", str(file)]) == 0
    assert capfd.readouterr().out.endswith("blocks (since step 3) broke, as it is meant to.\n")
    file.write_text(text.replace('breaks = ["blocks"]\n', ""), encoding="utf-8")
    assert main(["rehearse", str(file)]) == 1
    assert capfd.readouterr().out.endswith("Broken law: blocks (since step 3).\n")


def test_a_law_that_was_meant_to_break_and_holds_is_not_as_expected(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text('breaks = ["zones"]\n[machine]\npreset = "riscv-vm"\nmemory = "1G"\n', encoding="utf-8")
    assert main(["rehearse", str(file)]) == 1
    out = capfd.readouterr().out
    assert out.endswith("Meant to break, but held: zones.\n")
    assert "✗ zones: held, though it is meant to break." in out


def test_a_law_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="there is no law") as error:
        loads('breaks = ["direct-mop"]\n[machine]\npreset = "riscv-vm"\n')
    assert "breaks[0]" in str(error.value)
    assert "direct-map" in str(error.value)


@pytest.mark.parametrize("name", MEANT)
def test_examples_that_show_a_broken_law_say_so(name: str) -> None:
    assert load(ROOT / "examples" / f"{name}.toml").breaks


def test_a_step_that_breaks_a_law_bears_no_bare_tick(capfd: pytest.CaptureFixture[str]) -> None:
    from memhp.report.verdict import broke

    run, _ = rehearse_scenario(load(ROOT / "examples" / "memblock-order.toml"))
    marks = [broke(step, run) for step in run.steps]
    for step, mark in zip(run.steps, marks, strict=True):
        assert (mark.mark == "✓") == (not step.breaches)
        assert all(breach.law in mark.text for breach in step.breaches)
    assert "~" in [mark.mark for mark in marks]
