"""Plans carried out on a host of files: foretold and verified, interrupted at any moment, taken up, taken back."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from fake_host import FakeHost, write_host
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.operate import plan as plans
from memhp.operate.apply import Mode, apply, check_machine, undo
from memhp.operate.journal import RECORD, Entry, Journal, unfinished
from memhp.operate.plan import BOOT_ID, HostPlan, MachineState, machine_state, read_plan
from memhp.target.tree_host import locked

BLOCK = 128 << 20
BLOCKS = 4
KILLS = 100


@cache
def made() -> HostPlan:
    """A plan to take some blocks of the host offline."""
    with TemporaryDirectory() as folder:
        source = open_source(write_host(Path(folder) / "host"))
        facts = observe(source)
        return plans.plan(source, facts, plans.shrink(facts, BLOCKS * BLOCK))


@cache
def moving() -> HostPlan:
    """A plan to move two blocks from ZONE_MOVABLE to a kernel zone: two writes a block."""
    with TemporaryDirectory() as folder:
        source = open_source(write_host(Path(folder) / "host"))
        facts = observe(source)
        last = [block.index for block in facts.memory.blocks if block.zone == "Movable"][-1]
        return plans.plan(source, facts, plans.move(source, facts, f"{last - 1}-{last}", "kernel"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_host(tmp_path / "host")


def state(root: Path) -> MachineState:
    return machine_state(open_source(root))


def events(folder: Path, plan: HostPlan) -> list[str]:
    journal = Journal.open(folder / f"{plan.id}.journal")
    journal.close()
    return [entry.event for entry in journal.entries]


def in_a_child(work: Callable[[], None]) -> int:
    """Run something in a child of this process: its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BadInput:
            code = 2
        finally:
            os._exit(code)
    return child


def test_a_plan_takes_movable_memory_first_and_says_what_each_block_will_be() -> None:
    plan = made()
    assert (plan.verdict, plan.reached, len(plan.steps)) == ("reached", BLOCKS * BLOCK, BLOCKS)
    assert {step.before.zone for step in plan.steps} == {"Movable"}
    assert {(step.after.state, step.after.zone) for step in plan.steps} == {("offline", "")}
    assert read_plan(msgspec.json.encode(plan), where="plan") == plan


def test_a_plan_is_carried_out_and_every_block_is_as_foretold(root: Path, tmp_path: Path) -> None:
    plan, before = made(), state(root)
    done = apply(plan, FakeHost(root), tmp_path / "journals")
    assert (done.verdict, done.steps) == ("done", ["ok"] * BLOCKS)
    assert check_machine(plan, state(root), BLOCKS) == ""
    changed = {each.block for each, was in zip(state(root).blocks, before.blocks, strict=True) if each != was}
    assert changed == {step.block for step in plan.steps}
    assert events(tmp_path / "journals", plan) == ["start", *["begin", "end"] * BLOCKS, "done"]


def test_memory_moves_to_the_zone_that_was_foretold(root: Path, tmp_path: Path) -> None:
    plan = moving()
    assert [step.write for step in plan.steps] == ["offline", "online_kernel"] * 2
    assert apply(plan, FakeHost(root), tmp_path).verdict == "done"
    zones = {each.block: each.zone for each in state(root).blocks}
    assert {zones[step.block] for step in plan.steps} == {"Normal"}


def test_the_first_refusal_stops_it_and_what_was_done_can_be_taken_back(root: Path, tmp_path: Path) -> None:
    plan, before = made(), state(root)
    stopped = apply(plan, FakeHost(root, refuses=(plan.steps[3].block,)), tmp_path)
    assert stopped.verdict == "stopped"
    assert stopped.steps == ["ok", "ok", "ok", "EBUSY"]
    assert f"block {plan.steps[3].block}" in stopped.why
    assert apply(plan, FakeHost(root), tmp_path, mode="roll-back").verdict == "rolled-back"
    assert state(root) == before
    assert unfinished(tmp_path) == []


def test_a_block_that_lands_in_another_zone_than_foretold_is_a_surprise(root: Path, tmp_path: Path) -> None:
    plan = moving()

    class Elsewhere(FakeHost):
        def store(self, path: Path, text: str) -> int:
            return super().store(path, "online_movable" if text == "online_kernel" else text)

    stopped = apply(plan, Elsewhere(root), tmp_path)
    assert stopped.verdict == "stopped"
    assert "online in Movable, foretold online in Normal" in stopped.why


