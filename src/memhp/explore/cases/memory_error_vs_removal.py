"""A memory error hits a page while its memory goes: ``memory_failure()`` holds no lock of hotplug.

It asks ``pfn_to_online_page()``, and then works on the struct page. A device's page it holds by a reference on the
mapping, which removal waits for. A page of a memory block it holds by nothing until it has a reference on the page
itself, which a free page does not give: offlining writes over its struct page where that is debugged
(``page_init_poison()``), removal takes it away.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.cases.pfn_walker_vs_offline import offline_and_remove
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.drivers.base.memory_lookup import Poisoned
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, Memremap
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memremap import devm_memremap_pages_release, memremap_pages
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.units import KiB

ONE_PAGEBLOCK = tuple(
    configurations(release, "arm64", page_size=64 * KiB)[0] for release in ("linux-6.1", *MAINLINE)
)
"""A memory block is one pageblock there, which offlining isolates at once."""
PMEM = "pmem"


def page_goes_bad(k: Kernel) -> Hashable:
    """The last page of the DIMM, or of the device, is reported: a machine check, or APEI."""
    try:
        memory_failure(k, pfns(k, near_dimm(k)).end - 1)
    except KernelError as error:
        return error.name
    return "recovered"


def page_goes_bad_locked(k: Kernel) -> Hashable:
    """The same with hotplug kept out, as ``soft_offline_page()`` does while it takes its reference."""
    with k.hw.locked("mem_hotplug_lock", write=False):
        return page_goes_bad(k)


def write_offline(k: Kernel) -> Hashable:
    """``echo offline > /sys/devices/system/memory/memoryN/state``."""
    try:
        state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "offline")
    except KernelError as error:
        return error.name
    return "offline"


def unbind(k: Kernel) -> None:
    """The device's driver is unbound."""
    devm_memremap_pages_release(k, k.statics(Memremap).drvdata[PMEM])


def _dimm(k: Kernel) -> None:
    add_near(k)
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")


def _device(k: Kernel) -> None:
    pgmap = DevPagemap(MemoryType.GENERIC, (near_dimm(k),))
    memremap_pages(k, pgmap, 0)
    k.statics(Memremap).drvdata[PMEM] = pgmap


class Meeting(NamedTuple):
    """The memory as it is before, who takes it away, and who meets that."""

    prepare: Callable[[Kernel], None]
    name: str
    goes: Actor
    goes_bad: Actor = page_goes_bad


MEETINGS = {
    "block-removed": Meeting(_dimm, "offline and remove", offline_and_remove),
    "block-offline": Meeting(_dimm, "offline", write_offline),
    "removal-locked": Meeting(_dimm, "offline and remove", offline_and_remove, page_goes_bad_locked),
    "device-unbound": Meeting(_device, "unbind", unbind),
}
"""By variant."""


def counted(k: Kernel) -> str | None:
    """The first law that does not hold, or that more pages of a block count as poisoned than of all memory."""
    poisoned = k.statics(Poisoned)
    if sum(poisoned.nr_hwpoison.values()) > poisoned.num_poisoned_pages:
        return f"poison: {poisoned.nr_hwpoison} of {poisoned.num_poisoned_pages} pages"
    return laws_hold(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Nobody uses the memory; it goes while one of its pages is found to be bad."""
    who = MEETINGS[variant.name]
    k = boot_near(variant.config(configuration), tag=PMEM if who.prepare is _device else "dimm")
    who.prepare(k)
    return KernelProgram(k, (who.goes_bad, who.goes), ("memory error", who.name), check=counted)


SMALL_LEAVES = {"rodata_full": False}
FINDING = "Who goes through pages by PFN may find their struct pages gone"

CASE = Case(
    name="memory-error-vs-removal",
    actors="memory_failure() of a free page, or of a device's; the memory goes offline, away, or loses its driver",
    build=build,
    geometry="one memory block, or a device as large; the struct page is looked at once",
    variants=(
        Variant(
            "block-removed",
            "pfn_to_online_page(), then the struct page, under mf_mutex alone; 6.12 and 7.2 fail in counting the page",
            "broken",
            ONE_PAGEBLOCK[:1],
            options=SMALL_LEAVES,
            finding=FINDING,
        ),
        Variant(
            "block-offline",
            "the same, and page_init_poison() of a kernel with CONFIG_DEBUG_VM",
            "broken",
            ONE_PAGEBLOCK,
            options=SMALL_LEAVES,
            finding=FINDING,
        ),
        Variant(
            "removal-locked",
            "get_online_mems() over all of memory_failure()",
            "repaired",
            ONE_PAGEBLOCK,
            options=SMALL_LEAVES,
            of_kernel=False,
        ),
        Variant(
            "device-unbound",
            "get_dev_pagemap() takes a reference, which memunmap_pages() waits for",
            "repaired",
            ONE_PAGEBLOCK,
            options=SMALL_LEAVES,
        ),
    ),
)
