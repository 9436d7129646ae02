"""Real kernels of two architectures: what ``why`` says in situations that were provoked, and what the kernel then says;
plans that are refused, killed, cut off, overtaken."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ctypes
import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from memhp.check.dump_laws import LAWS, DumpedTables, check_dumped
from memhp.errors import BadInput, MemhpError
from memhp.facts import dmesg, iomem, kcore, table_source
from memhp.facts.capture import File
from memhp.facts.kpageflags import ENTRY, SUMMARY, parse, summary
from memhp.facts.observed import Facts
from memhp.facts.observed import observe as observed
from memhp.facts.page_table_laws import memory_frames, ram_frames
from memhp.facts.page_tables import read_tables_of
from memhp.facts.source import DMESG, FileSource, Source
from memhp.operate import plan as plans
from memhp.operate.apply import Mode, apply, check_machine
from memhp.operate.journal import RECORD, unfinished
from memhp.operate.plan import HostPlan, machine_state
from memhp.operate.why import why
from memhp.scenario.load import loads
from memhp.spans import Span, SpanSet
from memhp.target.guest import observe
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.launch import end
from memhp.target.guest.plugged import ERRNO
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.target import GuestTarget, spec_for
from memhp.target.guest.versions import newest

SCENARIOS = {
    "x86_64": """
machine = { arch = "x86_64", memory = "1000M", boot = { memhp_default_state = "offline" } }
steps = [
  { do = "plug", size = "256M", online = "kernel" },
  { do = "plug", size = "512M", online = "movable" },
  { do = "allocate", size = "160M", kind = "movable", tag = "files" },
]
""",
    "arm64": """
machine = { arch = "arm64", memory = "1G", boot = { memhp_default_state = "online_movable" } }
steps = [
  { do = "virtio-mem", size = "1G", requested = "450M", device = "small" },
  { do = "virtio-mem", size = "1G", requested = "256M", block_size = "256M", device = "big" },
  { do = "set", parameter = "auto_online_blocks", to = "online_kernel" },
  { do = "resize", to = "700M", device = "small" },
  { do = "allocate", size = "160M", kind = "movable", tag = "files" },
]
""",
}
ARCHES = tuple(SCENARIOS)
READ = 1 << 16
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
KILLS = int(os.environ.get("MEMHP_KILLS", "4"))
STATE = "/sys/devices/system/memory/memory{}/state"


class Situation(NamedTuple):
    """A memory block in a state that was provoked: how it is found, and how the kernel ends the attempt."""

    name: str
    zone: str
    """The zone of the block; "" for one in several."""
    most: str
    """The kind of page of which it has more than the others."""
    ends: str
    """``ok``, or the reason: that which the kernel logs, but for several zones, of which it logs nothing."""
    before: str = ""
    """What is done in the guest first."""
    dumped: str = ""
    """Why the kernel dumps a page."""
    certain: bool = True
    """Whether files tell that it will be so, and not only that it may."""


INODES = "mkdir -p /run/inodes; cd /run/inodes; seq 1 4000 | xargs touch; cd /"
POOL = "echo 24 > /proc/sys/vm/nr_hugepages"
NO_POOL = "umount /run/huge; echo 0 > /proc/sys/vm/nr_hugepages"
PROMISED = "mkdir -p /run/huge && mount -t hugetlbfs -o min_size=48M none /run/huge"
HUGE = "failure to dissolve huge pages"
UNMOVABLE, ISOLATION, NOTIFIER = "unmovable page", "failure to isolate range", "notifier failure"
SITUATIONS = {
    "x86_64": (
        Situation("it is in several zones", "", "", "several zones"),
        Situation("it ends above the end of RAM", "DMA32", "reserved", "memory holes"),
        Situation("it has the inodes of files", "Normal", "slab", ISOLATION, INODES, UNMOVABLE),
        Situation("it has page tables", "Normal", "table", ISOLATION, dumped=UNMOVABLE),
        Situation("boot memory is free", "DMA32", "free", "ok"),
        Situation("it has files, and is movable", "Movable", "movable", "ok"),
        Situation("it is free, and movable", "Movable", "free", "ok"),
        Situation("it has free huge pages", "Movable", "huge", "ok", POOL),
        Situation("its huge pages are promised", "Movable", "huge", HUGE, f"{POOL}; {PROMISED}", certain=False),
        Situation("its huge pages are gone", "Movable", "free", "ok", NO_POOL),
    ),
    "arm64": (
        Situation("it has the kernel", "DMA", "reserved", ISOLATION, dumped=UNMOVABLE),
        Situation("boot memory is free", "DMA", "free", NOTIFIER),
        Situation("it has the inodes of files", "Normal", "slab", ISOLATION, INODES, UNMOVABLE),
        Situation("virtio-mem plugged a part of it", "Normal", "offline", "ok"),
        Situation("it has files, and is movable", "Movable", "movable", "ok"),
        Situation("it is a part of what virtio-mem plugs at once", "Movable", "last", "ok"),
        Situation("it has free huge pages", "Movable", "huge", "ok", POOL),
    ),
}
CASES = [
    pytest.param(arch, each, id=f"{arch}: {each.name}")
    for arch, table in SITUATIONS.items()
    for each in table
]


def kernel(arch: str) -> Kernel:
    """The newest fetched kernel of an architecture."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == arch}
    if not found:
        pytest.skip(f"NO {arch} KERNEL WAS BOOTED: run memhp guest fetch 7.2:{arch}")
    return found[newest(found)]


