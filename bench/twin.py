"""How fast a twin is: ``lsmem`` beside the same tree on tmpfs, many blocks, many writes. Run: python bench/twin.py.

Times are the least of several runs, taken in turns with those on tmpfs, so that both had the same machine. What else
runs on it does not count for the seconds of processor time, which are those of the process that serves the files.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from memhp.facts.derive import derive
from memhp.facts.sysroot import write_sysroot
from memhp.twin.boot import boot

RUNS = 9
WRITES = 10_000
PROBE = """
import os, subprocess, sys, time
root, runs, writes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def seconds(act, *arguments):
    began = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - began
def lsmem(*options):
    subprocess.run(["lsmem", *options], stdout=subprocess.DEVNULL, check=True)
def write():
    for turn in range(writes):
        file = os.open(f"/sys/devices/system/memory/memory{40 + turn % 16}/state", os.O_WRONLY)
        os.write(file, b"online" if turn // 16 % 2 else b"offline")
        os.close(file)
def blocks():
    return sum(name.startswith("memory") for name in os.listdir("/sys/devices/system/memory"))
def tell(name, value):
    print(name, value, flush=True)
    sys.stdin.readline()
tell("blocks", blocks())
tell("first", seconds(lsmem))
pairs = [(seconds(lsmem), seconds(lsmem, "--sysroot", root)) for _ in range(runs)]
tell("twin", min(twin for twin, _ in pairs))
tell("tmpfs", min(files for _, files in pairs))
if writes:
    tell("before", 0)
    tell("writes", seconds(write))
    tell("changed", seconds(lsmem))
"""


def machine(folder: Path, memory: str) -> str:
    """A scenario with so much memory, whose end lets the kernel choose blocks of 128 MiB."""
    path = folder / f"{memory}.toml"
    path.write_text(f'[machine]\narch = "x86_64"\nmemory = "{memory}"\n')
    return str(path)


def measure(scenario: str, root: Path, *options: str, runs: int, writes: int = 0) -> dict[str, float]:
    """Seconds by what was done."""
    words = [sys.executable, "-m", "memhp", "twin", "--speed", "0", *options, scenario, "--"]
    probe = [sys.executable, "-c", PROBE, str(root), str(runs), str(writes)]
    found: dict[str, float] = {}
    with subprocess.Popen([*words, *probe], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as twin:
        assert twin.stdin is not None and twin.stdout is not None
        for line in twin.stdout:
            name, value = line.split()
            found |= {name: float(value), f"processor at {name}": processor(twin.pid)}
            twin.stdin.write("\n")
            twin.stdin.flush()
    if twin.returncode:
        sys.exit(twin.returncode)
    return found


def processor(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def tell(title: str, found: dict[str, float]) -> None:
    """Print the figures of a machine."""
    twin, files, first = found["twin"], found["tmpfs"], found["first"]
    print(f"{title}, {found['blocks']:.0f} blocks: lsmem {twin:.3f} s, {files:.3f} s on tmpfs: "
          f"{twin / files:.1f} times; the first time {first:.3f} s: {first / files:.1f} times; "
          f"{found['processor at blocks']:.1f} s of processor time before")  # fmt: skip
    if "writes" in found:
        busy = found["processor at writes"] - found["processor at before"]
        print(f"{title}: {WRITES} state writes: {found['writes']:.1f} s, {busy:.1f} s of processor time; "
              f"lsmem after them {found['changed'] / files:.1f} times")  # fmt: skip


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        half, large = machine(folder, "65664M"), machine(folder, "4194432M")
        for scenario in (half, large):
            write_sysroot(derive(boot(scenario).twin.session.k), Path(scenario).with_suffix(""))
        tell("kept", measure(half, Path(half).with_suffix(""), runs=RUNS, writes=WRITES))
        tell("--exact", measure(half, Path(half).with_suffix(""), "--exact", runs=RUNS, writes=WRITES))
        tell("kept", measure(large, Path(large).with_suffix(""), runs=2))


if __name__ == "__main__":
    main()
