"""The page-table dump against hot-remove, with the lock that keeps hotplug out and without."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, in_turn
from memhp.explore.cases import case
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.linux.profiles import MAINLINE, profile

NAME = "ptdump-vs-hot-remove"


@pytest.mark.parametrize(
    ("where", "level"),
    [
        ("riscv64-4K-48", "PMD"),
        ("riscv64-4K-57", "PMD"),
        ("arm64-4K-39", "PMD"),
        ("arm64-16K-36", "PTE"),
        ("x86_64-4K-57", "PMD"),
    ],
)
def test_a_dump_without_the_hotplug_lock_reads_a_freed_table(where: str, level: str) -> None:
    program = case(NAME).program("no-lock", f"{where}-linux-6.12")
    verdict = search(program.run(), Limits(executions=50))
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("freed-table: ")
    trace = replay(program.run(), verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    assert trace.lines[-1].place == f"mm/pagewalk.c:walk_{level.lower()}_range"
    assert trace.lines[-1].text.startswith(f"load {level} ")


def test_under_sv39_no_table_is_freed_and_the_row_says_so() -> None:
    where = case(NAME).variant("no-lock").configuration("riscv64-4K-39-linux-6.12")
    verdict = search(case(NAME).program("no-lock", where.name).run())
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 2
    assert where.note.startswith("no table is freed")


@pytest.mark.parametrize("release", MAINLINE)
@pytest.mark.parametrize("where", ["riscv64-4K-39", "riscv64-4K-57", "arm64-4K-48", "arm64-16K-48", "x86_64-4K-48"])
def test_a_dump_under_the_hotplug_lock_comes_before_or_after(where: str, release: str) -> None:
    name = f"{where}-{release}"
    orders = in_turn(case(NAME).program("hotplug-lock", name))
    assert behaviours(case(NAME), "hotplug-lock", name) == {(results, ()) for results in orders}
    assert search(case(NAME).program("hotplug-lock", name).run()).word == "safe"


@pytest.mark.parametrize("release", MAINLINE)
def test_kernels_of_today_take_the_lock_on_every_architecture_that_has_a_dump(release: str) -> None:
    """mm/ptdump.c:ptdump_walk_pgd calls get_online_mems() in 6.12.y and 7.2; LoongArch has no ARCH_HAS_PTDUMP."""
    kernel = profile(release)
    locks = {arch: kernel.arch(arch).ptdump_lock for arch in kernel.arches}
    assert locks.pop("loongarch64") == "none"
    assert set(locks.values()) == {"mem_hotplug_lock"}
