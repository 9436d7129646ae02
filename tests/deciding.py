"""Cases decided for tests: a verdict, and the trace that its string replays."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case
from memhp.explore.doors import KernelRun
from memhp.explore.replay import replay
from memhp.explore.search import search
from memhp.explore.trace import Line
from memhp.explore.verdict import Verdict


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
