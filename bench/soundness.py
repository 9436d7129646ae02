"""Whether the reducing search finds exactly what exhaustive search finds.

Run as ``python bench/soundness.py [--programs 10000] [--first 0] [--json]`` for generated programs: their final
behaviours and their classes of equivalent executions, with every step by itself, and with steps taken along whose
order is settled anyway. Programs with more schedules than `--most` are passed over, and counted as such. With
``--joint`` the programs' steps touch several objects at once. With ``--cases`` for the races of memory hotplug, every
variant on the configurations that it names first and last: their verdicts, where every schedule can be tried within
`--steps` steps. Exits with 1 when one differs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace

from memhp.explore.cases import CASES
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.verdict import Coverage
from memhp.explore.programs.generate import program


def compare(programs: int, first: int, most: int, *, joint: bool) -> tuple[Counter[str], list[int]]:
    """Counts over so many generated programs, and the seeds of those that differ."""
    every = Limits(stop_at_failure=False, keep_behaviours=True, keep_classes=True)
    within = Limits(most, stop_at_failure=False, keep_behaviours=True, keep_classes=True)
    counts: Counter[str] = Counter()
    different: list[int] = []
    seed = first
    while counts["programs"] < programs:
        run = program(seed, joint=joint).run()
        full = search(run, within, reduce=False)
        if full.finished:
            reduced = search(run, every).coverage
            run.tell_apart(frozenset())
            along = search(run, every).coverage
            counts["programs"] += 1
            counts["executions, exhaustive"] += full.coverage.executions
            counts["executions, reduced"] += reduced.executions
            counts["executions cut"] += reduced.cut
            counts["steps, each by itself"] += reduced.steps
            counts["steps, others taken along"] += along.steps
            counts["programs that can deadlock"] += bool(reduced.deadlocks)
            same = (
                reduced.behaviours == full.coverage.behaviours
                and reduced.classes == full.coverage.classes
                and reduced.executions == len(reduced.classes)
                and _ends(along) == _ends(reduced)
                and (joint or along.executions == reduced.executions)
            )
            if not same:
                different.append(seed)
        else:
            counts["passed over"] += 1
        run.close()
        seed += 1
    return counts, different


def _ends(coverage: Coverage) -> set[Hashable]:
    """Behaviours, whatever the place of a round at which a thread that goes round for ever was left."""
    if not coverage.livelocks:
        return coverage.behaviours
    return {
        (memory, tuple((result, error, stuck is not None) for result, error, stuck in ends))
        for memory, ends in coverage.behaviours  # type: ignore[misc]
    }


def compare_cases(steps: int) -> tuple[Counter[str], list[str]]:
    """Counts over the races, and those whose verdict differs."""
    counts: Counter[str] = Counter()
    different: list[str] = []
    for one in CASES:
        limits = replace(one.limits, executions=None)
        for variant in one.variants:
            for name in dict.fromkeys((variant.configurations[0].name, variant.configurations[-1].name)):
                run = one.program(variant.name, name).run()
                full = search(run, limits, reduce=False, budget=steps)
                if full.word == "undecided":
                    counts["passed over"] += 1
                    continue
                reduced = search(run, limits)
                counts["variants on a configuration"] += 1
                counts[f"{reduced.word} with and without reduction"] += reduced.word == full.word
                counts["executions, exhaustive"] += full.coverage.executions
                counts["executions, reduced"] += reduced.coverage.executions
                if reduced.word != full.word:
                    different.append(f"{one.name}/{variant.name} {name}: {reduced.word}, not {full.word}")
    return counts, different


def main() -> int:
    """Compare and print; 1 when a program differs."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--programs", type=int, default=10_000, help="how many programs are compared")
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--most", type=int, default=2_000, help="executions at which exhaustive search gives up")
    options.add_argument("--joint", action="store_true", help="steps that touch several objects and block on several")
    options.add_argument("--cases", action="store_true", help="compare on the races of memory hotplug")
    options.add_argument("--steps", type=int, default=5_000, help="steps at which a race is passed over")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    start = time.perf_counter()
    counts: Counter[str]
    different: list[int] | list[str]
    if chosen.cases:
        counts, different = compare_cases(chosen.steps)
    else:
        counts, different = compare(chosen.programs, chosen.first, chosen.most, joint=chosen.joint)
    seconds = time.perf_counter() - start
    if chosen.json:
        print(json.dumps({"counts": counts, "different": different, "seconds": seconds}, indent=2))
    else:
        for what, count in counts.items():
            print(f"{what:28} {count:>12,}")
        print(f"{'seconds':28} {seconds:>12.1f}")
        print(f"{'that differ':28} {len(different):>12,}  {different[:10] if different else ''}".rstrip())
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
