"""Who goes through all zones goes by the nodes that are online, and comes to no node that is not ready."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.linux.mm.memory_hotplug_add import try_online_node
from memhp.linux.mm.mmzone import for_each_online_pgdat, for_each_zone
from memhp.linux.mm.show_mem import si_mem_available
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.linux.mm.users import allocate
from memhp.linux.mm.watermarks import start_stop_khugepaged
from memhp.linux.state import Kernel

MACHINES = [
    Configuration("x86_64", 4096, 48, "linux-7.2"),
    Configuration("riscv64", 4096, 48, "linux-6.12"),
    Configuration("x86_64", 4096, 48, "linux-6.1"),
]


def booted(machine: Configuration) -> Kernel:
    k = boot_near(Variant("as it is", "", "repaired", (machine,)).config(machine), nodes=(0, 1))
    allocate(k, k.config.page_size, "movable", "one")
    return k


def soft(k: Kernel) -> None:
    soft_offline_page(k, next(start for start, _, owner in k.hw.memory.owners if owner.tag == "one"))


WALKERS: dict[str, Callable[[Kernel], object]] = {
    "meminfo": si_mem_available,
    "khugepaged": lambda k: start_stop_khugepaged(k, 4096),
    "soft offlining": soft,
}
COMES: dict[str, Callable[[Kernel], object]] = {
    "a CPU": lambda k: try_online_node(k, 1),
    "memory": lambda k: add_near(k, 1),
}


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("walker", WALKERS)
def test_a_node_that_comes_is_found_when_it_is_whole(walker: str, comes: str, machine: Configuration) -> None:
    """mm/mmzone.c:first_online_pgdat asks N_ONLINE, which a node has once hotadd_init_pgdat() is done with it."""
    actors = (WALKERS[walker], COMES[comes])
    program = KernelProgram(booted(machine), actors, ("walks", "comes"), check=laws_hold)
    failure = decide(program.run()).failure
    assert failure is None, failure.reason


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_zones_are_those_of_online_nodes_in_their_order(machine: Configuration) -> None:
    k = booted(machine)
    before = [(zone.nid, zone.type) for zone in for_each_zone(k)]
    assert {nid for nid, _ in before} == {0}
    add_near(k, 1)
    after = [(zone.nid, zone.type) for zone in for_each_zone(k)]
    assert after == sorted(after)
    assert {nid for nid, _ in after} == {0, 1} == {pgdat.nid for pgdat in for_each_online_pgdat(k)}