@pytest.fixture(scope="module")
def guests() -> Iterator[Callable[[str], Guest]]:
    """Running guests with memory plugged and in use, by architecture: each starts when it is first asked for."""
    started: dict[str, Guest] = {}
    with ExitStack() as stack:

        def of_arch(arch: str) -> Guest:
            if arch not in started:
                scenario = loads(SCENARIOS[arch])
                spec = spec_for(GuestSpec(kernel(arch)), scenario)
                found = stack.enter_context(running(user_cache(), find_qemu(user_cache(), arch), spec))
                target = GuestTarget(found)
                for step in scenario.steps:
                    assert target.carry_out(step).result == "ok"
                started[arch] = found
            return started[arch]

        yield of_arch


@pytest.fixture
def guest(request: pytest.FixtureRequest, guests: Callable[[str], Guest]) -> Guest:
    """The guest of an architecture."""
    return guests(request.param)


def flags(guest: Guest, facts: Facts, block: int) -> str:
    """What the pages of a block are, as lines of a summary."""
    per = facts.memory.block_size // (facts.page_size or 4096)
    skip, count = block * per * ENTRY // 4096, max(per * ENTRY // 4096, 1)
    answer = guest.agent.run(f"dd if=/proc/kpageflags bs=4096 skip={skip} count={count} 2>/dev/null")
    words = np.frombuffer(answer.output[: per * ENTRY], dtype=np.uint64)
    return summary(f"memory{block}", block * per, words, SpanSet([Span(block * per, (block + 1) * per)]))


def found(guest: Guest, case: Situation) -> tuple[int, Source, FileSource]:
    """The block of a situation, and the guest with what the pages of that block are: without its log, with it."""
    shown = observe.source(guest)
    facts = observed(shown)
    blocks = [each for each in facts.memory.blocks if each.state == "online"]
    those = [each.index for each in blocks if (each.zone or "") == case.zone]
    texts = {block: flags(guest, facts, block) for block in those}
    most = those[-1 if case.most else 0]
    if case.most not in ("", "last"):
        counts = {
            block: sum(run.pages for run in parse(text) if run.kind == case.most) for block, text in texts.items()
        }
        assert any(counts.values()), f"no page is {case.most}"
        most = max(counts, key=lambda block: counts[block])
    files = {**shown._files, SUMMARY: File(texts[most], "guest:/proc/kpageflags")}
    silent = {path: file for path, file in files.items() if path != DMESG}
    return most, FileSource(shown.name, "capture", silent), FileSource(shown.name, "capture", files)


