"""A driver gives back the pages behind a mapping of its own; somebody else allocates at the same time."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.vmalloc import Vmalloc, vmalloc
from memhp.linux.mm.vmap import vunmap_range_noflush
from memhp.linux.state import Kernel

MACHINE = Configuration("riscv64", 4096, 48)


def give_back(k: Kernel, *, flush_first: bool) -> None:
    """What the driver does when it goes."""
    area, pages = k.statics(Vmalloc).vmap_areas["buffer"]
    vunmap_range_noflush(k, area)
    if flush_first:
        k.port.flush_tlb_kernel_range(k, area)
    free_pages(k, pages, "driver.c:give_back")
    if not flush_first:
        k.port.flush_tlb_kernel_range(k, area)


def somebody(k: Kernel) -> None:
    """Anybody's allocation of one page."""
    alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "somebody"), where="mm/page_alloc.c:alloc_pages")


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The machine before the race, and who takes part in it."""
    k = boot(variant.config(configuration))
    vmalloc(k, 4096, "buffer")

    def driver(k: Kernel) -> None:
        give_back(k, flush_first=variant.name == "flush-first")

    return KernelProgram(k, (driver, somebody), ("driver", "somebody"))


CASE = Case(
    name="driver-gives-back",
    actors="a driver unmaps and frees its buffer; somebody allocates a page",
    build=build,
    variants=(
        Variant("free-first", "pages are freed, then translations flushed", "broken", (MACHINE,), of_kernel=False),
        Variant("flush-first", "translations are flushed, then pages freed", "repaired", (MACHINE,), of_kernel=False),
    ),
)
