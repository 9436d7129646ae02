"""How fast the explorer is: increment races and critical sections; beside frontrun and SPIN where they are at hand.

Run as ``python bench/explore.py [--json] [--frontrun COMMAND] [--spin COMMAND]``: the commands of the Python package
frontrun and of the model checker SPIN, which needs a C compiler. What is not at hand is said. Our own figures are the
best of several runs; a run starts from the program and ends with the verdict.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from math import factorial
from pathlib import Path
from typing import NamedTuple

from memhp.explore.program import Program, Shared
from memhp.explore.search import Limits, search

RUNS = 5
TARGET = 30_000
"""Executions a second on the increment races."""

FRONTRUN = """
import json, sys, time
import frontrun
class Counter:
    def __init__(self): self.value = 0
    def increment(self): self.value = self.value + 1
count = int(sys.argv[1])
start = time.perf_counter()
result = frontrun.explore(setup=Counter, workers=Counter.increment, count=count, invariant=lambda counter: True,
                          preemption_bound=None, stop_on_first=False, detect_io=False)
print(json.dumps([result.num_explored, time.perf_counter() - start]))
"""

PROMELA = """
byte x = 0;
active [%d] proctype increment() { byte seen; seen = x; x = seen + 1 }
"""


class Figure(NamedTuple):
    """One line of the report. `executions` is None for a tool that counts states."""

    tool: str
    case: str
    executions: int | None
    seconds: float
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Executions a second."""
        return None if self.executions is None else self.executions / self.seconds


def increment(memory: Shared) -> None:
    """Read, then write: one of two at the same time is lost."""
    memory.store("x", memory.load("x") + 1)


def three_sections(memory: Shared) -> None:
    """Three critical sections."""
    for _ in range(3):
        with memory.locked("lock"):
            pass


def ours(case: str, program: Program, expected: int) -> Figure:
    """The reducing search over a whole program."""
    best = float("inf")
    executions = cut = 0
    for _ in range(RUNS):
        start = time.perf_counter()
        run = program.run()
        coverage = search(run, Limits(stop_at_failure=False)).coverage
        run.close()
        best = min(best, time.perf_counter() - start)
        executions, cut = coverage.executions, coverage.cut
    if executions != expected or cut:
        raise SystemExit(f"{case}: {executions} executions and {cut} cut, not {expected} and none")
    return Figure("memhp", case, executions, best)


def frontrun(command: str, threads: int) -> Figure | str:
    """The same race, by frontrun; why not, when it cannot be had."""
    found = shutil.which(command)
    if found is None:
        return "frontrun: no such command on this machine"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "race.py")
        script.write_text(FRONTRUN)
        python = str(Path(found).with_name("python"))
        done = subprocess.run([found, python, str(script), str(threads)], text=True, capture_output=True, check=False)
    if done.returncode:
        return f"frontrun: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    executions, seconds = json.loads(done.stdout.strip().splitlines()[-1])
    return Figure("frontrun", f"increment race, {threads} threads", executions, seconds)


def spin(command: str, threads: int) -> Figure | str:
    """An equal model, by SPIN, from the model to the verdict; why not, when it cannot be had."""
    if shutil.which(command) is None or shutil.which("cc") is None:
        return "spin: no spin or no C compiler on this machine"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "race.pml").write_text(PROMELA % threads)
        start = time.perf_counter()
        for step in ([command, "-a", "race.pml"], ["cc", "-O2", "-DNOREDUCE", "-o", "pan", "pan.c"], ["./pan"]):
            before = time.perf_counter()
            done = subprocess.run(step, cwd=folder, text=True, capture_output=True, check=False)
            if done.returncode:
                return f"spin: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        end = time.perf_counter()
    states = next(line.split()[0] for line in done.stdout.splitlines() if "states, stored" in line)
    note = f"{states} states; {end - before:.3f} s of it to run, the rest to compile"
    return Figure("spin", f"increment race, {threads} threads", None, end - start, note)


def main() -> int:
    """Measure and print; 1 when the target is missed."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("--frontrun", default="frontrun", help="the frontrun command")
    options.add_argument("--spin", default="spin", help="the SPIN command")
    chosen = options.parse_args()
    figures = [
        ours(f"increment race, {n} threads", Program((increment,) * n, {"x": 0}), factorial(n) ** 2)
        for n in (2, 3, 4, 5)
    ]
    figures.append(ours("2 threads, 3 critical sections", Program((three_sections,) * 2), 20))
    missing = []
    for figure in (*(frontrun(chosen.frontrun, n) for n in (2, 3)), *(spin(chosen.spin, n) for n in (2, 3, 4, 5))):
        if isinstance(figure, Figure):
            figures.append(figure)
        elif figure not in missing:
            missing.append(figure)
    fast = all((figure.rate or 0) >= TARGET for figure in figures[2:4])
    if chosen.json:
        rows = [figure._asdict() | {"rate": figure.rate} for figure in figures]
        print(json.dumps({"figures": rows, "missing": missing, "target": TARGET, "holds": fast}, indent=2))
    else:
        for figure in figures:
            rate = f"{figure.executions:>7,} executions {figure.rate:>10,.0f}/s" if figure.rate else f"{figure.note}"
            print(f"{figure.tool:9} {figure.case:32} {figure.seconds:>9.4f} s  {rate}")
        print(*missing, sep="\n", end="\n" if missing else "")
        print(f"at least {TARGET:,} executions a second with 4 and 5 threads: {'yes' if fast else 'no'}")
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
