"""Bits of node_states[] are set, cleared and tested atomically, and written only where a node's state changes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from memhp.explore.case import Configuration
from memhp.explore.cases import case
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.state import Kernel

RELEASES = ("linux-6.1", "linux-6.12", "linux-7.2")


@dataclass
class Seen:
    """Which states a node had when it was looked at: the one that was looked at first, and the other."""

    first: bool | None = None
    second: bool | None = None


def machine(release: str, nid: int) -> Kernel:
    """Node 0 has memory, of all sorts; the block that is offline belongs to `nid`."""
    variant = case("pfn-valid-vs-remove").variant("grace-period")
    k = boot_near(variant.config(Configuration("x86_64", 4096, 48, release)), nodes=(0, 1))
    add_near(k, nid=nid)
    return k


def store(text: str) -> Callable[[Kernel], None]:
    return lambda k: state_store(k, near_dimm(k).start // k.memory_block_size, text)


def look(nid: int, first: str, second: str) -> Callable[[Kernel], None]:
    def look_at(k: Kernel) -> None:
        seen = k.statics(Seen)
        seen.first = nid in getattr(k.node_states, first)
        seen.second = nid in getattr(k.node_states, second)

    return look_at


def verdict(release: str, text: str, nid: int, first: str, second: str, seen: tuple[bool, bool] | None) -> Verdict:
    """Of a look beside a block that goes on or offline: broken where the states `seen` can be."""
    k = machine(release, nid)
    if text == "offline":
        store("online_kernel")(k)

    def check(k: Kernel) -> str | None:
        found = k.statics(Seen)
        return "seen" if (found.first, found.second) == seen else None

    program = KernelProgram(k, (store(text), look(nid, first, second)), ("block", "look"), check=check)
    found = decide(program.run())
    assert found.failure is None or found.failure.reason == "seen"
    return found


@pytest.mark.parametrize("text", ["online_kernel", "online_movable", "offline"])
@pytest.mark.parametrize("release", RELEASES)
def test_nothing_is_written_when_a_node_that_has_memory_gets_more_or_keeps_some(release: str, text: str) -> None:
    """node_states_set_node() and node_states_clear_node(), or what 6.17 has in their place."""
    found = verdict(release, text, 0, "normal_memory", "memory", None)
    assert (found.word, found.coverage.executions) == ("safe", 1)


@pytest.mark.parametrize("release", RELEASES)
def test_which_state_a_node_has_first_depends_on_the_kernel(release: str) -> None:
    """6.17 sets N_MEMORY first, kernels before it N_NORMAL_MEMORY."""
    normal_before = verdict(release, "online_kernel", 1, "normal_memory", "memory", (True, False))
    memory_before = verdict(release, "online_kernel", 1, "memory", "normal_memory", (True, False))
    first = "memory" if release == "linux-7.2" else "normal"
    words = {"memory": ("safe", "broken"), "normal": ("broken", "safe")}
    assert (normal_before.word, memory_before.word) == words[first]


@pytest.mark.parametrize("release", RELEASES)
def test_memory_that_is_movable_only_gives_a_node_one_state(release: str) -> None:
    assert verdict(release, "online_movable", 1, "memory", "normal_memory", (True, False)).word == "broken"
    assert verdict(release, "online_movable", 1, "normal_memory", "memory", (True, True)).word == "safe"


@pytest.mark.parametrize("release", RELEASES)
def test_the_last_memory_of_a_node_leaves_normal_memory_first(release: str) -> None:
    assert verdict(release, "offline", 1, "normal_memory", "memory", (False, True)).word == "broken"
    assert verdict(release, "offline", 1, "memory", "normal_memory", (False, True)).word == "safe"