@pytest.mark.parametrize(("guest", "case"), CASES, indirect=["guest"])
def test_why_says_of_a_block_what_the_kernel_says_when_it_is_asked(guest: Guest, case: Situation) -> None:
    if case.before:
        assert guest.agent.run(case.before, 120).status == 0
    block, silent, before = found(guest, case)
    said = why(silent, str(block))
    logged = len(dmesg.parse(before.read(DMESG)).offline_failures)
    # A signal ends an attempt that would go on for ever.
    answer = guest.agent.run(f"timeout 20 sh -c 'echo offline > {STATE.format(block)}'", 120)
    log = guest.agent.run("dmesg").text
    failures = dmesg.parse(log).offline_failures[logged:]
    if answer.status == 0:
        guest.agent.write(STATE.format(block), "online_movable" if case.zone == "Movable" else "online")
    if case.ends == "ok":
        assert (answer.status, said.verdict) == (0, "goes"), (failures, said.blocks)
        return
    (obstacle,) = said.blocks[0].obstacles
    assert (obstacle.reason, obstacle.certain) == (case.ends, case.certain)
    assert said.verdict == ("refused" if case.certain else "unclear")
    assert ERRNO[answer.text.strip().rpartition(": ")[2]] == obstacle.errno
    assert [each.reason for each in failures] == ([case.ends] if case.ends != "several zones" else [])
    told = why(FileSource("guest", "capture", {**before._files, DMESG: File(log, "guest:dmesg")}), str(block)).logged
    assert [(each.reason, each.page) for each in told[:1]] == [(each.reason, case.dumped) for each in failures]


class GuestHost:
    """A guest as the host of a plan."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def source(self) -> Source:
        """Its blocks, kernel and boot."""
        files = "/proc/sys/kernel/osrelease /proc/sys/kernel/random/boot_id /sys/devices/system/memory"
        text = self.guest.agent.run(f"grep -rHs '' {files}").text
        return FileSource("guest", "sysroot", {p: File(t, f"guest:{p}") for p, t in observe.parse(text).items()})

    def write(self, block: int, text: str, seconds: float) -> str:
        """Write to a block's state."""
        said = self.guest.agent.write(STATE.format(block), text, seconds)
        return ERRNO.get(said, said) if said else "ok"


def planned(guest: Guest, about: str) -> HostPlan:
    """A plan to take blocks of a guest offline."""
    source = observe.source(guest)
    shown = observed(source)
    made = plans.plan(source, shown, plans.evacuate(source, shown, about))
    assert made.verdict == "reached"
    machine = machine_state(GuestHost(guest).source())
    return msgspec.structs.replace(made, machine=machine, id=plans.plan_id(made.goal, machine, made.steps))


def evacuation(guest: Guest) -> HostPlan:
    """A plan to clear the DIMM."""
    blocks = [each.index for each in observe.facts(guest).memory.blocks if each.zone == "Movable"]
    return planned(guest, f"{blocks[0]}-{blocks[-1]}")


X86 = ARCHES[:1]