def test_a_machine_that_changed_since_the_plan_is_refused(root: Path, tmp_path: Path) -> None:
    plan = made()
    (root / f"sys/devices/system/memory/memory{plan.steps[-1].block}/state").write_text("offline\n")
    with pytest.raises(BadInput, match="the machine changed since the plan"):
        apply(plan, FakeHost(root), tmp_path)
    assert not (tmp_path / f"{plan.id}.journal").exists()


def test_a_change_behind_its_back_stops_it_at_the_next_step(root: Path, tmp_path: Path) -> None:
    plan, other = made(), root / "sys/devices/system/memory/memory2/state"
    stopped = apply(plan, FakeHost(root, besides=lambda _: void(other.write_text("offline\n"))), tmp_path)
    assert (stopped.verdict, stopped.steps) == ("stopped", ["ok"])
    assert stopped.why.startswith("block 2 is offline")
    with pytest.raises(BadInput, match="begun and is not over"):
        apply(plan, FakeHost(root), tmp_path)
    assert apply(plan, FakeHost(root), tmp_path, mode="roll-back").verdict == "rolled-back"


def void(_: object) -> None:
    """Nothing."""


CRASHES = list(product(range(2 * BLOCKS + 2), (False, True)))


@pytest.mark.parametrize("mode", ["resume", "roll-back"])
def test_from_every_record_that_can_be_the_last_it_is_taken_up(tmp_path: Path, mode: Mode) -> None:
    """A crash after each record, before the write that it announces and after it."""
    plan, root = made(), write_host(tmp_path / "host")
    before, host = state(root), FakeHost(root)
    for records, written in CRASHES:
        folder = tmp_path / f"journals-{records}-{written}"
        journal = Journal.create(folder / f"{plan.id}.journal", plan.id, 100)
        for number in range(1, records):
            step = (number - 1) // 2
            if number % 2:
                journal.add(Entry(event="begin", step=step))
            if number % 2 == 0 or (number == records - 1 and written):
                block, text = plan.steps[step].block, plan.steps[step].write
                host.store(root / f"sys/devices/system/memory/memory{block}/state", text)
            if number % 2 == 0:
                journal.add(Entry(event="end", step=step, result="ok"))
        journal.close()
        assert apply(plan, host, folder, mode=mode).verdict == ("done" if mode == "resume" else "rolled-back")
        assert check_machine(plan, state(root), BLOCKS if mode == "resume" else 0) == ""
        for each in plan.steps if mode == "resume" else ():
            host.store(root / f"sys/devices/system/memory/memory{each.block}/state", undo(each))
        assert state(root) == before


def test_killed_at_a_hundred_moments_it_is_taken_up_every_time(root: Path, tmp_path: Path) -> None:
    draw, folder, ended = random.Random(7), tmp_path / "journals", []
    before = state(root)
    for _ in range(KILLS):
        plan = made()
        begun = folder / f"{plan.id}.journal"
        mode: Mode = "new"
        if begun in unfinished(folder):
            mode = draw.choice(("resume", "resume", "roll-back"))
        elif begun.exists():
            begun.unlink()
            for step in plan.steps:
                FakeHost(root).store(root / f"sys/devices/system/memory/memory{step.block}/state", undo(step))

        def work(mode: Mode = mode) -> None:
            with locked(root):
                apply(made(), FakeHost(root, seconds=0.002), folder, mode=mode)

        child = in_a_child(work)
        time.sleep(draw.random() * 0.12)
        os.kill(child, signal.SIGKILL)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        wait_for_lock(root)
        assert undecided(root, plan, before) == []
    assert set(ended) <= {0, -signal.SIGKILL}
    assert ended.count(-signal.SIGKILL) > KILLS // 4


def undecided(root: Path, plan: HostPlan, before: MachineState) -> list[int]:
    """Blocks that are neither as before the plan nor as after it."""
    after = {step.block: step.after for step in plan.steps}
    return [
        each.block
        for each, was in zip(state(root).blocks, before.blocks, strict=True)
        if each not in (was, after.get(each.block))
    ]


