"""Pages that a leaf of the direct map covers are freed and taken while it is split: CPUs that hold the old leaf reach
by it what the table in its place leads to, so nothing is wrong with that.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.memory import Owner, Use
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

X86 = Configuration("x86_64", 4 * KiB, 48, "linux-7.2")
RISCV = Configuration("riscv64", 4 * KiB, 48, "linux-7.2")
ARM64 = Configuration("arm64", 64 * KiB, 48, "linux-7.2")
OURS = Owner(Use.KERNEL, "ours")


def split_meanwhile(where: Configuration, *, unmaps: bool = False) -> KernelProgram:
    """One CPU splits what maps a page, and with `unmaps` takes it out without a flush; the other frees its own page,
    next to that, and takes one.
    """
    options = {"bbml2": True} if where.arch == "arm64" else {}
    config = Variant("split", "splits", "repaired", (where,), options=options).config(where)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, 2 * GiB),)))
    theirs, mine = (alloc_pages(k, 0, 0, owner=OURS, where="test")[0] for _ in range(2))
    page = mine if unmaps else theirs

    def split(k: Kernel) -> None:
        (set_direct_map_invalid_noflush if unmaps else set_direct_map_default_noflush)(k, page.start)

    def frees_and_takes(k: Kernel) -> int:
        free_pages(k, [mine], "test")
        return alloc_pages(k, 0, 0, owner=OURS, where="test")[0].start

    return KernelProgram(k, (split, frees_and_takes), ("split", "free and take"), check=None if unmaps else laws_hold)


@pytest.mark.parametrize("where", [X86, RISCV, ARM64], ids=lambda where: where.name)
def test_a_page_below_a_leaf_that_is_split_may_be_freed_and_taken(where: Configuration) -> None:
    verdict = decide(split_meanwhile(where).run())
    assert (verdict.word, verdict.failure) == ("safe", None)
    assert verdict.coverage.executions > 2


@pytest.mark.parametrize("where", [X86, RISCV], ids=lambda where: where.name)
def test_a_page_whose_own_entry_was_cleared_without_a_flush_may_not(where: Configuration) -> None:
    verdict = decide(split_meanwhile(where, unmaps=True).run())
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("flush-before-free: ")
