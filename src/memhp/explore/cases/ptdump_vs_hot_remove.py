"""The page-table dump walks direct map and struct pages while hot-remove frees their tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import replace

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.lone_dimm import add_lone, boot_lone, lone_dimm, remove_lone
from memhp.explore.doors.run import KernelProgram
from memhp.linux.mm.ptdump import ptdump_walk_pgd
from memhp.linux.state import Kernel
from memhp.spans import Span

SV39 = "no table is freed, those that root entries point to stay for good: a dump without the lock reads stale entries"


def dump(k: Kernel) -> Hashable:
    """``cat /sys/kernel/debug/kernel_page_tables``: the last page of the DIMM, then that of its struct pages."""
    dimm, page = lone_dimm(k), k.config.page_size
    memory = k.layout.phys_to_virt(dimm.start) + dimm.size
    struct_pages = k.layout.memmap(*pfns(k, dimm)).end
    return ptdump_walk_pgd(k, Span(memory - page, memory), Span(struct_pages - page, struct_pages))


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while somebody reads the dump."""
    k = boot_lone(variant.config(configuration))
    add_lone(k)
    return KernelProgram(k, (remove_lone, dump), ("hot-remove", "ptdump"), check=laws_hold)


def _unlocked() -> tuple[Configuration, ...]:
    return tuple(replace(one, note=SV39) if one.name.startswith("riscv64-4K-39") else one for one in configurations())


CASE = Case(
    name="ptdump-vs-hot-remove",
    actors="ptdump walks direct map and struct pages; hot-remove frees their tables",
    build=build,
    geometry="one memory block whose lowest tables are its own; the dump shows its last page and that of its memmap",
    variants=(
        Variant(
            "no-lock",
            "the walk takes no lock that keeps hotplug out",
            "broken",
            _unlocked(),
            {"ptdump_lock": "none"},
            options={"rodata_full": False},
        ),
        Variant(
            "hotplug-lock",
            "the walk holds mem_hotplug_lock: kernels of today",
            "repaired",
            mainline(),
            options={"rodata_full": False},
        ),
    ),
)
