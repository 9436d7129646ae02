"""Whether the reducing search finds exactly what there is to be found.

Run as ``python bench/soundness.py [--programs 10000] [--first 0] [--joint | --fair | --large] [--json]`` for generated
programs: the ends that they come to, memory and what every thread returned, are held against a search of all their
states (bench/states.py), with every step by itself and with steps taken along whose order is settled anyway; their
classes of equivalent executions against those of every schedule, where these are at most `--most`. With ``--joint`` the
programs' steps touch several objects at once and block on several; with ``--fair`` they take semaphores that favour
writers. Programs of more than `--states` states are passed over.

With ``--large`` for programs whose every schedule cannot be tried, the search by wakeup trees is held against the one
by source sets alone: ends and classes must be the same, and no execution of the one may be given up half way. Those
that wakeup trees are not for, or that have more than `--most` executions, are passed over.

With ``--cases`` for the races of memory hotplug, every variant on the configurations that it names first and last,
with its actors in every order: the ends are then a digest of kernel and machine, and what every actor returned. All
states are looked at one access at a time where these are at most `--states`, else with steps taken along as the search
takes them. The smallest come first, and each is told of as it is done; what has more than `--states` states either way,
or more than `--most` executions, is passed over. ``--seconds`` ends it, and ``--skip`` goes on where it ended. Exits
with 1 when one differs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import inf
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.explore.cases import CASES
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, Search, search
from memhp.explore.engine.verdict import Coverage
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import ProgramRun
from states import KEPT, case_differs, program_state, reachable, single_states


def compare(
    programs: int, first: int, states: int, most: int, *, joint: bool, fair: bool = False
) -> tuple[Counter[str], list[str]]:
    """Counts over so many generated programs, and what is different, with the program's number."""
    counts: Counter[str] = Counter()
    different: list[str] = []
    seed = first
    while counts["programs"] < programs:
        run = program(seed, joint=joint, fair=fair).run()
        try:
            found = _program_differs(run, states, most, counts)
        except BadInput as error:
            found = [f"the search ends in an error: {error}"]
        different += [f"{seed}: {one}" for one in found]
        run.close()
        seed += 1
    return counts, different


def _program_differs(run: ProgramRun, states: int, most: int, counts: Counter[str]) -> list[str]:
    """What is different between the search and all states of a program; counts what was compared."""
    space = reachable(run, program_state, states)
    reduced = search(run, replace(KEPT, executions=10 * most, keep_classes=True))
    if space is None or not reduced.finished:
        counts["passed over"] += 1
        return []
    run.tell_apart(frozenset())
    along = search(run, KEPT).coverage
    found = [*space.differences(reduced.coverage), *space.differences(along)]
    run.tell_apart(None)
    full = search(run, replace(KEPT, executions=most, keep_classes=True), reduce=False)
    if full.finished:
        found += _classes_differ(reduced.coverage, full.coverage)
    counts["programs"] += 1
    counts["states"] += space.states
    counts["programs whose every schedule was tried"] += full.finished
    counts["executions, exhaustive"] += full.coverage.executions if full.finished else 0
    counts["executions, reduced"] += reduced.coverage.executions
    counts["executions cut"] += reduced.coverage.cut
    counts["executions looked at twice"] += reduced.coverage.executions - len(reduced.coverage.classes)
    counts["steps, each by itself"] += reduced.coverage.steps
    counts["steps, others taken along"] += along.steps
    counts["programs that can deadlock"] += bool(reduced.coverage.deadlocks)
    counts["programs that can go round for ever"] += bool(space.rounds)
    return found


def _classes_differ(reduced: Coverage, full: Coverage) -> Iterator[str]:
    """What is different between classes of equivalent executions; the reducing search completes none twice, unless it
    says so.
    """
    if reduced.classes != full.classes:
        yield f"{len(reduced.classes)} classes of executions, not {len(full.classes)}"
    if reduced.executions != len(reduced.classes) and not reduced.again:
        yield f"{reduced.executions} executions of {len(reduced.classes)} classes"


