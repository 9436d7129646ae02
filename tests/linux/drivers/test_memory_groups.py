"""The walk over dynamic memory groups: which it comes to, and in what order."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import kernel
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_groups import (
    memory_group,
    memory_group_register_dynamic,
    memory_group_register_static,
    memory_group_unregister,
    walk_dynamic_memory_groups,
)
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

WHAT = st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=8)
"""The node of each group, and whether it is dynamic."""


def of_three_nodes() -> Kernel:
    """A machine of three nodes."""
    config = Config("x86_64", profile("linux-7.2"), 4 * KiB, 48)
    return start_kernel(MachineSpec("three", config, (Ram(0, GiB),), nodes=(0, 1, 2)))


def register(k: Kernel, nid: int, *, dynamic: bool) -> int:
    make = memory_group_register_dynamic if dynamic else memory_group_register_static
    return make(k, nid, k.pages_per_block)


def walked(k: Kernel, nid: int | None = None, excluded: int | None = None) -> list[int]:
    """The ids of the groups that a walk comes to; one group may equal another."""
    given_up = None if excluded is None else k.memory_groups[excluded]
    ids = {id(group): mgid for mgid, group in k.memory_groups.items()}
    return [ids[id(group)] for group in walk_dynamic_memory_groups(k, nid, given_up)]


def test_static_groups_are_left_out() -> None:
    """Their mark, MEMORY_GROUP_MARK_DYNAMIC, is what xa_for_each_marked() looks for."""
    k = kernel("x86_64", "linux-7.2")
    assert walked(k) == []
    register(k, 0, dynamic=False)
    assert walked(k) == []
    mgid = register(k, 0, dynamic=True)
    assert walked(k) == [mgid]


def test_they_come_in_the_order_of_their_ids_though_the_lowest_that_is_free_is_given_out_again() -> None:
    """xa_alloc(), and an XArray is gone through by index."""
    k = kernel("x86_64", "linux-7.2")
    ids = [register(k, 0, dynamic=True) for _ in range(4)]
    memory_group_unregister(k, ids[1])
    assert walked(k) == [ids[0], ids[2], ids[3]]
    assert register(k, 0, dynamic=True) == ids[1]
    assert walked(k) == ids


def test_the_group_of_who_asks_is_left_out_and_no_other_that_is_like_it() -> None:
    k = kernel("x86_64", "linux-7.2")
    first, second = (register(k, 0, dynamic=True) for _ in range(2))
    assert k.memory_groups[first] == k.memory_groups[second]
    assert walked(k, excluded=first) == [second]
    assert walked(k, 0, excluded=second) == [first]
    assert walked(k, excluded=register(k, 0, dynamic=False)) == [first, second]


def test_without_a_node_all_nodes_are_meant() -> None:
    """NUMA_NO_NODE."""
    k = of_three_nodes()
    by_node = [register(k, nid, dynamic=True) for nid in (2, 0, 1)]
    assert [walked(k, nid) for nid in (0, 1, 2, None)] == [[by_node[1]], [by_node[2]], [by_node[0]], sorted(by_node)]


@given(WHAT, st.sampled_from((None, 0, 1, 2)), st.integers(0, 7))
def test_they_are_the_marked_ones_of_the_node_but_one(
    what: list[tuple[int, bool]], nid: int | None, number: int
) -> None:
    k = of_three_nodes()
    ids = [register(k, of, dynamic=dynamic) for of, dynamic in what]
    excluded = ids[number] if number < len(ids) else None
    expected = [
        mgid
        for mgid, (of, dynamic) in zip(ids, what, strict=True)
        if dynamic and mgid != excluded and nid in (None, of)
    ]
    assert walked(k, nid, excluded) == sorted(expected)


def test_a_group_that_comes_meanwhile_is_met_behind_and_not_before() -> None:
    k = kernel("x86_64", "linux-7.2")
    first, second = (register(k, 0, dynamic=True) for _ in range(2))
    walk = walk_dynamic_memory_groups(k, None, None)
    assert next(walk) is k.memory_groups[first]
    memory_group_unregister(k, second)
    third, fourth = (register(k, 0, dynamic=True) for _ in range(2))
    memory_group_unregister(k, first)
    register(k, 0, dynamic=True)
    assert list(walk) == [k.memory_groups[third], k.memory_groups[fourth]]


@pytest.mark.parametrize("freed", ["at-once", "after-grace-period"])
def test_who_holds_on_to_a_group_without_rcu_finds_it_freed_sooner_or_later(freed: str) -> None:
    """``mem->group`` is a plain pointer: kfree() and kfree_rcu() are alike to it when nobody else reads."""
    chosen = profile("linux-7.2").choosing("x86_64", {"memory_group_freed": freed})
    k = start_kernel(MachineSpec("one", Config("x86_64", chosen, 4 * KiB, 48), (Ram(0, GiB),)))
    mgid = register(k, 0, dynamic=True)
    memory_group(k, mgid)
    assert not k.hw.violations
    memory_group_unregister(k, mgid)
    memory_group(k, mgid)
    text = "memory_group is used, but drivers/base/memory.c:memory_group_unregister freed it"
    assert [(one.law, one.text) for one in k.hw.violations] == [("use-after-free", text)]
