"""What is done to show a repair: additions and plans that fail half-way; a section that goes and is asked of."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from kernels import PLUG_AT, plug
from memhp.linux.drivers.base.memory_groups import (
    memory_group_register_dynamic,
    memory_group_unregister,
    walk_dynamic_memory_groups,
)
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.hv.hv_balloon import balloon_probe, hot_add_req, hv_online_page
from memhp.linux.drivers.pci.p2pdma import devres_release_all, pci_p2pdma_add_resource
from memhp.linux.drivers.virtio.virtio_mem_state import Params
from memhp.linux.kernel.resource import Resource, request_resource
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memory_hotplug_online import Onlining
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory, remove_memory
from memhp.linux.mm.sparse import pfn_section_valid, pfn_valid
from memhp.linux.mm.zonelists import first_zones_zonelist, zones_from
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, TiB
from steppers import Failing
from virtio_mem import attach, resize


def no_section(k: Kernel) -> None:
    """Memory is added, and there is no memory for what a section needs."""
    k.hw.faults = Failing("mm/sparse.c:section_activate", 1)
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)


def split_refused(k: Kernel) -> None:
    """The middle of System RAM is removed, while drivers have a part that reaches into it and one above."""
    size = k.memory_block_size
    plug(k, 3 * size)
    add_memory(k, 0, PLUG_AT, 3 * size)
    ram = next(res for res in k.iomem_resource.children if res.start == PLUG_AT)
    for start in (PLUG_AT + size - 0x1000, PLUG_AT + 2 * size):
        request_resource(ram, Resource(start, start + 0x1FFF, "driver"))
    offline_and_remove_memory(k, PLUG_AT + size, size)


def node_refused(k: Kernel) -> None:
    """A notifier will not have a node's first memory."""
    k.statics(Chains).node.append(lambda _, action, __: "no" if action == "NODE_ADDING_FIRST_MEMORY" else "")
    plug(k, k.memory_block_size)
    add_memory(k, 1, PLUG_AT, k.memory_block_size)
    state_store(k, k.block_id(PLUG_AT >> k.config.page_shift), "online")


def last_memory_refused(k: Kernel) -> None:
    """A notifier will not have a node's last memory go."""
    k.statics(Chains).node.append(lambda _, action, __: "no" if action == "NODE_REMOVING_LAST_MEMORY" else "")
    plug(k, k.memory_block_size)
    add_memory(k, 1, PLUG_AT, k.memory_block_size)
    block = k.block_id(PLUG_AT >> k.config.page_shift)
    state_store(k, block, "online")
    state_store(k, block, "offline")


def big_blocks(k: Kernel) -> None:
    """A virtio-mem device shrinks by one of two big blocks that are in use, in ZONE_MOVABLE."""
    k.auto_online_blocks = "online_movable"
    vm = attach(k, params=Params(force_bbm=True))
    for size in (2, 1):
        resize(k, vm, size * k.memory_block_size)


def sub_blocks(k: Kernel) -> None:
    """A virtio-mem device gets a memory block, in sub-blocks."""
    resize(k, attach(k), k.memory_block_size)


def block_of_a_run(k: Kernel) -> None:
    """The last memory block of a run of leaves is asked to go offline."""
    plug(k, GiB)
    add_memory(k, 0, PLUG_AT, GiB)
    block = k.block_id((PLUG_AT + GiB >> k.config.page_shift) - 1)
    state_store(k, block, "online")
    state_store(k, block, "offline")


def far_block(k: Kernel) -> None:
    """A block comes and goes that has page tables of its own, some of them of a split leaf."""
    at, size = 2 * TiB, k.memory_block_size
    span = plug(k, size, at)
    add_memory(k, 0, at, size)
    set_direct_map_invalid_noflush(k, span.start)
    set_direct_map_default_noflush(k, span.start)
    offline_and_remove_memory(k, at, size)


def asked_while_removed(k: Kernel) -> bool:
    """``pfn_valid()`` is asked of a page of a section, which goes then."""
    size = k.memory_block_size
    plug(k, size)
    add_memory(k, 0, PLUG_AT, size)
    valid = pfn_valid(k, PLUG_AT >> k.config.page_shift)
    remove_memory(k, PLUG_AT, size)
    return valid


def asked_without_usage(k: Kernel) -> bool:
    """The bit of a page is asked for in ``ms->usage`` when its section has gone."""
    asked_while_removed(k)
    return pfn_section_valid(k, PLUG_AT >> k.config.page_shift)


def pool_taken_away(k: Kernel) -> None:
    """The driver of a BAR whose pages are in a pool is unbound."""
    plug(k, k.config.section_size)
    pci_p2pdma_add_resource(k, "BAR", Span(PLUG_AT, PLUG_AT + k.config.section_size))
    devres_release_all(k, "BAR")


def movable_comes_first(k: Kernel) -> list[str]:
    """ZONE_MOVABLE gets its first memory between the choice of an allocation's first zone and the look at it."""
    size = k.memory_block_size
    plug(k, size)
    add_memory(k, 0, PLUG_AT, size)
    chosen = first_zones_zonelist(k, 0, ZoneType.NORMAL).at
    state_store(k, PLUG_AT // size, "online_movable")
    return [zone.name for zone in zones_from(k, chosen, ZoneType.NORMAL)]


def backed_meanwhile(k: Kernel) -> int:
    """Hyper-V's host backs the second half of a block when the driver has been asked about it: pages that stay out."""
    pages = plug(k, k.memory_block_size)
    half = pages.start + pages.size // 2
    balloon_probe(k)
    hot_add_req(k, Span(pages.start, half), None)

    def asked(k: Kernel, pfn: int, nr_pages: int) -> None:
        hv_online_page(k, pfn, nr_pages)
        hot_add_req(k, Span(half, pages.end), None)

    k.statics(Onlining).online_page_callback = asked
    state_store(k, k.block_id(pages.start), "online")
    return sum(end - start for start, end, flags in k.page_flags.runs(*pages) if flags & PageFlags.OFFLINE)


def group_dropped(k: Kernel) -> None:
    """Somebody goes through all memory groups, and then the driver of one drops it."""
    mgid = memory_group_register_dynamic(k, 0, k.pages_per_block)
    assert len(list(walk_dynamic_memory_groups(k, None, None))) == 1
    memory_group_unregister(k, mgid)


REPAIR_SCRIPTS: dict[str, Callable[[Kernel], object]] = {
    each.__name__: each
    for each in (
        no_section, split_refused, node_refused, last_memory_refused, big_blocks, sub_blocks, block_of_a_run,
        far_block, asked_while_removed, asked_without_usage, pool_taken_away, movable_comes_first,
        backed_meanwhile, group_dropped,
    )
}  # fmt: skip
