"""Three CPUs that wait for each other, of which no two would: memory comes, a CPU comes, somebody keeps out both."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, decided
from memhp.explore.cases.memory_vs_cpu_hotplug import CASE, CPUS_FIRST, LEFT_OUT

WHERE = ("riscv64-4K-48-linux-6.12", "arm64-64K-48-linux-7.2", "x86_64-4K-48-linux-7.2")


@pytest.mark.parametrize("configuration", WHERE)
def test_three_wait_for_each_other_where_the_lock_of_memory_is_taken_first(configuration: str) -> None:
    """Commit 3f906ba23689 of Linux 4.13 tells of it: get_online_cpus() under mem_hotplug_lock, to stop the machine."""
    reason, lines = counterexample(CASE, "mems-first", configuration)
    assert reason == (
        "deadlock: online at lock cpu_hotplug_lock shared, reader of both at lock mem_hotplug_lock shared, "
        "CPU at lock cpu_hotplug_lock"
    )
    assert {line.name for line in lines} == {"online", "reader of both", "CPU"}


@pytest.mark.parametrize("variant", LEFT_OUT)
@pytest.mark.parametrize("configuration", WHERE)
def test_no_two_of_them_do(variant: str, configuration: str) -> None:
    assert decided(CASE, variant, configuration).word == "safe"


@pytest.mark.parametrize("configuration", WHERE)
def test_nobody_waits_for_ever_where_all_take_the_lock_of_cpus_first(configuration: str) -> None:
    assert decided(CASE, CPUS_FIRST, configuration).word == "safe"
    assert behaviours(CASE, CPUS_FIRST, configuration) == {((None, None, None), ())}
