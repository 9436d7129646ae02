"""Somebody asks of a page whose section goes, with its usage map: ``pfn_valid()``, or ``pfn_to_online_page()``.

Compaction does, for one, of the memory beside what it works on: no lock of hotplug is held. ``pfn_to_online_page()``
holds no RCU either, so that the map may go under it where a task may be preempted, or interrupted for long, within the
kernel: ``CONFIG_PREEMPT_RCU``. Without that option a grace period waits for every task in the kernel.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm, remove_near
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.mm.sparse import pfn_to_online_page, pfn_valid
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)
ONLINE = "online-page"
"""How variants begin in which the page is online at first."""


def ask(k: Kernel) -> Hashable:
    """``pfn_valid()`` of the DIMM's last page."""
    return pfn_valid(k, pfns(k, near_dimm(k)).end - 1)


def ask_online(k: Kernel) -> Hashable:
    """``pfn_to_online_page()`` of the DIMM's last page."""
    return pfn_to_online_page(k, pfns(k, near_dimm(k)).end - 1)


def offline_and_remove(k: Kernel) -> None:
    """``offline_and_remove_memory()`` of the DIMM, as a driver calls it."""
    offline_and_remove_memory(k, near_dimm(k).start, near_dimm(k).size)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in, and online where that is asked; it is removed while somebody asks of its last page."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    if not variant.name.startswith(ONLINE):
        return KernelProgram(k, (remove_near, ask), ("hot-remove", "pfn_valid"), check=laws_hold)
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")
    return KernelProgram(k, (offline_and_remove, ask_online), ("hot-remove", "pfn_to_online_page"), check=laws_hold)


CASE = Case(
    name="pfn-valid-vs-remove",
    actors="a pfn_valid() or pfn_to_online_page() caller; removal frees the section's usage map",
    build=build,
    geometry="one memory block, of which the last page is asked for; tasks may be preempted in the kernel",
    variants=(
        Variant(
            "freed-at-once",
            "kfree(ms->usage), then the section becomes invalid: before 6.8 and 6.1.76",
            "broken",
            EVERYWHERE,
            generic={"section_usage": "freed-at-once", "section_usage_null": "followed"},
            options={"rodata_full": False},
        ),
        Variant(
            "null-not-tested",
            "the section becomes invalid, then kfree_rcu() and ms->usage = NULL, which pfn_section_valid() follows: "
            "from 6.8 and 6.1.76 on, until 6.10 and 6.1.100",
            "broken",
            EVERYWHERE,
            generic={"section_usage_null": "followed"},
            options={"rodata_full": False},
        ),
        Variant(
            "grace-period",
            "as that, and NULL is looked for; pfn_valid() is within rcu_read_lock_sched()",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
        Variant(
            f"{ONLINE}-unlocked",
            "pfn_to_online_page() looks at ms->usage without RCU: mm/memory_hotplug.c of today",
            "broken",
            EVERYWHERE,
            options={"rodata_full": False},
            finding="pfn_to_online_page() may look at a usage map that is freed",
        ),
        Variant(
            f"{ONLINE}-rcu",
            "pfn_to_online_page() asks online_section() and looks at ms->usage within rcu_read_lock_sched()",
            "repaired",
            EVERYWHERE,
            generic={"online_page_usage": "rcu"},
            options={"rodata_full": False},
        ),
    ),
)
