"""Memory goes online while a CPU comes, and while somebody else keeps out both: none of the three would do harm alone.

Whoever needs CPUs and memory to stay reads ``cpu_hotplug_lock``, then ``mem_hotplug_lock``. Memory hotplug held the
second alone when, to stop the machine for new zonelists, it read the first: the other way round, which two readers of
one lock do not mind. But a CPU that comes waits for the one reader, and from then on no new one gets in, for the lock
favours writers: the other one waits for the writer, who waits for the first, who waits for the other one's lock.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from functools import partial

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import register_memory_notifier
from memhp.linux.mm.page_alloc import build_all_zonelists
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

CPU_HOTPLUG_LOCK = "cpu_hotplug_lock"
"""It has no place in the order of locks here, so that what is told is who waits for whom."""
EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)
ONLINE, READER, CPU = "online", "reader of both", "CPU"


def bring_online(cpus_first: bool, k: Kernel) -> None:
    """``echo online_movable`` to the block's state file; CPUs are kept from coming first, or not."""
    with k.hw.locked(CPU_HOTPLUG_LOCK, write=False, ordered=False) if cpus_first else nullcontext():
        state_store(k, near_dimm(k).start // k.memory_block_size, "online_movable")


@kernel_function("kernel/stop_machine.c:stop_machine")
def stop_machine(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """The zonelists are built anew while all other CPUs stand still."""
    if action == "MEM_ONLINE":
        with k.hw.locked(CPU_HOTPLUG_LOCK, write=False, ordered=False):
            build_all_zonelists(k)
    return ""


@kernel_function("mm/vmscan.c:lru_gen_change_state")
def keep_both_out(k: Kernel) -> None:
    """Neither CPUs nor memory come or go meanwhile: ``kmem_cache_shrink()`` then, ``lru_gen_change_state()`` today."""
    with k.hw.locked(CPU_HOTPLUG_LOCK, write=False, ordered=False), k.hw.locked("mem_hotplug_lock", write=False):
        pass


@kernel_function("kernel/cpu.c:_cpu_up")
def cpu_up(k: Kernel) -> None:
    """A CPU comes."""
    with k.hw.locked(CPU_HOTPLUG_LOCK, ordered=False):
        pass


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    if variant.name != CPUS_FIRST:
        register_memory_notifier(k, stop_machine)
    actors: dict[str, Actor] = {
        ONLINE: partial(bring_online, variant.name == CPUS_FIRST),
        READER: keep_both_out,
        CPU: cpu_up,
    }
    names = tuple(name for name in actors if name != LEFT_OUT.get(variant.name))
    return KernelProgram(k, tuple(actors[name] for name in names), names, check=laws_hold)


CPUS_FIRST = "cpus-first"
LEFT_OUT = {"mems-first-no-cpu": CPU, "mems-first-no-reader": READER}
"""By variant: the actor that does not take part."""

CASE = Case(
    name="memory-vs-cpu-hotplug",
    actors="a memory block goes online; a CPU comes; somebody keeps CPUs and memory from coming and going",
    build=build,
    geometry="the machine is stopped when the notifiers have been told; nothing is done to the CPU",
    variants=(
        Variant(
            "mems-first",
            "memory hotplug holds mem_hotplug_lock when it takes cpu_hotplug_lock to stop the machine: before 4.13",
            "broken",
            EVERYWHERE,
            options={"rodata_full": False},
            of_kernel=False,
        ),
        Variant(
            "mems-first-no-cpu",
            "the same while no CPU comes or goes: two readers of cpu_hotplug_lock do not wait for each other",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
            of_kernel=False,
        ),
        Variant(
            "mems-first-no-reader",
            "the same while nobody keeps out both: memory and CPU wait for each other's end",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
            of_kernel=False,
        ),
        Variant(
            CPUS_FIRST,
            "mem_hotplug_begin() takes cpu_hotplug_lock before mem_hotplug_lock, as all others do",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
    ),
)
