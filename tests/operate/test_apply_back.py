"""Taking plans back: what was done of them, the block of a surprise, and nothing where nothing was begun."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import msgspec
import pytest

from fake_host import FakeHost, write_host
from memhp.cli.main import main
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.operate import plan as plans
from memhp.operate.apply import apply
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
