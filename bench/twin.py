"""How fast a twin is: ``lsmem`` beside the same tree on tmpfs, many blocks, many writes. Run: python bench/twin.py."""
# SPDX-License-Identifier: GPL-2.0-or-later

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memhp.facts.derive import derive
from memhp.facts.sysroot import write_sysroot
from memhp.twin.boot import boot

RUNS = 7
WRITES = 10_000
PROBE = """
import os, subprocess, sys, time
def seconds(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
def lsmem():
    subprocess.run(["lsmem"], stdout=subprocess.DEVNULL, check=True)
print("lsmem", min(seconds(lsmem) for _ in range(int(sys.argv[1]))))
def writes():
    for turn in range(int(sys.argv[2])):
        file = os.open(f"/sys/devices/system/memory/memory{40 + turn % 16}/state", os.O_WRONLY)
        os.write(file, b"online" if turn // 16 % 2 else b"offline")
        os.close(file)
if int(sys.argv[2]):
    print("writes", seconds(writes))
"""


def machine(folder: Path, memory: str) -> str:
    """A scenario with so much memory, whose end lets the kernel choose blocks of 128 MiB."""
    path = folder / f"{memory}.toml"
    path.write_text(f'[machine]\narch = "x86_64"\nmemory = "{memory}"\n')
    return str(path)


def on_twin(scenario: str, runs: int, writes: int) -> dict[str, float]:
    """Seconds by what was done."""
    words = [sys.executable, "-m", "memhp", "twin", "--speed", "0", scenario, "--"]
    done = subprocess.run(
        [*words, sys.executable, "-c", PROBE, str(runs), str(writes)], capture_output=True, text=True, check=True
    )
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def on_tmpfs(scenario: str, folder: Path) -> float:
    """Seconds of lsmem on the same tree as files."""
    root = folder / "root"
    write_sysroot(derive(boot(scenario).twin.session.k), root)
    best = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(["lsmem", "--sysroot", str(root)], stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        half, large = machine(folder, "64G"), machine(folder, "4194432M")
        files, twin = on_tmpfs(half, folder), on_twin(half, RUNS, WRITES)
        print(f"lsmem, 512 blocks: {twin['lsmem']:.3f} s on the twin, {files:.3f} s on tmpfs: "
              f"{twin['lsmem'] / files:.1f} times")  # fmt: skip
        print(f"{WRITES} state writes: {twin['writes']:.1f} s")
        print(f"lsmem, 32768 blocks: {on_twin(large, 1, 0)['lsmem']:.1f} s")


if __name__ == "__main__":
    main()
