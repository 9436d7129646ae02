"""Hot-remove frees struct pages and tables; somebody allocates them while a TLB or walk cache still reaches them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import MAINLINE, Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import boot, hot_add, hot_remove, laws_hold, take_pages
from memhp.explore.doors import KernelProgram


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while somebody allocates."""
    k = boot(variant.config(configuration))
    hot_add(k)
    return KernelProgram(k, (hot_remove, take_pages), ("hot-remove", "allocation"), check=laws_hold)


CASE = Case(
    name="free-before-flush",
    actors="hot-remove; any CPU's TLB and walk cache",
    build=build,
    variants=(
        Variant(
            "riscv-order",
            "storage and tables are freed as they are met, one flush at the end",
            "broken",
            tuple(one for release in MAINLINE for one in configurations(release, "riscv64")),
        ),
        Variant(
            "x86-order",
            "storage and tables are freed before their entries are cleared, one flush at the end",
            "repaired",
            tuple(one for release in MAINLINE for one in configurations(release, "x86_64")),
        ),
        Variant(
            "arm64-order",
            "each entry is cleared and flushed before what it led to is freed",
            "repaired",
            tuple(one for release in MAINLINE for one in configurations(release, "arm64")),
            options={"rodata_full": False},
        ),
    ),
)
