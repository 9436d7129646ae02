"""A write to a memory block's state file while the block is removed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, decided
from memhp.errors import KernelError
from memhp.explore.cases.near_dimm import remove_near
from memhp.explore.cases.sysfs_write_vs_remove import CASE, write_offline
from memhp.linux.fs.kernfs.dir import KernfsNode, kernfs_drain, kernfs_get_active, kernfs_put_active
from memhp.linux.fs.kernfs.file import kernfs_fop_mmap, kernfs_fop_write_iter

WHERE = ("riscv64-4K-48-linux-6.12", "arm64-64K-48-linux-7.2", "x86_64-4K-48-linux-7.2")


@pytest.mark.parametrize("configuration", WHERE)
def test_a_write_that_waited_for_the_lock_would_be_waited_for_by_who_has_it(configuration: str) -> None:
    """drivers/base/core.c:lock_device_hotplug_sysfs() tries the lock, as kernfs_drain() waits for the write."""
    reason, lines = counterexample(CASE, "lock-waited-for", configuration)
    assert reason.startswith("deadlock: hot-remove at wait for memory")
    assert "write to state at lock device_hotplug_lock" in reason
    assert any(line.name == "write to state" and "/state" in line.text for line in lines)


@pytest.mark.parametrize("configuration", WHERE[1:])
def test_a_write_that_starts_again_comes_before_the_removal_or_finds_no_file(configuration: str) -> None:
    """The block is offline already, which is EINVAL; a file that is gone is ENODEV (fs/kernfs/file.c)."""
    assert decided(CASE, "trylock-and-restart", configuration).word == "safe"
    assert behaviours(CASE, "trylock-and-restart", configuration) == {((None, "EINVAL"), ()), ((None, "ENODEV"), ())}


def test_only_who_is_inside_is_waited_for() -> None:
    k = CASE.program("trylock-and-restart").kernel
    kn = KernfsNode("file")
    assert kernfs_get_active(k.hw, kn)
    kernfs_put_active(k.hw, kn)
    kernfs_drain(k.hw, kn)
    assert not kernfs_get_active(k.hw, kn)
    with pytest.raises(KernelError) as refused:
        kernfs_fop_write_iter(k, kn, lambda: True)
    assert refused.value.name == "ENODEV"


def test_a_system_call_starts_again_until_it_is_done_and_is_inside_each_time() -> None:
    k = CASE.program("trylock-and-restart").kernel
    kn, answers, inside = KernfsNode("file"), [False, False, True], []

    def store() -> bool:
        inside.append(kn.active)
        return answers.pop(0)

    kernfs_fop_write_iter(k, kn, store)
    assert (inside, kn.active) == ([1, 1, 1], 0)


def test_mmap_is_inside_while_it_maps_and_finds_no_file_once_that_is_gone() -> None:
    k = CASE.program("trylock-and-restart").kernel
    kn = KernfsNode("file")
    assert (kernfs_fop_mmap(k, kn, lambda: kn.active), kn.active) == (1, 0)
    kernfs_drain(k.hw, kn)
    with pytest.raises(KernelError) as refused:
        kernfs_fop_mmap(k, kn, lambda: kn.active)
    assert refused.value.name == "ENODEV"


def test_one_after_the_other_both_end() -> None:
    k = CASE.program("trylock-and-restart").kernel
    assert write_offline(k) == "EINVAL"
    remove_near(k)
    assert write_offline(k) == "ENODEV"
