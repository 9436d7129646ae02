"""The auto-movable policy goes through the memory groups of all drivers while one of them drops its own."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace

import pytest

from deciding import behaviours, counterexample, decided, in_turn
from memhp.explore.case import Case
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.memory_groups_vs_unbind import CASE, build, unbind, write_online
from memhp.explore.cases.near_dimm import near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.explore.lock_removal import removed, sites
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_groups import memory_group_unregister
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.state import Kernel

WHERE = ("arm64-64K-48-linux-6.12", "x86_64-4K-48-linux-7.2")
SMALL = "x86_64-4K-48-linux-7.2"
FREED = (
    "use-after-free: memory_group is used, but drivers/base/memory.c:memory_group_unregister freed it "
    "(drivers/base/memory.c:walk_dynamic_memory_groups)"
)


def read_valid_zones(k: Kernel) -> str:
    """``cat /sys/devices/system/memory/memoryN/valid_zones`` of the DIMM's block."""
    return valid_zones(k, near_dimm(k).start // k.memory_block_size)


def write_online_movable(k: Kernel) -> None:
    state_store(k, near_dimm(k).start // k.memory_block_size, "online_movable")


def drop_the_group(k: Kernel) -> None:
    """The end of unbinding, without what comes before."""
    mgid = k.statics(OnlinePages).virtio_mem_devices[0].mgid
    assert mgid is not None
    memory_group_unregister(k, mgid)


def of(*actors: Callable[[Kernel], object], plugged: bool = False, policy: str = "auto-movable") -> Case:
    """The race with other actors; with memory of the device `plugged`; by another policy."""

    def built(variant: object, configuration: object) -> KernelProgram:
        k = build(variant, configuration).kernel  # type: ignore[arg-type]
        if plugged:
            k.statics(OnlinePages).virtio_mem_devices[0].device.resize(k.memory_block_size)
            k.hw.advance(0)
        return KernelProgram(k, actors, tuple(str(number) for number in range(len(actors))), check=laws_hold)

    options = {"online_policy": policy}
    return replace(CASE, build=built, variants=tuple(replace(one, options=options) for one in CASE.variants))


@pytest.mark.parametrize("configuration", WHERE)
def test_a_group_is_freed_between_finding_it_and_looking_at_it(configuration: str) -> None:
    """drivers/base/memory.c:walk_dynamic_memory_groups: xa_for_each_marked() lets go of RCU before each turn."""
    reason, lines = counterexample(CASE, "as-it-is", configuration)
    assert reason == FREED
    walk, drop = ([line for line in lines if line.name == name] for name in ("online", "unbind"))
    assert [line.text for line in walk[-2:]] == ["read memory_groups", "read memory_group"]
    assert "write memory_group" in [line.text for line in drop]
    assert lines[-1] is walk[-1]


@pytest.mark.parametrize("actors", [(write_online, unbind), (unbind, write_online)])
def test_whoever_comes_first(actors: tuple[Callable[[Kernel], object], ...]) -> None:
    assert counterexample(of(*actors), "as-it-is", SMALL)[0] == FREED


@pytest.mark.parametrize("configuration", WHERE)
def test_after_a_grace_period_no_walk_looks_at_it_any_more(configuration: str) -> None:
    """A walk that holds RCU from its first group to its last, and kfree_rcu()."""
    program = CASE.program("grace-period", configuration)
    (zones,) = in_turn(program)
    assert behaviours(CASE, "grace-period", configuration) == {(zones, ())}
    for actor in program.actors:
        actor(program.kernel)
    assert not program.kernel.memory_groups


def test_who_reads_valid_zones_meanwhile_meets_it_too_and_holds_no_lock_at_all() -> None:
    """drivers/base/memory.c:valid_zones_show of a block that is offline."""
    case = of(read_valid_zones, unbind)
    reason, lines = counterexample(case, "as-it-is", SMALL)
    assert reason == FREED
    assert not [line for line in lines if line.name == "0" and line.text.startswith("lock ")]
    assert {laws for _, laws in behaviours(case, "grace-period", SMALL)} == {()}


def test_two_who_go_through_the_groups_hold_up_one_grace_period() -> None:
    case = of(read_valid_zones, read_valid_zones, drop_the_group)
    assert counterexample(case, "as-it-is", SMALL)[0] == FREED
    assert decided(case, "grace-period", SMALL).word == "safe"


def test_a_grace_period_alone_does_not_do_where_the_walk_is_no_section() -> None:
    (site,) = (one for one in sites() if str(one).startswith("drivers/base/memory_groups.py:"))
    assert str(site) == "drivers/base/memory_groups.py:walk_dynamic_memory_groups rcu_read_lock()"
    with removed(site):
        assert counterexample(CASE, "grace-period", SMALL)[0] == FREED


def test_a_device_with_memory_plugged_keeps_its_group() -> None:
    """drivers/virtio/virtio_mem.c:virtio_mem_deinit_hotplug: it warns, and unregisters nothing."""
    assert decided(of(read_valid_zones, unbind, plugged=True), "as-it-is", SMALL).word == "safe"


def test_by_the_other_policy_and_with_a_zone_that_is_named_nobody_goes_through_groups() -> None:
    assert decided(of(read_valid_zones, unbind, policy="contig-zones"), "as-it-is", SMALL).word == "safe"
    assert decided(of(write_online_movable, unbind), "as-it-is", SMALL).word == "safe"


def test_todays_kernels_are_the_broken_variant() -> None:
    assert all(CASE.variant("as-it-is").current(one) for one in CASE.variant("as-it-is").configurations)
    assert not any(CASE.variant("grace-period").current(one) for one in CASE.variant("grace-period").configurations)
