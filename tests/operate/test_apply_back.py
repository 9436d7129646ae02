"""Taking plans back: what was done of them, the block of a surprise, and nothing where nothing was begun."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import msgspec
import pytest

from fake_host import FakeHost, write_host
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.operate import plan as plans
from memhp.operate.apply import apply, check_machine
from memhp.operate.journal import Entry, Journal, unfinished
from memhp.operate.plan import HostPlan, machine_state

BLOCK = 128 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_host(tmp_path / "host")


def made(root: Path, blocks: int) -> HostPlan:
    """A plan to take so many blocks of the host offline."""
    source = open_source(root)
    facts = observe(source)
    return plans.plan(source, facts, plans.shrink(facts, blocks * BLOCK))


def test_the_block_of_a_surprise_is_taken_back_with_those_before_it(root: Path, tmp_path: Path) -> None:
    plan, before = made(root, 3), machine_state(open_source(root))
    astray = plan.steps[1].block

    class Elsewhere(FakeHost):
        def store(self, path: Path, text: str) -> int:
            return super().store(path, "online_kernel" if path.parent.name == f"memory{astray}" else text)

    stopped = apply(plan, Elsewhere(root), tmp_path)
    assert (stopped.verdict, stopped.steps[0]) == ("stopped", "ok")
    assert "online in Normal, foretold offline" in stopped.why
    refused = apply(plan, FakeHost(root, refuses=(astray,)), tmp_path, mode="roll-back")
    assert (refused.verdict, refused.steps) == ("stopped", ["ok", "taken back: EBUSY"])
    back = apply(plan, FakeHost(root), tmp_path, mode="roll-back")
    assert (back.verdict, back.steps) == ("rolled-back", ["taken back: ok", "taken back: ok"])
    assert machine_state(open_source(root)) == before


def test_a_block_that_refused_and_is_as_it_was_is_not_written_to(root: Path, tmp_path: Path) -> None:
    plan = made(root, 2)
    assert apply(plan, FakeHost(root, refuses=(plan.steps[1].block,)), tmp_path).verdict == "stopped"
    back = apply(plan, FakeHost(root), tmp_path, mode="roll-back")
    assert back.steps == ["taken back: ok", "EBUSY"]


def test_what_was_never_begun_is_neither_gone_on_with_nor_taken_back(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_bytes(msgspec.json.encode(made(root, 1)))
    for words in (["--resume"], ["--roll-back"], ["--resume", "--yes"], ["--roll-back", "--yes"]):
        assert main(["apply", str(plan), "--sysroot", str(root), *words]) == 2
        assert "nothing of this plan was begun: it has no journal" in capfd.readouterr().err


@pytest.fixture
def astray(root: Path, tmp_path: Path) -> HostPlan:
    """A plan whose run was killed behind a write that brought its second block into another zone."""
    plan = made(root, 3)
    store(root, plan.steps[0].block, "offline")
    store(root, plan.steps[1].block, "online_kernel")
    journal = Journal.create(tmp_path / f"{plan.id}.journal", plan.id, 100)
    for entry in (Entry(event="begin", step=0), Entry(event="end", step=0, result="ok"), Entry(event="begin", step=1)):
        journal.add(entry)
    journal.close()
    return plan


def store(root: Path, block: int, text: str) -> None:
    FakeHost(root).store(root / f"sys/devices/system/memory/memory{block}/state", text)


def test_a_crash_behind_a_surprise_is_taken_back_and_not_gone_on_with(
    root: Path, tmp_path: Path, astray: HostPlan
) -> None:
    stopped = apply(astray, FakeHost(root), tmp_path, mode="resume")
    assert "is online in Normal: neither as before the step nor as after it" in stopped.why
    back = apply(astray, FakeHost(root), tmp_path, mode="roll-back")
    assert (back.verdict, back.steps) == ("rolled-back", ["taken back: ok", "taken back: ok"])
    assert check_machine(astray, machine_state(open_source(root))) == ""


@pytest.mark.parametrize("step", [1, 0])
@pytest.mark.parametrize("written", [False, True])
def test_a_roll_back_that_is_killed_is_taken_up(
    step: int, written: bool, root: Path, tmp_path: Path, astray: HostPlan
) -> None:
    """Killed at each of its writes, before the write and after it."""

    class Killed(FakeHost):
        def write(self, block: int, text: str, seconds: float) -> str:
            last = block == astray.steps[step].block
            result = super().write(block, text, seconds) if written or not last else ""
            if last:
                raise KeyboardInterrupt
            return result

    with pytest.raises(KeyboardInterrupt):
        apply(astray, Killed(root), tmp_path, mode="roll-back")
    assert unfinished(tmp_path) != []
    assert apply(astray, FakeHost(root), tmp_path, mode="roll-back").verdict == "rolled-back"
    assert check_machine(astray, machine_state(open_source(root))) == ""


def test_a_plan_that_can_go_neither_way_is_abandoned_and_bars_no_other(
    root: Path, tmp_path: Path, astray: HostPlan, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (step.block for step in astray.steps[:2])
    refuses = FakeHost(root, refuses=(second,))
    assert apply(astray, refuses, tmp_path, mode="resume").verdict == "stopped"
    assert apply(astray, refuses, tmp_path, mode="roll-back").verdict == "stopped"
    left, other = machine_state(open_source(root)), made(root, 1)
    with pytest.raises(BadInput, match="another plan was begun and is not over"):
        apply(other, FakeHost(root), tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_bytes(msgspec.json.encode(astray))
    words = ["apply", str(plan), "--sysroot", str(root), "--journal", str(tmp_path)]
    assert main([*words, "--abandon"]) == 0
    assert unfinished(tmp_path) != []
    capfd.readouterr()
    assert main([*words, "--abandon", "--yes"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        f"block {first} is offline: as foretold",
        f"block {second} is online in Normal: neither as before the plan (online in Movable) nor as foretold (offline)",
        f"plan {astray.id}: abandoned, no block written to",
    ]
    assert machine_state(open_source(root)) == left
    for mode in ("--resume", "--roll-back", "--abandon"):
        assert main([*words, mode, "--yes"]) == 2
        assert "it was abandoned: its blocks are as that left them" in capfd.readouterr().err
    assert main([*words, "--abandon", "--resume"]) == 2
    assert apply(other, FakeHost(root), tmp_path).verdict == "done"
