"""A section's usage map, looked at while the section goes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, in_turn
from memhp.explore.cases.pfn_valid_vs_remove import CASE

WHERE = ("x86_64-4K-48-linux-6.12", "riscv64-4K-48-linux-7.2")
NULL = "NULL pointer dereference: mem_section["
FREED = ".usage->subsection_map is used, but mm/sparse.c:section_deactivate freed it"


@pytest.mark.parametrize("configuration", WHERE)
def test_before_6_8_the_map_is_freed_under_the_reader_or_found_gone(configuration: str) -> None:
    """kfree(ms->usage); ms->usage = NULL; only then the section is invalid: mm/sparse.c of 6.1."""
    assert behaviours(CASE, "freed-at-once", configuration) >= {
        ((None, True), ()), ((None, False), ()), ((None, False), ("use-after-free",)),
    }  # fmt: skip
    assert NULL in counterexample(CASE, "freed-at-once", configuration)[0]


@pytest.mark.parametrize("configuration", WHERE)
def test_a_null_that_nobody_looks_for_is_followed_within_rcu(configuration: str) -> None:
    """What "mm: prevent derefencing NULL ptr in pfn_section_valid()" mended; nothing freed is read any more."""
    reason, lines = counterexample(CASE, "null-not-tested", configuration)
    assert NULL in reason
    assert [line.text for line in lines if "rcu" in line.text] == ["enter rcu", "atomic rcu", "leave rcu"]
    assert all(laws == () for _, laws in behaviours(CASE, "null-not-tested", configuration))


@pytest.mark.parametrize("configuration", WHERE)
@pytest.mark.parametrize("variant", ["grace-period", "online-page-rcu"])
def test_within_rcu_the_answer_is_as_of_some_time(variant: str, configuration: str) -> None:
    assert behaviours(CASE, variant, configuration) == {((None, True), ()), ((None, False), ())}
    assert in_turn(CASE.program(variant, configuration)) == {(None, True), (None, False)}


@pytest.mark.parametrize("configuration", WHERE)
def test_pfn_to_online_page_reads_a_map_that_is_freed(configuration: str) -> None:
    """No RCU from online_section() to pfn_section_valid(): mm/memory_hotplug.c of 6.1, 6.12 and 7.2."""
    reason, lines = counterexample(CASE, "online-page-unlocked", configuration)
    assert reason.startswith("use-after-free: ") and FREED in reason
    asked = [line.text.split(": ")[-1] for line in lines if line.name == "pfn_to_online_page"]
    assert [text.split(".")[-1] for text in asked] == ["begin", "section_mem_map", "usage", "usage->subsection_map"]


def test_todays_kernels_are_the_broken_variant_of_pfn_to_online_page() -> None:
    today = CASE.variant("online-page-unlocked")
    assert all(today.current(one) for one in today.configurations)
    repaired = CASE.variant("online-page-rcu")
    assert not any(repaired.current(one) for one in repaired.configurations)