def left(guest: Guest, plan: HostPlan) -> str:
    """How the guest differs from what it was before a plan."""
    return check_machine(plan, machine_state(GuestHost(guest).source()))


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_a_block_that_refuses_stops_a_plan_until_what_stands_in_the_way_is_gone(guest: Guest, tmp_path: Path) -> None:
    """Huge pages of a pool that are promised to a file system: alloc_and_dissolve_hugetlb_folio() answers EBUSY."""
    guest.agent.run(POOL)
    host, plan = GuestHost(guest), evacuation(guest)
    assert guest.agent.run(PROMISED).status == 0
    stopped = apply(plan, host, tmp_path)
    assert (stopped.verdict, stopped.steps[-1]) == ("stopped", "EBUSY")
    assert guest.agent.run("umount /run/huge").status == 0
    assert apply(plan, host, tmp_path, mode="resume").verdict == "done"
    assert check_machine(plan, machine_state(host.source()), len(plan.steps)) == ""
    assert apply(plan, host, tmp_path, mode="roll-back").verdict == "rolled-back"
    assert left(guest, plan) == ""
    guest.agent.run(NO_POOL)


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_what_somebody_else_does_stops_a_plan_at_once(guest: Guest, tmp_path: Path) -> None:
    class Overtaken(GuestHost):
        """While a block is written, somebody takes another one offline."""

        def write(self, block: int, text: str, seconds: float) -> str:
            guest.agent.write(STATE.format(2), "offline")
            return super().write(block, text, seconds)

    plan = evacuation(guest)
    stopped = apply(plan, Overtaken(guest), tmp_path)
    assert (stopped.verdict, stopped.steps) == ("stopped", ["ok"])
    assert stopped.why.startswith("block 2 is offline")
    with pytest.raises(BadInput, match="the machine changed since the plan"):
        apply(plan, GuestHost(guest), tmp_path / "elsewhere")
    assert apply(plan, GuestHost(guest), tmp_path, mode="roll-back").verdict == "rolled-back"
    guest.agent.write(STATE.format(2), "online")
    assert left(guest, plan) == ""


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_a_plan_killed_at_random_moments_leaves_a_guest_that_the_journal_tells_of(guest: Guest, tmp_path: Path) -> None:
    host, plan, draw, kills = GuestHost(guest), evacuation(guest), random.Random(3), 0
    before = {each.block: each for each in plan.machine.blocks}
    after = before | {step.block: step.after for step in plan.steps}
    while kills < KILLS:
        begun = tmp_path / f"{plan.id}.journal"
        mode: Mode = "new" if begun not in unfinished(tmp_path) else draw.choice(("resume", "roll-back"))
        if mode == "new" and check_machine(plan, machine_state(host.source())):
            begun.rename(begun.with_suffix(".over"))
            for step in plan.steps:
                host.write(step.block, "online_movable", 60)
        child = os.fork()
        if child == 0:
            try:
                apply(plan, host, tmp_path, mode=mode)
            except BadInput:
                os._exit(2)
            os._exit(0)
        time.sleep(draw.random() * 1.5)
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        guest.agent.run("true")
        now = machine_state(host.source()).blocks
        assert [each for each in now if each not in (before[each.block], after[each.block])] == []
    if unfinished(tmp_path):
        assert apply(plan, host, tmp_path, mode="roll-back").verdict == "rolled-back"
        assert check_machine(plan, machine_state(host.source())) == ""


