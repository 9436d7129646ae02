"""Cases decided for tests: a verdict, and the trace that its string replays."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from copy import deepcopy
from itertools import permutations

from memhp.errors import KernelError
from memhp.explore.case import Case
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.trace import Line
from memhp.explore.engine.verdict import Verdict


def run_of(case: Case, variant: str, configuration: str) -> KernelRun:
    return case.program(variant, configuration).run()


def decided(case: Case, variant: str, configuration: str) -> Verdict:
    return search(run_of(case, variant, configuration), case.limits)


def counterexample(case: Case, variant: str, configuration: str) -> tuple[str, tuple[Line, ...]]:
    """What goes wrong, and the steps up to it, as the schedule that the search found tells them once more."""
    verdict = decided(case, variant, configuration)
    assert verdict.word == "broken"
    assert verdict.failure is not None
    trace = replay(run_of(case, variant, configuration), verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    return trace.reason, tuple(trace.lines)


def behaviours(case: Case, variant: str, configuration: str) -> set[tuple[Hashable, Hashable]]:
    """How executions end, those that go on after a failure too: what each actor returned, the laws broken."""
    every = Limits(stop_at_failure=False, keep_behaviours=True)
    found = set()
    for state in search(run_of(case, variant, configuration), every).coverage.behaviours:
        assert isinstance(state, tuple)
        found.add((state[0], state[1]))
    return found


def in_turn(program: KernelProgram) -> set[tuple[Hashable, ...]]:
    """What the actors return when one runs after the other, in each order; nothing of the explorer takes part."""
    found = set()
    for order in permutations(range(len(program.actors))):
        k = deepcopy(program.kernel)
        results: list[Hashable] = [None] * len(order)
        for cpu in order:
            k.hw.cpu = cpu
            try:
                results[cpu] = program.actors[cpu](k)
            except KernelError as error:
                results[cpu] = error.name
        assert not k.hw.violations
        found.add(tuple(results))
    return found
