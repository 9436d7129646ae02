"""When an execution has ended the laws look at what it changed, and find what they would find in the whole machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.check import breaches_of, check_all
from memhp.check.law import Breach
from memhp.explore.cases import actors, case
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.linux.state import Kernel


def test_executions_that_end_alike_in_everything_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Kernel] = []

    def judge(k: Kernel) -> list[Breach]:
        judged.append(k)
        return breaches_of(k)

    monkeypatch.setattr(actors, "breaches_of", judge)
    run = case("pagemap-lookup-vs-unmap").program("generic").run()
    verdict = search(run)
    run.close()
    assert verdict.word == "safe"
    assert 0 < len(judged) < verdict.coverage.executions


@pytest.mark.parametrize(
    ("name", "variant", "configuration", "some_broke"),
    [
        ("vmalloc-fault", "preallocate", "riscv64-4K-39-linux-6.12", False),
        ("split-vs-remove", "partial-removal", "arm64-4K-39-linux-7.2", True),
        ("two-table-allocs", "not-looked-at-again", "riscv64-4K-48-linux-6.12", True),
    ],
)
def test_what_changed_is_found_to_be_as_the_whole(
    name: str, variant: str, configuration: str, some_broke: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Breach]] = []

    def both(k: Kernel) -> list[Breach]:
        found.append(breaches_of(k))
        assert found[-1] == check_all(k)
        return found[-1]

    monkeypatch.setattr(actors, "breaches_of", both)
    run = case(name).program(variant, configuration).run()
    decide(run, case(name).limits)
    run.close()
    assert found
    assert any(found) == some_broke
