"""A leaf of the direct map that others use is split: there is a table in its place at once, or nothing for a while."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, decided
from memhp.explore.cases.split_vs_walk import BREAK, CASE, DUMPED


def test_who_reads_while_the_leaf_is_gone_oopses() -> None:
    """Between the two steps of break-before-make nobody may use the addresses; those of the direct map many do."""
    reason, lines = counterexample(CASE, BREAK, "arm64-4K-48-linux-7.2")
    assert reason.startswith("reader: KernelBug: Unable to handle kernel paging request at virtual address")
    assert [line.kind for line in lines if line.name == "set_direct_map"][-2:] == ["store", "flush"]
    read, oops = lines[-2:]
    assert read.name == oops.name == "reader" and read.old is not None and read.old.raw == 0
    assert (oops.kind, oops.what) == ("add", "log_buf")


@pytest.mark.parametrize(
    ("variant", "configuration"),
    [
        ("bbml2", "arm64-4K-48-linux-7.2"),
        ("in-place", "riscv64-4K-48-linux-7.2"),
        ("in-place", "x86_64-4K-48-linux-6.12"),
    ],
)
def test_who_reads_finds_the_leaf_or_the_table(variant: str, configuration: str) -> None:
    assert decided(CASE, variant, configuration).word == "safe"
    results = {result for result, _ in behaviours(CASE, variant, configuration)}
    assert len(results) == 1


@pytest.mark.parametrize(
    ("variant", "configuration"), [(DUMPED[1], "arm64-4K-48-linux-7.2"), (DUMPED[0], "x86_64-4K-48-linux-7.2")]
)
def test_a_dump_shows_the_leaf_or_the_pages_below_the_table(variant: str, configuration: str) -> None:
    """Two pages: one leaf above both, or two entries."""
    assert decided(CASE, variant, configuration).word == "safe"
    assert {result for result, _ in behaviours(CASE, variant, configuration)} == {(None, 1), (None, 2)}
