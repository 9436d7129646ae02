"""What arm64's CPUs can do, and what the command line decides about it: ``arch/arm64/kernel/cpufeature.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from typing import NamedTuple

from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.config import Config
from memhp.linux.place import of_file

KERNEL_FILE = "arch/arm64/kernel/cpufeature.c"
BBML2 = "BBM Level 2 without TLB conflict abort"
TLB_RANGE = "TLB range maintenance instructions"
"""Features as the kernel log names them when it detects them."""
ARCHITECTURE = 0xF << 16
MODEL_MASK = 0xFF << 24 | ARCHITECTURE | 0xFFF << 4
"""``MIDR_CPU_MODEL_MASK``: implementer, architecture, part."""


class MidrRange(NamedTuple):
    """``struct midr_range``: a model, and its variants and revisions (both ends included)."""

    implementer: int
    part: int
    first: int = 0
    last: int = 0xF << 20 | 0xF

    def has(self, midr: int) -> bool:
        """Whether a CPU of that identity is one of them."""
        model = self.implementer << 24 | ARCHITECTURE | self.part << 4
        return midr & MODEL_MASK == model and self.first <= midr & (0xF << 20 | 0xF) <= self.last


SUPPORTS_BBML2_NOABORT = (
    MidrRange(0x41, 0xD82, 0x3, 0xF << 20 | 0xF),
    MidrRange(0x41, 0xD84, 0x2, 0xF << 20 | 0xF),
    MidrRange(0x41, 0xD83, 0x2, 0xF << 20 | 0xF),
    MidrRange(0x4E, 0x010),
    MidrRange(0xC0, 0xAC3),
    MidrRange(0xC0, 0xAC4),
)
"""Cortex-X4 from r0p3, Neoverse V3 and V3AE from r0p2, NVIDIA Olympus, Ampere1 and Ampere1A."""


def cpu_supports_bbml2_noabort(midrs: Collection[int]) -> bool:
    """Whether leaves can be split while in use on every CPU of a machine, by their MIDR_EL1; none: not known, so no."""
    return bool(midrs) and all(any(each.has(midr) for each in SUPPORTS_BBML2_NOABORT) for midr in midrs)


@of_file("arch/arm64/include/asm/setup.h")
def arch_parse_debug_rodata(config: Config, arg: str | None) -> bool:
    """Whether ``rodata=`` has single pages of the direct map follow vmalloc's permissions; `arg` None: it is not given.

    ``on`` does since 6.18, where ``noalias`` stands for what it was before; ``full`` is no word any more, but the
    default. arch/arm64/include/asm/setup.h.
    """
    less = {"off", "on"} if arm64(config).rodata_words == "full-on-off" else {"off", "noalias"}
    return arg not in less
