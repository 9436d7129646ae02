"""What is broken today where no step of a scenario shows it: for :class:`~memhp.claims.fix.Called`.

Each takes a kernel, does something to a small machine, and says what is wrong then; empty if nothing is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import suppress
from dataclasses import replace
from errno import EBUSY

from memhp.claims.fix_witnesses import AT, small_machine
from memhp.errors import KernelError
from memhp.explore.case import Case
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains, Refusal
from memhp.linux.kernel.resource import (
    BUSY_SYSTEM_RAM,
    IORESOURCE_MEM,
    Resource,
    release_mem_region_adjustable,
    request_region,
)
from memhp.linux.lib.test_hmm import dmirror_allocate_chunk
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.vmalloc import vfree, vmalloc
from memhp.linux.mm.vmap import vmap_range_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB


def repaired(race: Case, variant: str, **choices: str) -> Case:
    """A race with one of its variants repaired by choices that no kernel has made: generic ones, or an architecture's.

    It keeps its name, by which the race knows what to build.
    """
    (broken,) = [each for each in race.variants if each.name == variant]
    return replace(race, variants=(replace(broken, choices={**broken.choices, **choices}),))


def tables_of_a_gigabyte(config: Config) -> str:
    """Areas leave tables behind; a leaf of 1 GiB takes the place of the PMD table that they are under."""
    k = small_machine(config, nodes=(0, 1))
    span = vmalloc(k, config.page_size, "before")
    start = span.start // config.pud_size * config.pud_size
    vmalloc(k, 2 * config.pmd_size, "far")
    for tag in ("before", "far"):
        vfree(k, tag)
    vmap_range_noflush(k, Span(start, start + config.pud_size), 0, k.port.page_kernel(k), config.shift(2))
    exposed = len(k.hw.tlb.exposed_set())
    return f"{exposed} table that is free may still be walked" if exposed else ""


def resource_above_a_hole(config: Config) -> str:
    """A range goes from the middle of System RAM, reaching into somebody's claim; another claim lies above."""
    root = Resource(0, 1 << 46, "root", IORESOURCE_MEM)
    ram = request_region(root, AT, 4 * GiB, "System RAM", BUSY_SYSTEM_RAM)
    for start in (AT + GiB - MiB, AT + 3 * GiB):
        request_region(ram, start, 2 * MiB, "claim", BUSY_SYSTEM_RAM)
    above = ram.children[-1]
    release_mem_region_adjustable(root, AT + GiB, GiB, split=config.profile.resource_split)
    listed = above.parent is not None and above in above.parent.children
    return "" if listed else "a claim is listed nowhere, and its parent is freed"


def plan_cancelled_unheard(config: Config) -> str:
    """A node notifier refuses the first memory of a node."""
    k = small_machine(config, nodes=(0, 1))
    heard: list[str] = []

    def hear(_: Kernel, action: str, __: int, ___: int) -> str:
        heard.append(action)
        return ""

    def refuse(_: Kernel, action: str, __: int) -> str | Refusal:
        return Refusal("not here", EBUSY) if action == "NODE_ADDING_FIRST_MEMORY" else ""

    k.statics(Chains).memory.append(hear)
    k.statics(Chains).node.append(refuse)
    nid = min(k.node_states.possible - k.node_states.memory)
    add_memory(k, nid, AT, k.memory_block_size)
    with suppress(KernelError):
        state_store(k, AT // k.memory_block_size, "online")
    return f"{heard[0]} to who never heard of it" if heard[:1] == ["MEM_CANCEL_ONLINE"] else ""


def private_memory_without_a_vmemmap(config: Config) -> str:
    """A device's driver asks for addresses for memory that the CPU cannot reach."""
    k = small_machine(config)
    start = dmirror_allocate_chunk(k, "gpu").ranges[0].start
    page = k.layout.pfn_to_page(start >> config.page_shift)
    if page in k.layout.vmemmap.span:
        return ""
    return f"memory at {start:#x} has its struct page at {page:#x}, outside the vmemmap"
