"""Somebody has found a memory block and goes on using it while it is removed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm, remove_near
from memhp.explore.doors.run import KernelProgram
from memhp.hw.lifetime import use_object
from memhp.linux.drivers.base.memory_lookup import find_memory_block_by_id, memblk_nr_poison_inc, memory_block_put
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)
UNLOCKED = "lookup-unlocked"


@kernel_function("drivers/base/memory.c:state_show")
def read_block(k: Kernel) -> Hashable:
    """Find the block under ``device_hotplug_lock``, let that go, read a field, give the block back."""
    with k.hw.locked("device_hotplug_lock"):
        dev = find_memory_block_by_id(k, k.block_id(pfns(k, near_dimm(k)).start))
    if dev is None:
        return "no block"
    use_object(k.hw, dev.slab, here())
    memory_block_put(k, dev)
    return "read"


def count_poison(k: Kernel) -> Hashable:
    """``memory_failure()`` counts a page of the DIMM that it has poisoned."""
    return memblk_nr_poison_inc(k, pfns(k, near_dimm(k)).start)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while somebody has its block in hand."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    unlocked = variant.name == UNLOCKED
    actor, name = (count_poison, "memory failure") if unlocked else (read_block, "reader")
    return KernelProgram(k, (remove_near, actor), ("hot-remove", name), check=laws_hold)


CASE = Case(
    name="memory-block-lookup",
    actors="a reader that holds a memory_block; removal drops it",
    build=build,
    geometry="one memory block, of which one field is read",
    variants=(
        Variant(
            "reference-missing",
            "the reader has the pointer and no reference; no kernel did so",
            "broken",
            EVERYWHERE,
            generic={"block_reference": "none"},
            options={"rodata_full": False},
        ),
        Variant(
            "reference-held",
            "xa_load() and get_device() under device_hotplug_lock, as find_memory_block_by_id() asks for",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
        Variant(
            UNLOCKED,
            "xa_load(), then get_device(), under no lock: memblk_nr_poison_inc() of today, for memory_failure()",
            "broken",
            EVERYWHERE,
            options={"rodata_full": False},
            finding="A memory error may be counted for a memory block that is freed already",
        ),
    ),
)
