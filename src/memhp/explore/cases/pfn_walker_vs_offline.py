"""Somebody reads struct pages by PFN while the memory goes offline and away."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.fs.proc.page import kpagecount_read
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.state import Kernel
from memhp.spans import Span

EVERYWHERE = mainline()
BY_PAGE_SIZE = tuple(one for one in EVERYWHERE if one.va_bits == 48)


def read_count(k: Kernel) -> Hashable:
    """``/proc/kpagecount`` of the DIMM's last page."""
    end = pfns(k, near_dimm(k)).end
    return kpagecount_read(k, Span(end - 1, end))


def offline_and_remove(k: Kernel) -> None:
    """``offline_and_remove_memory()`` of the DIMM, as a driver calls it; drivers/acpi does it in two steps."""
    where = near_dimm(k)
    offline_and_remove_memory(k, where.start, where.size)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is online and nobody uses it; it goes offline and away while its last page is looked at."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")
    return KernelProgram(k, (offline_and_remove, read_count), ("offline", "pfn walker"), check=laws_hold)


CASE = Case(
    name="pfn-walker-vs-offline",
    actors="a pfn_to_online_page() user reads a struct page; the memory goes offline and is removed",
    build=build,
    geometry="one memory block, of which one page is looked at; a struct page is read at once",
    variants=(
        Variant(
            "no-lock",
            "pfn_to_online_page(), then the struct page, without a lock: fs/proc/page.c of today",
            "broken",
            BY_PAGE_SIZE,
            options={"rodata_full": False},
            finding="Who goes through pages by PFN may find their struct pages gone",
        ),
        Variant(
            "hotplug-lock",
            "the walker holds mem_hotplug_lock from the one to the other",
            "repaired",
            EVERYWHERE,
            generic={"pfn_walk_lock": "mem_hotplug_lock"},
            options={"rodata_full": False},
        ),
    ),
)
