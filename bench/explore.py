"""How fast the explorer is: increment races and critical sections, beside the package frontrun and beside SPIN.

Run as ``python bench/explore.py [--json] [--frontrun COMMAND] [--spin COMMAND]``. Each tool looks at the whole of the
race, and then for the first increment that is lost. frontrun is the Python package (requirements-bench.txt has it);
SPIN is given an equal model written by hand, bench/increments.pml, and needs a C compiler. What is not at hand is said.
A run starts from the program and ends with the verdict; with SPIN that takes in making and compiling the checker, and
the time of the checker alone is given as well. Our own figures on the races are the best of several runs, the others'
are of one. Executions a second and ratios are by processor time: what one core does, whatever else the machine is at.
What no explorer of this sort can be faster than is measured too: the threads of one execution after the other, switched
to and from for each of their operations, by somebody who notes nothing and chooses nothing. The last of our lines are
kernel code on a machine.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from math import factorial
from pathlib import Path
from typing import NamedTuple

from greenlet import getcurrent, greenlet

from memhp.check import check_all
from memhp.explore.cases import case
from memhp.explore.engine.op import Run
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared

RUNS = 5
SECONDS = 1.0
"""Our own races are explored again and again for so long, and at least `RUNS` times."""
MOST_OVER_SWITCHES = 3.0
"""How many times as long as its bare switches an execution of the increment races may take."""
SOME = 500
"""Executions that are done bare at once, to be measured together."""
THREADS = (2, 3, 4, 5)
HERE = Path(__file__).parent
KERNEL_CASES = (
    ("free-before-flush", "riscv-order", "riscv64-4K-39-linux-6.12"),
    ("ptdump-vs-hot-remove", "hotplug-lock", "arm64-16K-47-linux-6.12"),
    ("free-before-flush", "arm64-order", "arm64-4K-48-linux-6.12"),
)

SMALL_CASES = (
    ("vmalloc-fault", "preallocate", "riscv64-4K-39-linux-6.12"),
    ("ptdump-vs-hot-remove", "hotplug-lock", "riscv64-4K-39-linux-6.12"),
    ("pgd-sync-existing-process", "preallocate", "riscv64-4K-39-linux-6.12"),
    ("pfn-walker-vs-offline", "hotplug-lock", "riscv64-4K-39-linux-6.12"),
)
"""Races of a few executions, of which what comes before the first could be most."""
MOST_OVER_BARE = 2.0
"""How many times as long as a bare execution one of a small race may take, all that is done once shared out."""


class Figure(NamedTuple):
    """One line of the report."""

    tool: str
    case: str
    seconds: float
    executions: int | None = None
    """None for a tool that counts states."""
    states: int | None = None
    steps: int | None = None
    processor: float | None = None
    """Seconds of processor time."""
    running: float | None = None
    """Seconds of processor time without what is made and compiled first."""
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Executions a second of processor time."""
        return None if self.executions is None or self.processor is None else self.executions / self.processor


def increment(memory: Shared) -> None:
    """Read, then write: one of two at the same time is lost."""
    memory.store("x", memory.load("x") + 1)


def three_sections(memory: Shared) -> None:
    """Three critical sections."""
    for _ in range(3):
        with memory.locked("lock"):
            pass


def whole(threads: int) -> str:
    """What a figure is about: everything that can happen."""
    return f"increment race, {threads} threads, whole"


def lost(threads: int) -> str:
    """What a figure is about: until an increment is lost."""
    return f"increment race, {threads} threads, one lost"


def ours(name: str, program: Program, expected: int) -> Figure:
    """The reducing search over a whole program."""

    def explore() -> int:
        run = program.run()
        coverage = search(run, Limits(stop_at_failure=False)).coverage
        run.close()
        if coverage.executions != expected or coverage.cut:
            raise SystemExit(
                f"{name}: {coverage.executions} executions and {coverage.cut} cut, not {expected} and none"
            )
        return coverage.executions

    return best_of(name, explore)


def best_of(name: str, explore: Callable[[], int]) -> Figure:
    """The best of several runs; `explore` returns how many executions it has looked at."""
    best = busy = float("inf")
    runs, end = 0, time.perf_counter() + SECONDS
    while runs < RUNS or time.perf_counter() < end:
        start, start_busy = time.perf_counter(), time.process_time()
        executions = explore()
        best, busy = min(best, time.perf_counter() - start), min(busy, time.process_time() - start_busy)
        runs += 1
    return Figure("memhp", name, best, executions, processor=busy)


