"""Somebody asks ``pfn_valid()`` of a page whose section goes, with its usage map.

Compaction does, for one, of the memory beside what it works on: no lock of hotplug is held.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm, remove_near
from memhp.explore.doors.run import KernelProgram
from memhp.linux.mm.sparse import pfn_valid, usage_of
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)


def ask(k: Kernel) -> Hashable:
    """``pfn_valid()`` of the DIMM's last page."""
    return pfn_valid(k, pfns(k, near_dimm(k)).end - 1)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while somebody asks of its last page."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    usage_of(k, k.section_nr(pfns(k, near_dimm(k)).end - 1))
    return KernelProgram(k, (remove_near, ask), ("hot-remove", "pfn_valid"), check=laws_hold)


CASE = Case(
    name="pfn-valid-vs-remove",
    actors="a pfn_valid() caller; removal frees the section's usage map",
    build=build,
    geometry="one memory block, of which the last page is asked for; section_mem_map and usage are read together",
    variants=(
        Variant(
            "freed-at-once",
            "kfree(ms->usage), then the section becomes invalid: before 6.8 and 6.1.76",
            "broken",
            EVERYWHERE,
            generic={"section_usage": "freed-at-once"},
            options={"rodata_full": False},
        ),
        Variant(
            "grace-period",
            "the section becomes invalid, then kfree_rcu(); pfn_valid() is within rcu_read_lock_sched()",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
    ),
)
