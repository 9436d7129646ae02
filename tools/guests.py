"""``python3 dev.py guests``: real kernels of every architecture in QEMU, held against the model, within a time.

Kernels and QEMU are fetched into the user's cache (``memhp guest fetch``) and kept there. Then ``memhp conform`` plays
its own scenarios on every kernel and random lives on one of each architecture, and the tests in ``tests/guests`` run.

What could not be had or did not fit is told in capital letters at the end and fails nothing: without a network, or on
a machine that is too slow, less is shown, but nothing is wrong. A fact that differs, or a test that fails, does fail.
Everything that is started runs in a process group of its own that a time-out ends.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
KERNELS = ("7.2:cloud-amd64", "7.2:cloud-arm64", "7.2:riscv64")
LIVES = 10
BUDGET = 420
"""Seconds for everything: a third of what continuous integration has."""
FETCHING = 240
"""Of these, for the network."""
SCENARIOS = 150
WORKERS = 2
"""Guests at a time: each has two processors of its own to emulate."""
GRACE = 90
"""What a program that was told when to stop may take longer: a guest that boots is not interrupted."""


@dataclass(frozen=True)
class Ended:
    """How a program ended; `code` is None when its time was up."""

    code: int | None
    out: str
    err: str

    @property
    def last(self) -> str:
        """Its last complaint."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no reason given"


RUNNING: set[int] = set()
"""Process groups that were started and have not ended."""


def end_all() -> None:
    """End everything that was started."""
    for group in tuple(RUNNING):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def ended(command: Sequence[str | Path], seconds: float) -> Ended:
    """Run a program in a process group of its own, and end all of the group when its time is up."""
    child = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    RUNNING.add(child.pid)
    try:
        out, err = child.communicate(timeout=max(1.0, seconds))
        return Ended(child.returncode, out, err)
    except subprocess.TimeoutExpired:
        return Ended(None, "", f"not done after {seconds:.0f} s")
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        RUNNING.discard(child.pid)


Run = Callable[[Sequence[str | Path], float], Ended]


