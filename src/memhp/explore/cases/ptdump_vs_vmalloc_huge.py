"""The page-table dump walks the vmalloc area while vmap frees an empty table for a huge leaf.

Whoever maps or unmaps owns the addresses that it works on, so an empty table in the vmalloc area may go when a huge
leaf takes its place. The dump owns nothing that it walks. Since 7.2 and 6.12.105 vmap takes init_mm's mmap lock
for it, shared, or does with base pages if ptdump has it; until then arm64 had no huge vmap in kernels with ptdump.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, reached
from memhp.explore.doors.run import KernelProgram
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.ptdump import ptdump_walk_pgd
from memhp.linux.mm.vmalloc import Vmalloc, vfree, vmalloc, vmalloc_huge
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB

HUGE = "huge"
PAGES_SHOWN = 2
"""Pages that the dump is followed over: when vmap does with base pages, every entry may be read before it is written or
after, and these are as many behaviours as two to the power of the entries."""


def boot(config: Config) -> Kernel:
    """A machine on which an area has come and gone at the start of the vmalloc area, and has left its tables."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, 2 * GiB),)))
    vmalloc(k, config.page_size, "before")
    vfree(k, "before")
    return k


def map_huge(k: Kernel) -> None:
    """``vmalloc_huge()`` of a PMD leaf, at the addresses where there is an empty table."""
    vmalloc_huge(k, k.config.pmd_size, HUGE)


def dump(k: Kernel) -> Hashable:
    """``cat /sys/kernel/debug/kernel_page_tables``, as far as the first of these addresses."""
    start = k.layout.vmalloc.start
    return ptdump_walk_pgd(k, Span(start, start + PAGES_SHOWN * k.config.page_size))


def area_is_mapped(k: Kernel) -> str | None:
    """When all is done: the first law that does not hold, or that the area cannot be reached."""
    return laws_hold(k) or reached(k, k.statics(Vmalloc).vmap_areas[HUGE][0].end - 1)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """One CPU maps a huge leaf, another one reads the dump."""
    k = boot(variant.config(configuration))
    return KernelProgram(k, (map_huge, dump), ("vmalloc-huge", "ptdump"), check=area_is_mapped)


_WITH_HUGE_VMAP = (
    *configurations("linux-7.2", "riscv64", "arm64", "x86_64"),
    *configurations("linux-6.12", "riscv64", "x86_64"),
)

CASE = Case(
    name="ptdump-vs-vmalloc-huge",
    actors="ptdump; vmap installs a huge leaf over an empty table",
    build=build,
    geometry=f"real tables; the dump is followed over {PAGES_SHOWN} entries of the table that goes",
    variants=(
        Variant(
            "no-lock",
            "vmap frees the table without regard to ptdump, as before the fix",
            "broken",
            _WITH_HUGE_VMAP,
            generic={"vmap_huge_lock": "none"},
        ),
        Variant(
            "init-mm-lock",
            "vmap takes init_mm's mmap lock shared for it, which ptdump holds alone",
            "repaired",
            _WITH_HUGE_VMAP,
        ),
        Variant(
            "no-huge-vmap",
            "a kernel with ptdump has no huge vmap",
            "repaired",
            (Configuration("arm64", 4 * KiB, 48, "linux-6.12"), Configuration("arm64", 4 * KiB, 48, "linux-5.13")),
        ),
    ),
)
