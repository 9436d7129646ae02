"""An allocation checks that its page lies within the zone, whose span somebody changes: ``bad_range()``.

Only a kernel with ``CONFIG_DEBUG_VM`` looks; elsewhere nobody reads a zone's span without a lock of hotplug.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.lone_dimm import boot_lone, lone_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.zone_span import bad_range
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)
NO_RETRY = "no-retry"


def take_page(k: Kernel, *, retries: bool) -> None:
    """The check of a page of the upper DIMM, which is in its zone before, while and after the lower one comes."""
    pfn = pfns(k, lone_dimm(k, 1)).end - 1
    zone = k.zone_of(pfn)
    assert zone is not None
    bad_range(k, zone, pfn, retries=retries)


def online_lower(k: Kernel) -> None:
    """The lower DIMM goes online, in the same zone, which begins lower then."""
    state_store(k, k.block_id(pfns(k, lone_dimm(k, 0)).start), "online_movable")


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Two DIMMs are in, and the upper one is online in ZONE_MOVABLE."""
    k = boot_lone(variant.config(configuration), dimms=2)
    for number in range(2):
        add_memory(k, 0, lone_dimm(k, number).start, lone_dimm(k, number).size, MHP_NONE)
    state_store(k, k.block_id(pfns(k, lone_dimm(k, 1)).start), "online_movable")
    takes = partial(take_page, retries=variant.name != NO_RETRY)
    return KernelProgram(k, (online_lower, takes), ("online", "allocate"), check=laws_hold)


CASE = Case(
    name="zone-span-vs-allocation",
    actors="a kernel with DEBUG_VM checks that a page it takes lies in its zone; a memory block goes online below it",
    build=build,
    geometry="a zone of one memory block that becomes two; of an allocation the check of one page",
    variants=(
        Variant(
            "span-unlocked",
            "readers retry, but nobody writes zone->span_seqlock: since 5.14",
            "broken",
            EVERYWHERE,
            options={"rodata_full": False},
            finding="Nobody writes the seqlock under which a zone's span is read",
        ),
        Variant(
            "span-seqlock",
            "resize_zone_range() and shrink_zone_span() under zone_span_writelock(), as until 5.13",
            "repaired",
            EVERYWHERE,
            generic={"span_lock": "span_seqlock"},
            options={"rodata_full": False},
        ),
        Variant(
            NO_RETRY,
            "the same, with a reader that does not look again",
            "broken",
            EVERYWHERE,
            generic={"span_lock": "span_seqlock"},
            options={"rodata_full": False},
            of_kernel=False,
        ),
    ),
)