def wait_for_lock(root: Path) -> None:
    """Until the last child that writes is done: it has the lock as long."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with locked(root):
                return
        except BadInput:
            time.sleep(0.005)
    raise AssertionError("the lock is never given back")


def test_a_full_disk_is_noticed_before_anything_is_done(root: Path, tmp_path: Path) -> None:
    before = state(root)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * RECORD, 4 * RECORD))
        apply(made(), FakeHost(root), tmp_path / "journals")

    assert os.waitstatus_to_exitcode(os.waitpid(in_a_child(work), 0)[1]) == 2
    assert state(root) == before
    assert unfinished(tmp_path / "journals") == []


ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from fake_host import FakeHost
from memhp.errors import BadInput
from memhp.operate.apply import apply
from memhp.operate.plan import read_plan

root, disk, plan = (Path(word) for word in sys.argv[1:])
plan = read_plan(plan.read_bytes(), where="plan")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=True)

def fill(room):
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)): pass
        except OSError:
            pass
        filler.truncate(filler.tell() - room)

fill(4096)
try:
    apply(plan, FakeHost(root), disk)
except BadInput as refused:
    print(refused)
print(sorted(path.name for path in disk.iterdir()))
(disk / "filler").unlink()
print(apply(plan, FakeHost(root, besides=lambda _: fill(0)), disk).verdict, (disk / "filler").stat().st_size > 0)
"""
"""A plan is begun on a disk of 64 KiB with 4 KiB left, and once more with room, which somebody takes during the first
step."""


def test_a_plan_is_begun_on_a_disk_with_room_for_its_journal_or_not_at_all(root: Path, tmp_path: Path) -> None:
    """A tmpfs that is really full, in a mount namespace of its own."""
    needs_a_namespace()
    disk, plan = tmp_path / "disk", tmp_path / "plan.json"
    disk.mkdir()
    plan.write_bytes(msgspec.json.encode(made()))
    words = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ON_A_SMALL_DISK]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [*words, str(root), str(disk), str(plan)], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    refused, kept, *carried_out = done.stdout.splitlines()
    assert "cannot keep the journal: No space left on device" in refused
    assert kept == "['filler']"
    assert carried_out == ["done True"]
    assert check_machine(made(), state(root), BLOCKS) == ""


@pytest.mark.parametrize("mode", ["resume", "roll-back"])
def test_a_disk_that_takes_no_record_all_the_same_stops_it_where_it_can_be_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """A file system that copies on write may be full although the room was taken: any one record may not be written."""
    plan, root, write = made(), write_host(tmp_path / "host"), os.pwrite
    before = state(root)
    for records in range(1, 2 * BLOCKS + 2):
        folder = tmp_path / f"journals-{records}"

        def full(fd: int, data: bytes, at: int, last: int = records) -> int:
            if at >= last * RECORD:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data, at)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(BadInput, match="cannot keep the journal: No space left on device"):
                apply(plan, FakeHost(root), folder)
        assert len(events(folder, plan)) == records
        assert undecided(root, plan, before) == []
        assert apply(plan, FakeHost(root), folder, mode=mode).verdict == ("done" if mode == "resume" else "rolled-back")
        for each in plan.steps if mode == "resume" else ():
            FakeHost(root).store(root / f"sys/devices/system/memory/memory{each.block}/state", undo(each))
        assert state(root) == before


def needs_a_namespace() -> None:
    """Skip where there is none; the end of the run says so."""
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"NO FULL DISK WAS TRIED: {done.stderr.decode().strip()}")


def test_after_a_power_cut_nothing_of_a_plan_is_left_and_another_may_begin(root: Path, tmp_path: Path) -> None:
    """The blocks are as boot made them: the journal says so, and stands in nobody's way."""
    boot = root / BOOT_ID.lstrip("/")
    boot.parent.mkdir(parents=True, exist_ok=True)
    boot.write_text("first\n")
    source = open_source(root)
    facts = observe(source)
    plan = plans.plan(source, facts, plans.shrink(facts, 2 * BLOCK))
    assert apply(plan, FakeHost(root, refuses=(plan.steps[1].block,)), tmp_path).verdict == "stopped"
    FakeHost(root).store(root / f"sys/devices/system/memory/memory{plan.steps[0].block}/state", undo(plan.steps[0]))
    boot.write_text("second\n")
    for mode in ("resume", "roll-back"):
        with pytest.raises(BadInput, match="has booted since"):
            apply(plan, FakeHost(root), tmp_path, mode=mode)
    assert events(tmp_path, plan)[-1] == "rebooted"
    another = plans.plan(open_source(root), facts, plans.shrink(facts, 2 * BLOCK))
    assert apply(another, FakeHost(root), tmp_path).verdict == "done"