def compare_large(programs: int, first: int, most: int) -> tuple[Counter[str], list[str]]:
    """Counts over so many large programs, and what is different between searches by wakeup trees and without."""
    counts: Counter[str] = Counter()
    different: list[str] = []
    limits = replace(KEPT, executions=most, keep_classes=True)
    seed = first
    while counts["programs"] < programs:
        run = program(seed, large=True).run()
        by_trees, by_sets = Search(run, limits, optimal=True), Search(run, replace(limits, executions=None))
        if by_trees.explore():
            run.back(0)
            by_sets.explore()
            trees, sets = by_trees.coverage, by_sets.coverage
            found = [*_classes_differ(trees, sets), *([f"{trees.cut} executions given up"] if trees.cut else [])]
            found += ["other ends"] if trees.behaviours != sets.behaviours else []
            different += [f"{seed}: {one}" for one in found]
            counts["programs"] += 1
            counts["executions"] += trees.executions
            counts["executions given up, by source sets"] += sets.cut
        else:
            counts["passed over"] += 1
        run.close()
        seed += 1
    return counts, different


def compare_cases(
    states: int, executions: int, only: str, skip: int, seconds: float
) -> tuple[Counter[str], list[str]]:
    """Counts over the races, the smallest first, and what is different; ends when so many seconds are over."""
    counts: Counter[str] = Counter()
    different: list[str] = []
    begun = time.process_time()
    every = sorted(_sized(only), key=lambda one: (one.size, one.name))
    for number, one in enumerate(every[skip:], skip + 1):
        if time.process_time() - begun > seconds:
            counts["not come to"] = len(every) - number + 1
            break
        limits = replace(KEPT, executions=executions, failures=one.limits.failures, steps=one.limits.steps)
        mine: Counter[str] = Counter()
        found = case_differs(one.program(), limits, states, mine)
        counts += mine
        different += [f"{one.name}: {text}" for text in found]
        told = ", ".join(f"{count:,} {what}" for what, count in mine.items())
        print(f"{number} of {len(every)}: {one.name}: {'; '.join(found) or told}", file=sys.stderr, flush=True)
    return counts, different


class Sized(NamedTuple):
    """A variant of a race on a configuration, and about how many states it has."""

    name: str
    program: Callable[[], KernelProgram]
    limits: Limits
    size: int


def _sized(only: str) -> Iterator[Sized]:
    """Every variant on the configurations that it names first and last."""
    for one in CASES:
        for variant in one.variants if only in one.name else ():
            for name in dict.fromkeys((variant.configurations[0].name, variant.configurations[-1].name)):
                program = partial(one.program, variant.name, name)
                yield Sized(f"{one.name}/{variant.name} {name}", program, one.limits, single_states(program().run()))


def main() -> int:
    """Compare and print; 1 when a program differs."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--programs", type=int, default=10_000, help="how many programs are compared")
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--states", type=int, default=20_000, help="states at which a program is passed over")
    options.add_argument("--most", type=int, default=2_000, help="schedules that are tried one by one at most")
    options.add_argument("--joint", action="store_true", help="steps that touch several objects and block on several")
    options.add_argument("--fair", action="store_true", help="read/write semaphores that favour writers")
    options.add_argument("--large", action="store_true", help="wakeup trees against source sets, on larger programs")
    options.add_argument("--cases", action="store_true", help="compare on the races of memory hotplug")
    options.add_argument("--only", default="", help="races with this in their name")
    options.add_argument("--seconds", type=float, default=inf, help="processor time after which no race is begun")
    options.add_argument("--skip", type=int, default=0, help="how many races are left out, the smallest first")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    start = time.perf_counter()
    if chosen.cases:
        counts, different = compare_cases(chosen.states, chosen.most, chosen.only, chosen.skip, chosen.seconds)
    elif chosen.large:
        counts, different = compare_large(chosen.programs, chosen.first, chosen.most)
    else:
        counts, different = compare(
            chosen.programs, chosen.first, chosen.states, chosen.most, joint=chosen.joint, fair=chosen.fair
        )
    seconds = time.perf_counter() - start
    if chosen.json:
        print(json.dumps({"counts": counts, "different": different, "seconds": seconds}, indent=2))
    else:
        for what, count in counts.items():
            print(f"{what:40} {count:>12,}")
        print(f"{'seconds':40} {seconds:>12.1f}")
        print(f"{'that differ':40} {len(different):>12,}", *different[:10], sep="\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
