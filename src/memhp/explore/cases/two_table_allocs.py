"""Two CPUs make the page table that both need: ``__pte_alloc_kernel()`` (``__pmd_alloc()`` is like it), for vmalloc().

Each finds the entry empty and takes a page. Who gets ``init_mm.page_table_lock`` second must see that the entry is
filled by now, and give its page back.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, reached
from memhp.explore.doors.run import KernelProgram
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.vmalloc import Vmalloc, vmalloc
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

AREAS = ("first", "second")
EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48 and one.page_size < 64 * KiB)
"""With 64K pages as much as one table maps does not fit the machine."""


def _map(tag: str) -> Callable[[Kernel], None]:
    def actor(k: Kernel) -> None:
        vmalloc(k, k.config.page_size, tag)

    return actor


def areas_are_mapped(k: Kernel) -> str | None:
    """When all is done: the first law that does not hold, or that an area cannot be reached."""
    areas = k.statics(Vmalloc).vmap_areas
    return laws_hold(k) or next(filter(None, (reached(k, areas[tag][0].start) for tag in AREAS)), None)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """An area fills, with the guard page behind it, all that the first table of the vmalloc area maps."""
    config = variant.config(configuration)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    vmalloc(k, config.pmd_size - config.page_size, "before")
    return KernelProgram(k, tuple(map(_map, AREAS)), tuple(f"vmalloc {tag}" for tag in AREAS), check=areas_are_mapped)


CASE = Case(
    name="two-table-allocs",
    actors="two vmalloc() that need the same page table, which is not there",
    build=build,
    geometry="real tables; an area of one page each",
    variants=(
        Variant(
            "not-looked-at-again",
            "who gets the lock second puts its table in the place of the first; no kernel did so",
            "broken",
            EVERYWHERE,
            generic={"table_recheck": "none"},
        ),
        Variant(
            "looked-at-again",
            "the entry is read once more under init_mm.page_table_lock, and the second table goes back",
            "repaired",
            EVERYWHERE,
        ),
    ),
)
