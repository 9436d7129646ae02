"""How the claims about failures are decided: what a block that hosts its struct pages counts, before and after one.

Every refusal that a notifier, an unmovable page or a pin can cause, and every allocation of an add, failing in turn.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Literal, NamedTuple

from memhp.claims import evidence
from memhp.claims.claim import Finding, VerdictName, over_releases
from memhp.claims.memmap_on_memory import KERNELS
from memhp.claims.sequential_stepper import InOrder
from memhp.errors import KernelBug, KernelError
from memhp.hw.tlb import Table
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.mm import users
from memhp.linux.state import Kernel
from memhp.scenario.schema import Plug
from memhp.target.model.session import Session
from memhp.target.model.steps import plug
from memhp.units import MiB

BLOCK_SIZE = 128 * MiB
NODE = 1
"""The block is the only memory of its node, so that the node's notifiers are asked too."""


class Counters(NamedTuple):
    """What is counted of memory: by zone, by node, by group, by block, by altmap."""

    zones: list[tuple[int, str, int, int, int, int]]
    nodes: list[tuple[int, int, int]]
    groups: list[Any]
    blocks: list[tuple[int, int, str, str]]
    altmaps: list[tuple[int, int, int, int]]


def counters(k: Kernel) -> Counters:
    """The counters as they are now. Free pages count in where they must: with what is isolated."""
    return Counters(
        zones=[
            (zone.nid, zone.name, zone.spanned, zone.present, zone.managed, zone.free.size + zone.isolated_free.size)
            for zone in k.zones()
            if zone.spanned or zone.present or zone.managed
        ],
        nodes=[(node.nid, node.spanned, node.present) for node in k.nodes.values() if node.spanned],
        groups=[replace(group) for group in k.memory_groups.values()],
        blocks=[(first, end, block.state, str(block.zone)) for first, end, block in k.memory_blocks],
        altmaps=[(block, altmap.free, altmap.alloc, altmap.align) for block, altmap in k.altmaps.items()],
    )


@dataclass
class NthFails(InOrder):
    """A stepper under which one allocation fails."""

    failing: int
    asked: int = 0
    site: str = ""
    """Where the one that failed was asked for, as ``file:function``."""

    def loads(self, table: Table, index: int, count: int) -> int:
        """Each by itself."""
        return 0

    def fails(self, site: str) -> bool:
        """Whether it is the turn of the one that fails."""
        self.asked += 1
        if self.asked == self.failing:
            self.site = site
        return self.asked == self.failing


@contextmanager
def refusing(k: Kernel, action: str) -> Iterator[None]:
    """A driver that refuses one action of the memory or the node notifiers."""

    def memory(_k: Kernel, asked: str, start_pfn: int, nr_pages: int) -> str:
        return f"{action} refused" if asked == action else ""

    def node(_k: Kernel, asked: str, nid: int) -> str:
        return f"{action} refused" if asked == action else ""

    k.statics(Chains).memory.append(memory)
    k.statics(Chains).node.append(node)
    try:
        yield
    finally:
        k.statics(Chains).memory.remove(memory)
        k.statics(Chains).node.remove(node)


