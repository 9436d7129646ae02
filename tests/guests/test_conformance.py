"""Real kernels, one of each architecture, and the model: the same steps on both, and every fact compared after each.

The kernels are those that ``memhp guest fetch`` has put into the user's cache. Where one is missing its test cannot
run: the end of the test run says so (tests/conftest.py).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memhp.cli.guest_options import GuestChoice
from memhp.cli.lives import random
from memhp.conform.live import FOLDER
from memhp.conform.lockstep import conform
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.scenario.load import load
from memhp.scenario.schema import Scenario
from memhp.target.captures.write import write
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.observe import facts, step_files
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.snapshot import Snapshot, resumed
from memhp.target.guest.target import GuestTarget, spec_for
from memhp.target.guest.versions import newest

SCENARIOS = {"x86_64": "dimm-x86_64", "arm64": "virtio-mem", "riscv64": "boot-memory-riscv64"}
ARCHES = tuple(SCENARIOS)


def kernel(arch: str) -> Kernel:
    """The newest fetched kernel of an architecture."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == arch}
    if not found:
        pytest.skip(f"NO {arch} KERNEL WAS BOOTED: run memhp guest fetch 7.2:{arch}")
    return found[newest(found)]


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, Scenario]]:
    """A running guest for the scenario of its architecture."""
    arch: str = request.param
    chosen, scenario = kernel(arch), load(FOLDER / f"{SCENARIOS[arch]}.toml")
    spec = spec_for(GuestSpec(chosen), scenario)
    with running(user_cache(), find_qemu(user_cache(), arch), spec) as started:
        yield started, scenario


@pytest.mark.parametrize("guest", ARCHES, indirect=True)
def test_after_every_step_the_model_shows_what_the_kernel_shows(guest: tuple[Guest, Scenario], tmp_path: Path) -> None:
    machine, scenario = guest
    target = GuestTarget(machine)
    found = conform(target, scenario.steps)
    assert [detail for detail in found.details if detail.verdict == "differing"] == []
    assert found.equal > 0.9 * found.facts > 400
    shown = facts(machine)
    write({"0-end": step_files(machine, pages=True)}, tmp_path / "end")
    kept = observe(open_source(tmp_path / "end"))
    assert (kept.iomem, kept.memory, kept.params) == (shown.iomem, shown.memory, shown.params)
    summed = (tmp_path / "end/0-end/kpageflags.tsv").read_text().splitlines()
    pages = {block.name: 0 for block in kept.memory.blocks}
    for line in summed:
        name, _, count, *_ = line.split("\t")
        pages[name] += int(count)
    assert set(pages.values()) == {kept.memory.block_size // (shown.page_size or 0)}
    snapshot = Snapshot.of(machine)
    until_gone(machine.child.pid)
    for _ in range(2):
        with resumed(snapshot) as again:
            assert again.agent.write("/run/mark", "here") == ""
            now = facts(again)
            assert (now.iomem, now.memory, now.params) == (shown.iomem, shown.memory, shown.params)
            assert again.agent.run("ls /run").text.split() == ["mark"]
        until_gone(again.child.pid)
    snapshot.close()


def test_random_lives_of_a_kernel_are_those_of_its_model() -> None:
    choice = GuestChoice(kernel("x86_64").wanted, None, None, None, None, None, "", None, None)
    played = random(choice, 2, 5, seconds=180)
    assert [detail for detail in played.lives.found.details if detail.verdict == "differing"] == []
    assert played.kept == []
    assert played.lives.found.equal > 1000


def until_gone(pid: int) -> None:
    """Fail unless a process is gone soon."""
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, f"process {pid} lives on"
        time.sleep(0.01)
