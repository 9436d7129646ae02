"""Which nodes boot links each memory block with: ``drivers/base/node.c:node_dev_init`` and what it calls.

Of the nodes that a block is linked with the last becomes the block's own (``memory_block_add_nid_early()``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator

from memhp.linux.drivers.base.memory_devices import memory_block_add_nid_early
from memhp.linux.drivers.base.node import register_memory_blocks_under_node_hotplug, register_node
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "drivers/base/node.c"


def node_dev_init(k: Kernel) -> None:
    """Give every online node its device, and link the memory blocks of boot memory below them."""
    profile = k.config.profile
    for nid in sorted(k.node_states.online - set(k.node_states.devices)):
        register_node(k.node_states, nid, k.hw)
    if profile.boot_links == "by-span":
        for nid in sorted(k.node_states.online):
            _link(k, nid, [_spanned(k, nid)])
    elif profile.boot_block_nodes == "by-node":
        pages = list(get_nid_for_pfn(k))
        for nid in sorted(k.node_states.online):
            register_mem_block_under_node_early(k, nid, [part for part, owner in pages if owner == nid])
    else:
        register_memory_blocks_under_nodes(k)


def register_memory_blocks_under_nodes(k: Kernel) -> None:
    """Link every block with the node of each region of memory that it overlaps, as the regions come.

    Memory of a node that is not online is passed over.
    """
    for start, end, region in k.memblock.memory:
        if region.nid in k.node_states.online:
            _link(k, region.nid, [Span(start // k.memory_block_size, -(-end // k.memory_block_size))])


def register_mem_block_under_node_early(k: Kernel, nid: int, pages: Iterable[Span]) -> None:
    """Link the blocks between a node's first page and its last that hold any of the node's `pages` (bytes)."""
    spanned, size = _spanned(k, nid), k.memory_block_size
    _link(k, nid, (Span(part.start // size, -(-part.end // size)).clip(spanned) for part in pages))


def get_nid_for_pfn(k: Kernel) -> Iterator[tuple[Span, int]]:
    """The nodes of all pages in present sections, in runs (bytes): those that struct pages have noted.

    With ``CONFIG_DEFERRED_STRUCT_PAGE_INIT`` memblock is asked while the system boots. Struct pages of a hole have the
    node of the memory above it; where memblock has no memory the node is the first online (``early_pfn_to_nid()``).
    """
    config = k.config
    for first, last, _ in k.mem_section:
        section = Span(first, last).scaled(config.section_size_bits)
        if config.deferred_struct_page_init:
            for start, end, region in k.memblock.memory.runs(*section):
                yield Span(align_up(start, config.page_size), align_up(end, config.page_size)), region.nid
            for start, end in k.memblock.memory.gaps(*section):
                hole = Span(align_up(start, config.page_size), align_up(end, config.page_size))
                if hole:
                    yield hole, min(k.node_states.online)
        else:
            pages = Span(first, last).scaled(config.section_size_bits - config.page_shift)
            yield from (
                (Span(start, end).scaled(config.page_shift), ref.nid) for start, end, ref in k.page_zone.runs(*pages)
            )


def _spanned(k: Kernel, nid: int) -> Span:
    """The blocks that a node spans."""
    node, per = k.nodes[nid], k.pages_per_block
    return Span(node.start_pfn // per, -(-node.end_pfn // per))


def _link(k: Kernel, nid: int, blocks: Iterable[Span]) -> None:
    """Note the node of the block devices among `blocks`, and link them: ``do_register_memory_block_under_node()``."""
    for part in blocks:
        for first, last, _ in list(k.memory_blocks.runs(*part)) if part else ():
            memory_block_add_nid_early(k, Span(first, last), nid)
            register_memory_blocks_under_node_hotplug(k.node_states, nid, first, last)