def switches(threads: int) -> float:
    """Processor seconds for one execution of the increment race, switches and nothing else."""

    def body() -> None:
        value = hub.switch("load")
        hub.switch("store", value + 1)

    def execution() -> None:
        cells = {"x": 0}
        for _ in range(threads):
            running = greenlet(body)
            running.switch()
            _, value = running.switch(cells["x"])
            cells["x"] = value
            running.switch()

    def explore() -> int:
        for _ in range(SOME):
            execution()
        return SOME

    hub = getcurrent()
    busy = best_of("switches", explore).processor
    assert busy is not None
    return busy / SOME


def ours_lost(threads: int) -> Figure:
    """Until the reducing search finds a lost increment."""

    def check(cells: Mapping[str, object]) -> str | None:
        return None if cells["x"] == threads else "lost"

    def explore() -> int:
        run = Program((increment,) * threads, {"x": 0}, check=check).run()
        found = search(run)
        run.close()
        if found.word != "broken":
            raise SystemExit(f"{lost(threads)}: {found.word}")
        return found.coverage.executions

    return best_of(lost(threads), explore)


def kernel(name: str, variant: str, configuration: str) -> Figure:
    """A case of memory hotplug, decided."""
    program = case(name).program(variant, configuration)

    def decided(run: Run) -> tuple[str, int, int]:
        verdict = decide(run, case(name).limits)
        return verdict.word, verdict.coverage.executions, verdict.coverage.steps

    start, start_busy = time.perf_counter(), time.process_time()
    word, executions, steps = decided(program.run())
    seconds, busy = time.perf_counter() - start, time.process_time() - start_busy
    figure = Figure("memhp", f"{name}/{variant} {configuration}", seconds, executions, processor=busy)
    return figure._replace(steps=steps, note=word)


def over_bare(name: str, variant: str, configuration: str) -> tuple[str, float]:
    """How much longer a decision takes for each execution than the actors one after the other on a copy of the machine,
    every law checked afterwards; in processor time.
    """
    one = case(name)
    program = one.program(variant, configuration)

    def bare() -> int:
        k = deepcopy(program.kernel)
        for cpu, actor in enumerate(program.actors):
            k.hw.cpu = cpu
            actor(k)
        check_all(k)
        return 1

    def decided() -> int:
        run = program.run()
        verdict = decide(run, one.limits)
        run.close()
        return verdict.coverage.executions

    alone, whole = best_of(name, bare), best_of(name, decided)
    assert alone.processor is not None and whole.processor is not None and whole.executions is not None
    return f"{name}/{variant} {configuration}", whole.processor / whole.executions / alone.processor


def frontrun(command: str, threads: int, until: str) -> Figure | str:
    """The same race, by frontrun; why not, when it cannot be had."""
    found = shutil.which(command)
    if found is None:
        return "frontrun: not on this machine; pip install --require-hashes -r requirements-bench.txt"
    script = [sys.executable, str(HERE / "frontrun_race.py"), str(threads), until]
    done = subprocess.run([found, *script], text=True, capture_output=True, check=False)
    if done.returncode:
        return f"frontrun: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    executions, seconds, busy = json.loads(done.stdout.strip().splitlines()[-1])
    name = whole(threads) if until == "all" else lost(threads)
    return Figure("frontrun", name, seconds, executions, processor=busy)


def spin(command: str, threads: int, until: str) -> Figure | str:
    """An equal model, by SPIN, from the model to the verdict; why not, when it cannot be had."""
    if shutil.which(command) is None or shutil.which("cc") is None:
        return "spin: no spin or no C compiler on this machine (Debian: apt install spin gcc)"
    options = [f"-DN={threads}", *(["-DLOSE"] if until == "lost" else [])]
    model = str(HERE / "increments.pml")
    steps = ([command, *options, "-a", model], ["cc", "-O2", "-o", "pan", "pan.c"], ["./pan"])
    with tempfile.TemporaryDirectory() as folder:
        start, start_busy = time.perf_counter(), children_busy()
        for step in steps:
            before = children_busy()
            done = subprocess.run(step, cwd=folder, text=True, capture_output=True, check=False)
            if done.returncode:
                return f"spin: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        seconds, end = time.perf_counter() - start, children_busy()
    found_one = "assertion violated" in done.stdout
    if found_one != (until == "lost"):
        raise SystemExit(f"spin: {lost(threads)}: {found_one}")
    states = int(next(line.split()[0] for line in done.stdout.splitlines() if "states, stored" in line))
    name = whole(threads) if until == "all" else lost(threads)
    return Figure("spin", name, seconds, states=states, processor=end - start_busy, running=end - before)


