"""Hotplug operations at the same time: adding, removing, and a write to the state file of a memory block.

``device_hotplug_lock`` is for the callers of ``__add_memory()`` and ``try_remove_memory()``; ``mem_hotplug_lock`` is
taken inside. Until 8df1d0e4a265 (4.20) ``add_memory()`` left the former to drivers, and not all took it. With the
latter alone two adds, or an add and a removal, exclude each other still. But a write to ``state`` holds the block's
device lock when it asks for ``mem_hotplug_lock``, and adding or removing a block's device takes them the other way
round; and a removal has seen that all blocks are offline before it has any lock.

``state_store()`` only tries ``device_hotplug_lock``, and has the system call start again if it is taken; here it waits.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from functools import partial
from typing import NamedTuple

from memhp.explore.case import Case, Configuration, StandsFor, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.lone_dimm import add_lone, boot_lone, lone_dimm, remove_lone
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_add import __add_memory
from memhp.linux.mm.memory_hotplug_remove import try_remove_memory
from memhp.linux.state import Kernel


def add_unlocked(k: Kernel, number: int = 0) -> None:
    """A driver that calls ``__add_memory()`` without ``lock_device_hotplug()``."""
    dimm = lone_dimm(k, number)
    __add_memory(k, 0, dimm.start, dimm.size)


def remove_unlocked(k: Kernel, number: int = 0) -> None:
    """A driver that calls ``try_remove_memory()`` without ``lock_device_hotplug()``."""
    dimm = lone_dimm(k, number)
    try_remove_memory(k, dimm.start, dimm.size)


def write_online(k: Kernel) -> Hashable:
    """``echo online > /sys/devices/system/memory/memoryN/state`` for the first DIMM's block."""
    state_store(k, lone_dimm(k).start // k.memory_block_size, "online")
    return None


class Pair(NamedTuple):
    """Who meets whom."""

    about: str
    stands_for: StandsFor
    there: bool
    """Whether the first DIMM has been added, and is offline."""
    first: tuple[str, Actor]
    second: tuple[str, Actor]


ADD, REMOVE = ("hot-add", add_lone), ("hot-remove", remove_lone)
ADD_TOO = ("other hot-add", add_lone)
ADD_NEXT = ("hot-add next door", partial(add_lone, number=1))
BARE_ADD, BARE_REMOVE = ("hot-add", add_unlocked), ("hot-remove", remove_unlocked)
BARE_ADD_TOO = ("other hot-add", add_unlocked)
BARE_ADD_NEXT = ("hot-add next door", partial(add_unlocked, number=1))
WRITE = ("write to state", write_online)
ALONE = "without device_hotplug_lock; mem_hotplug_lock and the resource tree are enough"

PAIRS: dict[str, Pair] = {
    "two-adds": Pair("two adds of one range", "repaired", False, ADD, ADD_TOO),
    "add-and-online": Pair("an add, and a write to the new block's state file", "repaired", False, ADD, WRITE),
    "remove-and-add": Pair("a removal, and an add of the same range", "repaired", True, REMOVE, ADD),
    "remove-and-neighbour": Pair("a removal, and an add next door", "repaired", True, REMOVE, ADD_NEXT),
    "remove-and-online": Pair("a removal, and a write to the block's state file", "repaired", True, REMOVE, WRITE),
    "unlocked-two-adds": Pair(f"two adds {ALONE}", "repaired", False, BARE_ADD, BARE_ADD_TOO),
    "unlocked-remove-and-add": Pair(f"a removal and an add {ALONE}", "repaired", True, BARE_REMOVE, BARE_ADD),
    "unlocked-neighbour": Pair(f"a removal, an add next door {ALONE}", "repaired", True, BARE_REMOVE, BARE_ADD_NEXT),
    "unlocked-add-and-online": Pair(
        "an add without device_hotplug_lock, and a write to state", "broken", False, BARE_ADD, WRITE
    ),
    "unlocked-remove-and-online": Pair(
        "a removal without device_hotplug_lock, and a write to state", "broken", True, BARE_REMOVE, WRITE
    ),
}
"""By variant."""


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Two DIMMs that share their lowest tables with each other and with nobody else."""
    pair = PAIRS[variant.name]
    k = boot_lone(variant.config(configuration), dimms=2)
    if pair.there:
        add_lone(k)
    (name, actor), (other_name, other) = pair.first, pair.second
    return KernelProgram(k, (actor, other), (name, other_name), check=laws_hold)


EVERYWHERE = mainline()

CASE = Case(
    name="two-hotplugs",
    actors="two adders; an adder and a remover; either of them and a write to a block's state file",
    build=build,
    geometry="DIMMs of one memory block, whose lowest tables they share with each other alone",
    variants=tuple(
        Variant(
            name,
            pair.about,
            pair.stands_for,
            configurations() if name.startswith("unlocked") else EVERYWHERE,
            options={"rodata_full": False},
            of_kernel=not name.startswith("unlocked"),
        )
        for name, pair in PAIRS.items()
    ),
)
