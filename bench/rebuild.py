"""Going back to a state of a machine under exploration: the steps done once more, or a snapshot of everything.

Run as ``python bench/rebuild.py [--json]``. Kernel code under exploration stands on the stacks of greenlets, which
nothing in a process can copy, so the snapshot that there is is a process: ``fork()`` where the search may come back to,
and the copy goes on from there. Measured are both ways to a state and the next step from it; of the copy not what it
would have to send back in the end, and to keep it until it is needed counts nothing. A copy of the kernel alone,
without the actors, is shown beside it. The states are those from which a search goes on after it has gone back.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import NamedTuple

from memhp.explore.cases import case
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.search import search

MOST = 100
"""States that are measured of one race: the first that the search goes back to."""
RACES = (
    ("free-before-flush", "riscv-order", "riscv64-4K-39-linux-6.12"),
    ("free-before-flush", "arm64-order", "arm64-4K-48-linux-6.12"),
    ("vmalloc-vs-hot-remove", "floor-ceiling", "arm64-4K-48-linux-6.12"),
    ("memblock-order", "sections", "arm64-16K-47-arm64-hotremove-v6"),
    ("ptdump-vs-vmalloc-huge", "init-mm-lock", "arm64-64K-48-linux-7.2"),
)


class State(NamedTuple):
    """A state that was gone back to: the steps that lead to it, and seconds that each way to it takes."""

    steps: int
    replayed: float
    forked: float
    copied: float


class Measuring(KernelRun):
    """A run that measures the states from which it goes on after it has gone back."""

    def __init__(self, program: KernelProgram) -> None:
        self.states: list[State] = []
        self._went_back = False
        self._depth = 0
        super().__init__(program)

    def back(self, depth: int) -> None:
        """Return to the state after the first `depth` steps."""
        super().back(depth)
        self._depth = depth
        self._went_back = True

    def step(self, thread: int, choice: int) -> None:
        """Let an actor do a step; from a state that was gone back to, measure before it."""
        if self._went_back and len(self.states) < MOST:
            steps = sum(1 + self.along(at) for at in range(self._depth))
            steps = sum(1 + self.along(at) for at in range(self._depth))
            rebuilt = seconds(self.behaviour)
            copied = seconds(self._copy)
            forked = seconds(lambda: fork(lambda: super(Measuring, self).step(thread, choice)))
            stepped = seconds(lambda: super(Measuring, self).step(thread, choice))
            self.states.append(State(steps, rebuilt + stepped, forked, copied))
        else:
            super().step(thread, choice)
        self._went_back = False
        self._depth += 1

    def _copy(self) -> None:
        """A copy of the kernel, without the actors that stand in it."""
        hw = self._kernel.hw
        stepper, hw.stepper = hw.stepper, None
        deepcopy(self._kernel)
        hw.stepper = stepper


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fork(work: Callable[[], object]) -> None:
    """Work done by a copy of everything, which then ends."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    os.waitpid(child, 0)


def measure(name: str, variant: str, configuration: str) -> list[State]:
    """The states that the search of one race goes back to."""
    run = Measuring(case(name).program(variant, configuration))
    run.tell_apart(frozenset())
    search(run, case(name).limits)
    run.close()
    return run.states


def row(race: tuple[str, str, str], states: list[State]) -> dict[str, str | int | float]:
    """The report on one race: medians, in milliseconds."""
    steps, *times = (median(column) for column in zip(*states, strict=True))
    replayed, forked, copied = (1000 * one for one in times)
    return {
        "race": f"{race[0]}/{race[1]} {race[2]}",
        "states": len(states),
        "steps": round(steps),
        "replay": replayed,
        "fork": forked,
        "kernel_alone": copied,
        "ratio": forked / replayed,
    }


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    races = {race: measure(*race) for race in RACES}
    rows = [row(*one) for one in races.items()]
    states = [state for of_race in races.values() for state in of_race]
    again, forked = sum(state.replayed for state in states), sum(state.forked for state in states)
    if chosen.json:
        print(json.dumps({"rows": rows, "replay": again, "fork": forked}, indent=2))
        return 0
    for one in rows:
        print(
            f"{one['race']:62} {one['states']:>4} states, {one['steps']:>5} steps: again {one['replay']:>7.2f} ms, "
            f"fork {one['fork']:>7.2f} ms, {one['ratio']:.1f} times as long; kernel alone {one['kernel_alone']:.2f} ms"
        )
    print(f"all {len(states)} states: again {again:.2f} s, fork {forked:.2f} s, {forked / again:.1f} times as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