def children_busy() -> float:
    """Processor time of all programs that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ratios(figures: list[Figure]) -> list[str]:
    """Others' processor times and executions by ours, case by case."""
    mine = {figure.case: figure for figure in figures if figure.tool == "memhp"}
    lines = []
    for figure in figures:
        own = mine.get(figure.case)
        if figure.tool == "memhp" or own is None or not own.processor or figure.processor is None:
            continue
        parts = [f"{figure.processor / own.processor:,.1f} times as long"]
        if figure.executions is not None and own.executions:
            parts.append(f"{figure.executions / own.executions:,.1f} times as many executions")
        if figure.running is not None:
            parts.append(f"{figure.running / own.processor:,.1f} times without compiling")
        lines.append(f"{figure.tool:9} {figure.case:38} {', '.join(parts)}")
    return lines


def text(figure: Figure) -> str:
    """A figure in one line."""
    parts = []
    if figure.rate is not None and figure.executions is not None:
        parts.append(f"{figure.executions:>7,} executions {figure.rate:>9,.0f}/s")
    if figure.states is not None:
        parts.append(f"{figure.states:>7,} states")
    if figure.steps is not None:
        parts.append(f"{figure.steps:,} steps")
    if figure.running is not None:
        parts.append(f"{figure.running:.4f} s without compiling")
    if figure.note:
        parts.append(figure.note)
    return f"{figure.tool:9} {figure.case:38} {figure.seconds:>9.4f} s  {', '.join(parts)}"


def main() -> int:
    """Measure and print; 1 when a race takes too many times as long as the least that it could."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", action="store_true", help="print JSON")
    beside = Path(sys.executable).with_name("frontrun")
    options.add_argument("--frontrun", default=str(beside if beside.exists() else "frontrun"), help="its command")
    options.add_argument("--spin", default="spin", help="the SPIN command")
    chosen = options.parse_args()
    figures = [ours(whole(n), Program((increment,) * n, {"x": 0}), factorial(n) ** 2) for n in THREADS]
    bare = {figure.case: 1 / (figure.rate or 1) / switches(n) for n, figure in zip(THREADS, figures, strict=True)}
    fast = all(ratio <= MOST_OVER_SWITCHES for ratio in bare.values())
    figures += [ours_lost(n) for n in THREADS]
    figures.append(ours("2 threads, 3 critical sections", Program((three_sections,) * 2), 20))
    calls: list[Callable[[], Figure | str]] = [
        lambda n=n, until=until: frontrun(chosen.frontrun, n, until)  # type: ignore[misc]
        for until, most in (("all", 4), ("lost", 5))
        for n in THREADS
        if n <= most
    ]
    calls += [
        lambda n=n, until=until: spin(chosen.spin, n, until)  # type: ignore[misc]
        for until in ("all", "lost")
        for n in THREADS
    ]
    missing = []
    for figure in (call() for call in calls):
        if isinstance(figure, Figure):
            figures.append(figure)
        elif figure not in missing:
            missing.append(figure)
    figures += [kernel(*names) for names in KERNEL_CASES]
    small = dict(over_bare(*names) for names in SMALL_CASES)
    little = all(ratio <= MOST_OVER_BARE for ratio in small.values())
    if chosen.json:
        rows = [figure._asdict() | {"rate": figure.rate} for figure in figures]
        report = {"figures": rows, "over_switches": bare, "over_bare": small, "missing": missing}
        print(json.dumps(report | {"holds": fast and little}, indent=2))
    else:
        print(*map(text, figures), sep="\n")
        print(*ratios(figures), sep="\n", end="\n" if len(figures) > len(missing) else "")
        print(*missing, sep="\n", end="\n" if missing else "")
        for name, ratio in small.items():
            print(f"{name}: {ratio:.1f} times a bare execution for each")
        for name, ratio in bare.items():
            print(f"{name}: {ratio:.1f} times its bare switches for each execution")
        print(f"increment races within {MOST_OVER_SWITCHES:g} times their bare switches: {'yes' if fast else 'no'}")
        print(f"small races within {MOST_OVER_BARE:g} times their bare executions: {'yes' if little else 'no'}")
    return 0 if fast and little else 1


if __name__ == "__main__":
    sys.exit(main())