def test_a_record_that_is_not_whole_does_not_count(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "p.journal", "p", 8)
    journal.add(Entry(event="begin", step=0))
    journal.close()
    whole = journal.path.read_bytes()
    for cut in range(RECORD):
        journal.path.write_bytes(whole[: RECORD + cut] + bytes(RECORD - cut))
        again = Journal.open(journal.path)
        again.close()
        assert [entry.event for entry in again.entries] in (["start"], ["start", "begin"])
        assert len(again.entries) == 1 or whole[RECORD + cut : 2 * RECORD].strip() == b""


def test_whatever_a_machine_says_has_room_in_a_record(tmp_path: Path) -> None:
    path = tmp_path / "some.journal"
    for said in ("\x01" * 200, "\U0001f4be" * 200, "\\" * 200):
        journal = Journal.create(path, "p" * 16, 2, "b" * 36)
        journal.add(Entry(event="stop", step=100_000, result=said))
        journal.close()
        again = Journal.open(path)
        assert [entry.event for entry in again.entries] == ["start", "stop"]
        again.close()
        path.unlink()


def test_one_at_a_time_on_a_host(root: Path) -> None:
    with locked(root), pytest.raises(BadInput, match="another memhp apply is at work here"), locked(root):
        pass


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_block_and_a_second_one_gives_it_up(
    root: Path, tmp_path: Path, handlers: None
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan = made()
    for presses, result in ((1, "ok"), (2, "EINTR")):
        host = FakeHost(root, seconds=0.5 if presses == 1 else 30)
        presser = in_a_child(lambda presses=presses: press(os.getppid(), presses))  # type: ignore[misc]
        mode: Mode = "new" if presses == 1 else "resume"
        ended = apply(plan, host, tmp_path / "journals", mode=mode, asked=lambda host=host: host.asked > 0)  # type: ignore[misc]
        os.waitpid(presser, 0)
        assert ended.steps[-1] == result
        assert ended.verdict == ("interrupted" if presses == 1 else "stopped")
    assert apply(plan, FakeHost(root), tmp_path / "journals", mode="resume").verdict == "done"


def press(process: int, times: int) -> None:
    for _ in range(times):
        time.sleep(0.2)
        os.kill(process, signal.SIGINT)


def test_a_block_that_takes_too_long_is_given_up(root: Path, tmp_path: Path) -> None:
    ended = apply(made(), FakeHost(root, seconds=30), tmp_path, seconds=0.1)
    assert (ended.verdict, ended.steps) == ("stopped", ["EINTR"])


def test_the_command_changes_nothing_unless_told_to(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, before = tmp_path / "plan.json", state(root)
    assert main(["plan", "--sysroot", str(root), "--shrink-by", "256M", "--out", str(plan)]) == 0
    assert main(["apply", str(plan), "--sysroot", str(root)]) == 0
    assert "Nothing was done" in capfd.readouterr().out
    assert state(root) == before
    assert main(["apply", str(plan), "--sysroot", str(root), "--yes", "--json"]) == 0
    applied = json.loads(capfd.readouterr().out)
    assert (applied["verdict"], applied["steps"]) == ("done", ["ok", "ok"])
    offline = {each.block for each in state(root).blocks if each.state == "offline"}
    assert len(offline - {each.block for each in before.blocks if each.state == "offline"}) == 2
    assert main(["apply", str(plan), "--sysroot", str(root), "--yes"]) == 2
    assert "the machine changed since the plan" in capfd.readouterr().err


def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="was changed after it was made"):
        read_plan(msgspec.json.encode(msgspec.structs.replace(made(), steps=made().steps[1:])), where="plan")


def test_blocks_that_will_not_go_are_passed_over(tmp_path: Path) -> None:
    source = open_source(write_host(tmp_path / "host"))
    facts = observe(source)
    plan = plans.plan(source, facts, plans.evacuate(source, facts, "0-3"))
    assert plan.verdict == "short"
    assert any(text.startswith("0: EINVAL") for text in plan.passed_over)
    assert {step.block for step in plan.steps}.isdisjoint({0})