@contextmanager
def used(k: Kernel, kind: users.Kind) -> Iterator[None]:
    """Somebody has 2 MiB in the middle of the block."""
    (start, _, _) = list(k.memory_blocks)[-1]
    users.allocate(k, 2 * MiB, kind, "user", nid=NODE, at=start * k.memory_block_size + BLOCK_SIZE // 2)
    try:
        yield
    finally:
        users.free(k, "user")


def session(profile: str) -> Session:
    """A machine of that kernel whose second node is still empty."""
    machine = {
        "preset": "x86-vm",
        "memory": "1G",
        "nodes": 2,
        "profile": profile,
        "boot": {"memmap_on_memory": "Y"},
    }
    return Session(evidence.kernel(machine))


End = Literal["succeeds", "as before", "less free", "otherwise", "dies"]
"""How a change ends: it succeeds; or it fails with all counters as they were, with less memory free (which page tables
keep), or with other counters; or the kernel dies of it."""


def end_of(k: Kernel, change: Callable[[], object]) -> End:
    """Make a change, and see how it ends."""
    before = counters(k)
    try:
        change()
    except KernelError:
        after = counters(k)
        if after == before:
            return "as before"
        return "less free" if _but_free(after) == _but_free(before) else "otherwise"
    except KernelBug:
        return "dies"
    return "succeeds"


def _but_free(seen: Counters) -> Counters:
    return seen._replace(zones=[(*zone[:-1], 0) for zone in seen.zones])


ONLINE_REFUSALS = ("MEM_PREPARE_ONLINE", "MEM_GOING_ONLINE", "NODE_ADDING_FIRST_MEMORY")
OFFLINE_REFUSALS = ("MEM_GOING_OFFLINE", "NODE_REMOVING_LAST_MEMORY")
OFFLINE_USERS: tuple[users.Kind, ...] = ("kernel", "pinned")


def changes(profile: str) -> Iterator[tuple[str, End]]:
    """Every way in which onlining or offlining can fail in a kernel, and how it ends."""
    mine = session(profile)
    plug(mine, Plug(size=BLOCK_SIZE, node=NODE))
    k = mine.k
    (block, _, _) = list(k.memory_blocks)[-1]

    def write(state: str) -> End:
        return end_of(k, lambda: state_store(k, block, state))

    for action in ONLINE_REFUSALS:
        with refusing(k, action):
            end = write("online_kernel")
        if end != "succeeds":
            yield action, end
        else:
            write("offline")
    write("online_kernel")
    for action in OFFLINE_REFUSALS:
        with refusing(k, action):
            end = write("offline")
        if end != "succeeds":
            yield action, end
        else:
            write("online_kernel")
    for kind in OFFLINE_USERS:
        with used(k, kind):
            yield f"{kind} page", write("offline")


def adds(profile: str) -> Iterator[tuple[str, End]]:
    """An add with each of its allocations failing in turn: where, and how it ends unless it succeeds all the same."""
    size = BLOCK_SIZE if profile == "linux-5.13" else 2 * BLOCK_SIZE
    step = Plug(size=size, node=NODE, driver="kmem", memmap_on_memory=True)
    for failing in count(1):
        mine = session(profile)
        mine.k.hw.stepper = stepper = NthFails(failing)
        end = end_of(mine.k, partial(plug, mine, step))
        if end != "succeeds":
            yield stepper.site, end
        elif stepper.asked < failing:
            return


OF_THE_FEATURE = ("mm/memory_hotplug.c:create_altmaps_and_memory_blocks", "drivers/base/memory.c:add_memory_block")
"""Where memory is asked for that only a block with struct pages of its own needs, or whose failure it must undo."""


def failures() -> Finding:
    """mom-9: the counters after each failure, held against those before it; and which failures nobody survives.

    Dying is no roll-back: it refutes the claim if the site belongs to the feature, and else says how far it goes.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for profile in KERNELS:
        found, added = dict(changes(profile)), list(adds(profile))
        wrong = [name for name, end in found.items() if end != "as before"]
        fatal = [site for site, end in added if end == "dies"]
        otherwise = [site for site, end in added if end == "otherwise"]
        if wrong or otherwise or set(fatal) & set(OF_THE_FEATURE):
            verdicts[profile] = "refuted"
        else:
            verdicts[profile] = "in part" if fatal else "reproduced"
        text = (
            f"{profile}: {len(found)} ways to fail online or offline, {len(found) - len(wrong)} with counters as before"
        )
        if wrong:
            text += f" (not {', '.join(wrong)})"
        parts.append(f"{text}; of {len(added)} allocations of an add {len(fatal)} are fatal: {', '.join(fatal)}")
    return over_releases("; ".join(parts), verdicts)