def on_a_disk(folder: Path, size: str) -> None:
    """Put a tmpfs of that size there, seen by this process alone."""
    libc, users, groups = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {users} 1"), ("gid_map", f"0 {groups} 1")):
        Path("/proc/self", name).write_text(text)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all room that is left there."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_a_full_disk_under_the_journal_stops_a_plan_before_it_changes_the_guest_or_not_at_all(
    guest: Guest, tmp_path: Path
) -> None:
    """A disk of 4 KiB, which the journal does not fit on; one with room, which somebody takes at the first step."""
    plan, said = evacuation(guest), tmp_path / "said"
    disk = tmp_path / "disk"
    disk.mkdir()

    class Crowded(GuestHost):
        def write(self, block: int, text: str, seconds: float) -> str:
            fill(disk)
            return super().write(block, text, seconds)

    child = os.fork()
    if child == 0:
        try:
            on_a_disk(disk, "4k")
            with pytest.raises(BadInput, match="cannot keep the journal: No space left on device"):
                apply(plan, GuestHost(guest), disk)
            assert (left(guest, plan), list(disk.iterdir())) == ("", [])
            subprocess.run(["mount", "-o", "remount,size=64k", str(disk)], check=True)
            assert apply(plan, Crowded(guest), disk).verdict == "done"
            assert (disk / "filler").stat().st_size > 0
            assert unfinished(disk) == []
            said.write_text("both as foretold")
        except BaseException as error:
            said.write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if said.read_text().startswith("PermissionError"):
        pytest.skip(f"NO FULL DISK WAS TRIED: {said.read_text()}")
    assert said.read_text() == "both as foretold"
    assert check_machine(plan, machine_state(GuestHost(guest).source()), len(plan.steps)) == ""
    for step in plan.steps:
        GuestHost(guest).write(step.block, "online_movable", 60)
    assert left(guest, plan) == ""


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_a_disk_that_takes_no_record_of_a_step_that_was_taken_leaves_a_guest_that_can_be_gone_on_with(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that copies on write: the block is offline, its record could not be written."""
    host, plan, write = GuestHost(guest), evacuation(guest), os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if at >= 2 * RECORD:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(BadInput, match="cannot keep the journal: No space left on device"):
            apply(plan, host, tmp_path)
    assert [path.stem for path in unfinished(tmp_path)] == [plan.id]
    assert check_machine(plan, machine_state(host.source()), 1) == ""
    assert apply(plan, host, tmp_path, mode="resume").steps == ["ok"] * len(plan.steps)
    assert apply(plan, host, tmp_path, mode="roll-back").verdict == "rolled-back"
    assert left(guest, plan) == ""


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_the_laws_hold_on_page_tables_read_from_the_kcore_of_a_kernel_that_runs(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(_: int, size: int, offset: int) -> bytes:
        """Of what is asked for beyond the headers, which are a few pages, there is nothing."""
        if size > READ and offset:
            return b""
        asked = f"dd if=/proc/kcore bs={min(size, READ)} count=1 skip={offset} iflag=skip_bytes 2>/dev/null"
        return guest.agent.run(asked).output

    there = SimpleNamespace(open=os.open, close=os.close, pread=pread, O_RDONLY=os.O_RDONLY, O_CLOEXEC=os.O_CLOEXEC)
    monkeypatch.setattr(kcore, "os", there)
    monkeypatch.setattr(table_source, "KCORE", Path(os.devnull))
    source = table_source.open_tables(table_source.KCORE)
    seen = read_tables_of(source)
    assert source.live and seen.kernel is not None
    assert not seen.missing
    resources = iomem.parse(guest.agent.run("cat /proc/iomem").text, where="/proc/iomem")
    shift = seen.fmt.page_shift
    memory = ram_frames(resources, shift), memory_frames(resources, shift)
    found = check_dumped(DumpedTables(seen.everything, seen.tables, seen.kernel.maps, *memory))
    assert {each.law: (each.breaches, each.unchecked) for each in found} == {each.name: ((), "") for each in LAWS}


@pytest.mark.parametrize("guest", X86, indirect=True)
def test_after_a_power_cut_the_journal_says_that_the_machine_booted_and_another_plan_may_begin(
    guest: Guest, tmp_path: Path
) -> None:
    """The last of all: the guest is gone then."""
    plan = evacuation(guest)
    with pytest.raises(MemhpError):
        apply(plan, GuestHost(guest), tmp_path, tell=lambda _: end(guest.child))
    begun = unfinished(tmp_path)
    assert len(begun) == 1
    with running(guest.cache, guest.qemu, guest.spec) as again:
        host = GuestHost(again)
        for mode in ("resume", "roll-back"):
            with pytest.raises(BadInput, match="has booted since"):
                apply(plan, host, tmp_path, mode=mode)
        another = planned(again, "2-3")
        assert apply(another, host, tmp_path).verdict == "done"
    assert unfinished(tmp_path) == []
