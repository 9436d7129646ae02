"""Whether cost grows with what changes: the same work at two sizes in this process, and the ratio of the times.

Run as ``python bench/steps.py [--large] [--json]``. Steps that change nothing and steps that add memory, a hundred
and a thousand of them; a plan beside one rehearsal of the steps that it finds; device memory taken down; free memory
cut into pieces. Seconds are processor time of this process. Exits with 1 when a ratio is above what it is held against.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from memhp.linux.init import start_kernel
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.target.model.plan import plan
from memhp.target.model.run import rehearse
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.units import GiB, TiB, format_size

VM = schema.MachineText(preset="x86-vm")
SHORT = 30.0
"""Seconds of what is measured more than once."""
BIG_VM = schema.MachineText(preset="x86-vm", memory="64G")


class Figure(NamedTuple):
    """Seconds at a small and at a large size, and the most that the second may be of the first."""

    case: str
    small: float
    large: float
    most: float

    @property
    def ratio(self) -> float:
        """How many times as long the large one takes."""
        return self.large / self.small


def seconds(work: Callable[[], object]) -> float:
    """Processor time that something takes."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def least(work: Callable[[], object]) -> float:
    """The same, the least of three times where it is short: what else goes on disturbs that most."""
    first = seconds(work)
    return first if first > SHORT else min(first, seconds(work), seconds(work))


def steps(machine: schema.MachineText, these: Sequence[schema.StepKind]) -> float:
    """Seconds to rehearse steps, every law checked after each, the boot of the machine left out."""
    spec = machine_spec(machine, where="bench")
    boot = least(lambda: rehearse(spec, []))
    whole = least(lambda: rehearse(spec, list(these)))
    return max(whole - boot, 1e-9)


def many(case: str, step: schema.StepKind) -> Figure:
    """A hundred of a step, and a thousand."""
    return Figure(f"100 and 1,000 steps: {case}", steps(VM, [step] * 100), steps(VM, [step] * 1000), 12)


def planned(total: int) -> Figure:
    """The steps of a plan rehearsed once, and the plan."""
    session = Session(start_kernel(machine_spec(VM, where="bench")))
    found = []
    whole = seconds(lambda: found.append(plan(session, total)))
    those = [
        schema.Plug(size=step.size, at=step.at, online="kernel" if step.zone == "kernel" else "movable")
        for step in found[0].steps
    ]
    return Figure(f"a plan's steps rehearsed, and the plan: {format_size(total)}", steps(VM, those), whole, 10)


def torn_down(size: int) -> float:
    """Seconds to take down so much device memory, mapped in pages of 2 MiB."""
    session = Session(start_kernel(machine_spec(BIG_VM, where="bench")))
    RUNNERS[schema.Dax](session, schema.Dax(mode="devdax", size=size, align="2M", at="1T"))
    return seconds(lambda: RUNNERS[schema.Dax](session, schema.Dax(mode="none")))


def fragmented(size: int) -> float:
    """Seconds to use up every free chunk larger than `size` of 4 GiB, and to free the rest again, laws checked."""
    return steps(VM, [schema.Fragment(size=size), schema.Free(tag="fragments")])


def figures(*, large: bool) -> list[Figure]:
    """Everything that is measured; the largest plans on request, for they take minutes."""
    return [
        many("nothing happens", schema.Wait(seconds=1)),
        many("a DIMM, brought online", schema.Plug(size="128M", online="movable")),
        many("a DIMM, left offline", schema.Plug(size="128M")),
        planned(TiB // 2),
        planned(2 * TiB),
        *(planned(size * TiB) for size in (8, 16) if large),
        Figure("devdax taken down: 128 GiB, and 8 times that", torn_down(128 * GiB), torn_down(TiB), 12),
        Figure("4 GiB in pieces: 64K, and 8 times as many", fragmented(64 << 10), fragmented(8 << 10), 12),
        Figure("time without an event: 1 s, and 10^9 times that", waited(1), waited(1e9), 2),
    ]


def waited(duration: float) -> float:
    """Seconds for a hundred steps in which so much time passes."""
    return steps(VM, [schema.Wait(seconds=duration)] * 100)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("--large", action="store_true", help="plan to 8 and 16 TiB as well")
    told = options.parse_args()
    found = figures(large=told.large)
    if told.json:
        print(json.dumps([{**each._asdict(), "ratio": each.ratio} for each in found]))
    else:
        for each in found:
            ratio = f"{each.small:8.2f} s {each.large:8.2f} s {each.ratio:6.1f} of at most {each.most:g}"
            print(f"{each.case:<56} {ratio}")
    return 0 if all(each.ratio <= each.most for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
