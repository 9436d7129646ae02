"""Twins that are killed at random moments, with their helpers or a tool: python tests/kill_twins.py --help.

Told is what was left: processes, mounts, or somebody who waits for what never comes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from twin_machines import SMALL

PATIENCE = 60.0
"""Seconds until what has not happened never will."""
MARK = "MEMHP_KILLED"
"""A variable by which a twin's processes are known, whatever they start."""
VICTIMS = ("twin", "outside", "first", "tool", "twin outside", "twin first", "twin outside first", "outside first")
"""Who is killed: the twin, its child, the first process of the namespace, any other; several at the same moment."""
LATEST = 6.0
"""Seconds from the start to the last moment at which somebody is killed."""
TOOLS = """: > $0
memory=/sys/devices/system/memory
(while :; do cat $memory/memory0/state $memory/memory*/valid_zones; sleep 0.01; done > /dev/null 2>&1) &
state=$memory/memory40/state
setsid sh -c "while :; do echo offline > $state; echo online > $state; done" 2> /dev/null &
(cat /dev/kmsg > /dev/null 2>&1) &
echo offline > $memory/memory41/state &
while :; do ls $memory > /dev/null; done
"""
"""They go on whatever they read, one in a session of its own; one waits for the log, one for a very long write."""
SLOW = '[[twin]]\nthen = { do = "slow", seconds = 100000, blocks = [41] }\n'


Moment = Callable[["subprocess.Popen[bytes]", Path], None]
"""Waits until somebody is to be killed: is told the twin, and a path that is there once its command runs or it can be
read."""


def after(seconds: float) -> Moment:
    """A moment by the clock."""
    return lambda _, __: time.sleep(seconds)


def marked(mark: str) -> list[int]:
    """The processes that have a mark, in the order of their numbers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def children(pid: int) -> list[int]:
    """The children of a process; none of one that is gone."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(word) for word in words]


def kill(pids: list[int]) -> None:
    """Kill processes, as nearly at the same moment as can be."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def comes_true(what: Callable[[], bool]) -> bool:
    """Whether something is so before patience ends."""
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def begun(words: list[str], mark: str) -> "subprocess.Popen[bytes]":
    """``memhp twin`` whose processes have a mark."""
    return subprocess.Popen(
        [sys.executable, "-m", "memhp", "twin", *words], env={**os.environ, MARK: mark}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def victims(kinds: str, process: "subprocess.Popen[bytes]", mark: str, choices: random.Random) -> list[int]:
    """The processes that are meant, as far as there are any yet."""
    twin, outside = process.pid, children(process.pid)
    first = [child for pid in outside for child in children(pid)]
    others = sorted(set(marked(mark)) - {twin, *outside, *first})
    each = {"twin": [twin], "outside": outside, "first": first, "tool": [choices.choice(others)] if others else []}
    return [pid for kind in kinds.split() for pid in each[kind]]


def kill_one(folder: Path, seed: int, *, exact: bool, kinds: str, moment: Moment) -> str:
    """Kill somebody of a twin with a command; what is wrong after it, "" for nothing."""
    machine, mark = folder / f"{seed}.toml", f"{os.getpid()}-{seed}"
    machine.write_text(SMALL + SLOW)
    options = ["--speed", "0", *(["--exact"] if exact else [])]
    process = begun([*options, str(machine), "--", "sh", "-c", TOOLS, str(folder / f"runs-{seed}")], mark)
    moment(process, folder / f"runs-{seed}")
    kill(victims(kinds, process, mark, random.Random(seed)))
    if "twin" not in kinds:
        if "first" not in kinds and "outside" not in kinds:
            time.sleep(0.1)
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return f"the twin goes on: {process.pid}"
    if not comes_true(lambda: not marked(mark)):
        return f"processes are left: {marked(mark)}"
    return ""


def kill_mounted(folder: Path, seed: int, *, kinds: str, moment: Moment) -> str:
    """Kill a twin that is mounted at a folder, alone or with its helper; what is wrong after it, "" for nothing."""
    machine, mark, where = folder / f"{seed}.toml", f"{os.getpid()}-{seed}", folder / f"at-{seed}"
    machine.write_text(SMALL)
    where.mkdir()
    process = begun(["--mount", str(where), str(machine)], mark)
    moment(process, where / "sys")
    helper = children(process.pid) if "outside" in kinds else []
    kill([process.pid, *helper])
    process.wait(PATIENCE)
    if not comes_true(lambda: not marked(mark)):
        return f"processes are left: {marked(mark)}"
    if not helper and not comes_true(lambda: str(where) not in mounts()):
        return "the mount is left"
    # Where the helper was killed as well, the kernel keeps a mount that nobody serves; the next twin takes its place.
    again = begun(["--mount", str(where), str(machine)], mark)
    if not comes_true(lambda: readable(where / "sys")):
        return f"the folder is not to be had again, {again.poll()}"
    again.terminate()
    again.wait(PATIENCE)
    if not comes_true(lambda: str(where) not in mounts() and not marked(mark)):
        return "the mount is left"
    return ""


def readable(path: Path) -> bool:
    """Whether there is something at a path that somebody answers for."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def mounts() -> str:
    """What this process sees mounted."""
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def main() -> int:
    """Kill so many, and say what was left; 1 if anything was."""
    parser = argparse.ArgumentParser(description="twins that are killed at random moments")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    wrong = 0
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        for seed in range(told.seed, told.seed + told.count):
            choices = random.Random(seed)
            delay = choices.uniform(0, LATEST)
            moment = after(delay)
            if choices.random() < 0.25:
                kinds = choices.choice(["twin", "twin outside"])
                said, how = kill_mounted(Path(name), seed, kinds=kinds, moment=moment), "mounted"
            else:
                kinds, exact = choices.choice(VICTIMS), choices.random() < 0.5
                said = kill_one(Path(name), seed, exact=exact, kinds=kinds, moment=moment)
                how = "exact" if exact else "kept"
            wrong += bool(said)
            print(f"seed {seed}: {how}, {kinds} after {delay:.2f} s: {said or 'nothing left'}", flush=True)
    print(f"{told.count} killed, {wrong} left something")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
