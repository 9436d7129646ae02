"""``max_pfn``, behind which ``/proc/kpagecount`` shows nothing, as memory comes: architectures differ."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import VA_BITS
from memhp.claims.fix_witnesses_memory import lower_memory_comes_last
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config
from memhp.linux.profiles import profile


@pytest.mark.parametrize(
    ("arch", "release", "ends_early"),
    [
        # arch/x86/mm/init_64.c:update_end_of_memory_vars() only raises it.
        ("x86_64", "6.1", False),
        ("x86_64", "7.2", False),
        # arch/arm64/mm/mmu.c:arch_add_memory() lowered it until 6.12.24, 6.1.135.
        ("arm64", "6.12.23", True),
        ("arm64", "6.12.24", False),
        ("arm64", "6.1.134", True),
        ("arm64", "7.2", False),
        # arch/riscv/mm/init.c:arch_add_memory() sets it to the end of what it adds, in 7.2.13 as in 6.12.117.
        ("riscv64", "6.12", True),
        ("riscv64", "7.2", True),
    ],
)
def test_who_lowers_it_when_memory_comes_below_the_highest(arch: Arch, release: str, ends_early: bool) -> None:
    config = Config(arch, profile(release), 4096, VA_BITS[arch, 4])
    assert bool(lower_memory_comes_last(config)) is ends_early
