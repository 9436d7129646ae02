"""How long deciding races of memory hotplug takes: a known bug found, what is repaired shown to be, everything.

Run as ``python bench/races.py [--whole] [--json]``. First the bug of V5 of arm64's hot-remove series
(vmalloc-vs-hot-remove) on every machine that has it: seconds of processor time from the program to the failing
schedule, and to the trace that people see, made small. Then every variant of every race that stands for repaired code
on every arm64 configuration, over as many processes as there are processors, at most two; with ``--whole`` all of
``memhp races`` as well. Exits with 1 when a target is missed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import os
import sys
import time
from typing import NamedTuple

from memhp.explore.cases import CASES, case
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import shortest
from memhp.explore.parallel import Job, run_jobs

FOUND, REPAIRED, WHOLE = 1.0, 120.0, 180.0
"""The most seconds: until the bug is found; for what is repaired; for everything."""
WORKERS = min(2, os.cpu_count() or 1)


class Found(NamedTuple):
    """A bug on one machine: seconds until it was found, and until its schedule was small."""

    configuration: str
    found: float
    small: float
    schedule: str


class Decided(NamedTuple):
    """Many races decided: how many, and seconds."""

    what: str
    verdicts: int
    seconds: float
    most: float


def bug_of_v5() -> list[Found]:
    """The bug on every machine that has it; where vmalloc and vmemmap share no table there is none."""
    race = case("vmalloc-vs-hot-remove")
    every = []
    for configuration in race.variant("V5").configurations:
        if configuration.note:
            continue
        start = time.process_time()
        run = race.program("V5", configuration.name).run()
        run.tell_apart(frozenset())
        verdict = search(run, race.limits)
        found = time.process_time() - start
        if verdict.failure is None:
            raise SystemExit(f"V5 on {configuration.name}: {verdict.word}")
        small = shortest(run, verdict.failure, race.limits)
        every.append(Found(configuration.name, found, time.process_time() - start, small.schedule))
        run.close()
    return every


def decide(what: str, jobs: list[Job], most: float) -> Decided:
    """Decide them all."""
    start = time.perf_counter()
    verdicts = run_jobs(jobs, WORKERS)
    seconds = time.perf_counter() - start
    undecided = sum(verdict.word == "undecided" for verdict in verdicts)
    if undecided:
        raise SystemExit(f"{what}: {undecided} undecided")
    return Decided(what, len(verdicts), seconds, most)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--whole", action="store_true", help="all of memhp races as well")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    found = bug_of_v5()
    every = [(one, variant, where) for one in CASES for variant in one.variants for where in variant.configurations]
    repaired = [
        Job(one.name, variant.name, where.name)
        for one, variant, where in every
        if variant.stands_for == "repaired" and where.arch == "arm64"
    ]
    decided = [decide("repaired variants on arm64", repaired, REPAIRED)]
    if chosen.whole:
        everything = [Job(one.name, variant.name, where.name) for one, variant, where in every]
        decided.append(decide("memhp races", everything, WHOLE))
    held = all(one.found <= FOUND for one in found) and all(one.seconds <= one.most for one in decided)
    if chosen.json:
        rows = [one._asdict() for one in found], [one._asdict() for one in decided]
        print(json.dumps({"found": rows[0], "decided": rows[1], "workers": WORKERS, "holds": held}, indent=2))
        return 0 if held else 1
    for one in found:
        times = f"found in {one.found:.2f} s, {one.small:.2f} s with a small trace"
        print(f"V5 {one.configuration:24} {times}: {one.schedule}")
    for several in decided:
        print(f"{several.what}: {several.verdicts} verdicts in {several.seconds:.1f} s, {WORKERS} processes")
    print(f"found within {FOUND:.0f} s, repaired within {REPAIRED:.0f} s: {'yes' if held else 'no'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