@dataclass
class Report:
    """What was shown, what was not, and what is wrong."""

    shown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The summary, the loudest last."""
        yield from self.shown
        yield from (f"NOT RUN: {each}" for each in self.missing)
        yield from (f"WRONG: {each}" for each in self.wrong)

    def conform(self, what: str, done: Ended) -> None:
        """Take in what ``memhp conform --json`` printed."""
        if done.code is None:
            self.missing.append(f"{what}: {done.last}")
            return
        try:
            found: dict[str, Any] = json.loads(done.out)
        except ValueError:
            self.wrong.append(f"{what}: exit code {done.code}: {done.last}")
            return
        for each in found["machines"]:
            self.shown.append(f"{each['name']}: {each['equal']} of {each['facts']} facts equal")
        self.missing += [f"{name}: {why}" for name, why in found["skipped"].items() if late(why)]
        if (lives := found.get("lives")) is not None:
            self._lives(what, lives)
            return
        self.wrong += [
            f"{each['step']}: {each['fact']}: kernel {each['expected']!r}, model {each['got']!r}"
            for each in found["details"]
            if each["verdict"] == "differing"
        ]

    def _lives(self, what: str, lives: dict[str, Any]) -> None:
        self.shown.append(f"{what}: {lives['finished']} lives, {lives['steps']} steps, {lives['differed']} differed")
        if len(lives["kept"]) > lives["unsteady"]:
            self.wrong += lives["kept"]
        else:
            self.missing += [f"{what}: a second look at what differed once:\n{each}" for each in lives["kept"]]
        if lives["finished"] < LIVES:
            why = f" ({lives['unfinished'][0]})" if lives["unfinished"] else ""
            self.missing.append(f"{what}: {LIVES - lives['finished']} of {LIVES} lives{why}")

    def tests(self, done: Ended) -> None:
        """Take in what pytest printed."""
        lines = done.out.strip().splitlines() or [done.last]
        if done.code is None:
            self.missing.append(f"tests/guests: {done.last}")
        elif done.code:
            self.wrong.append("tests/guests\n" + "\n".join(lines[-60:]))
        else:
            self.shown.append(f"tests/guests: {lines[-1]}")
            self.missing += [f"tests/guests: {line}" for line in lines if line.startswith("SKIPPED")]


def late(why: str) -> bool:
    """Whether something was not compared for want of time; what a kernel cannot do is nothing that is missing."""
    return any(words in why for words in ("time is up", "no answer in", "at work for more than", "did not move"))


def fetched(run: Run, report: Report, seconds: float) -> list[str]:
    """The kernels of `KERNELS` that are there, after an attempt to fetch those that are not."""
    memhp, why = PROGRAMS / "memhp", ""
    end = time.monotonic() + min(seconds, FETCHING)
    for each in KERNELS:  # one that no archive has keeps none of the others away
        done = run([memhp, "guest", "fetch", each], end - time.monotonic())
        why = why if not done.code and done.code is not None else done.last
    listed = run([memhp, "guest", "list", "--json"], 60)
    have = [each["release"] for each in json.loads(listed.out or "{}").get("kernels", ())]
    known = [kernel for kernel in KERNELS if any(_is(release, *kernel.split(":")) for release in have)]
    for kernel in KERNELS:
        if kernel not in known:
            report.missing.append(f"{kernel}: NO KERNEL OF THIS ARCHITECTURE WAS BOOTED: {why}")
    return known


def _is(release: str, series: str, flavour: str) -> bool:
    return release.startswith(f"{series}.") and release.endswith(f"-{flavour}")


def guests(run: Run, budget: float) -> Report:
    """Everything, within `budget` seconds."""
    report, end = Report(), time.monotonic() + budget
    memhp = PROGRAMS / "memhp"

    def left() -> float:
        return end - time.monotonic()

    kernels = fetched(run, report, left())
    if not kernels:
        return report
    if left() < 120:
        report.missing.append("ALL KERNELS: no time was left after fetching them")
        return report
    for kernel in kernels:
        print(f"guests: {kernel} is there", flush=True)
    seconds = min(SCENARIOS, left() / 3) / max(1, -(-len(kernels) // WORKERS))

    def scenarios(kernel: str) -> Ended:
        words = ["--all", "--kernel", kernel, "--json", "--timeout", f"{seconds:.0f}"]
        return run([memhp, "conform", *words], seconds + GRACE)

    with ThreadPoolExecutor(WORKERS) as pool:
        for kernel, done in zip(kernels, pool.map(scenarios, kernels), strict=True):
            report.conform(f"scenarios on {kernel}", done)
    share = max(20.0, left() * 0.6 / max(1, -(-len(kernels) // WORKERS)))

    def live(kernel: str) -> Ended:
        words = ["--kernel", kernel, "--random", str(LIVES), "--json", "--timeout", f"{share:.0f}"]
        return run([memhp, "conform", *words], share + GRACE)

    with ThreadPoolExecutor(WORKERS) as pool:
        for kernel, done in zip(kernels, pool.map(live, kernels), strict=True):
            report.conform(f"random lives on {kernel}", done)
    tests: list[str | Path] = [PROGRAMS / "python", "-m", "pytest", "-n", "2", "tests/guests"]
    done = run(tests, left()) if left() > 60 else Ended(None, "", "no time was left")
    report.tests(done)
    return report


def main(argv: Sequence[str]) -> int:
    """0 unless something is wrong."""
    parser = argparse.ArgumentParser(prog="dev.py guests", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds in all ({BUDGET})")
    budget = parser.parse_args(argv).budget
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("dev.py guests: told to end"))
    try:
        report = guests(ended, budget)
    finally:
        end_all()
    print("\n".join(report.lines()))
    if report.missing:
        print(f"guests: {len(report.missing)} THINGS WERE NOT TRIED ON REAL KERNELS: THIS RUN PROVES LESS")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
