"""How questions about the design of memmap_on_memory are decided: its interface, its place, hibernation."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

from memhp.claims import evidence, memmap_rollback
from memhp.claims.claim import Finding, VerdictName, answered, judged, over_releases, settled
from memhp.claims.memmap_on_memory import KERNELS
from memhp.linux.drivers.base.memory_state import LOCK, state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.mm.memory_hotplug_memmap import MemmapGeometry, mhp_deinit_memmap_on_memory
from memhp.linux.mm.memory_hotplug_offline import offline_pages
from memhp.linux.mm.memory_hotplug_zone import adjust_present_page_count
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.scenario.schema import Online, Plug
from memhp.target.model.steps import online, plug
from memhp.units import GiB, KiB, MiB, exact_size

AT = 4 * GiB
GOING = "MEM_GOING_OFFLINE"


def interface() -> Finding:
    """mom-10: what arm64's notifier says of a block from its first page on, as posted, and behind its struct pages.

    The posting hands `nr_vmemmap_pages` down and the notifiers get the whole block; as merged the callers offset the
    start, as the review asks, and notifiers see the rest alone.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in MAINLINE:
        machine: dict[str, Any] = {"preset": "arm64-vm", "memory": "2G", "profile": name}
        k = evidence.kernel({**machine, "boot": {"memmap_on_memory": "Y"}})
        evidence.added(k, k.memory_block_size, AT)
        first, own = AT >> k.config.page_shift, next(iter(k.altmaps.values())).free
        said = [
            [
                str(answer)
                for ask in k.statics(Chains).memory
                if (answer := ask(k, GOING, first + skip, k.pages_per_block - skip))
            ]
            for skip in (0, own)
        ]
        refused = ["refused" if answers else "let go" for answers in said]
        expected = ["let go", "refused" if name == "linux-7.2" else "let go"]
        verdicts[name] = settled(refused == expected)
        parts.append(f"{name}: from the first page {refused[0]}, behind {own} pages of struct pages {refused[1]}")
    return over_releases("; ".join(parts), verdicts)


def place() -> Finding:
    """mom-11: struct pages at the start of each section, or of the block: what is left in one piece."""
    parts, good = [], True
    section = MemmapGeometry(4 * KiB, 2 * MiB, 512, 128 * MiB, 64)
    for sections in (1, 8, 16):
        block = sections * section.block_size
        whole = MemmapGeometry(4 * KiB, 2 * MiB, 512, block, 64)
        taken = sections * section.vmemmap_size
        good = good and taken == whole.vmemmap_size and whole.remaining_size == sections * section.remaining_size > 1
        parts.append(
            f"blocks of {exact_size(block)}: {exact_size(taken)} either way, in one piece "
            f"{exact_size(section.remaining_size)} by section and {exact_size(whole.remaining_size)} by block"
        )
    return answered(("linux-5.13", *MAINLINE), good, "; ".join(parts))


def hibernation() -> Finding:
    """mom-12: whether pages that hold the struct pages of an offline block would be saved: ``saveable_page()`` asks
    ``pfn_to_online_page()``.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        k = evidence.kernel({"preset": "x86-vm", "memory": "2G", "profile": name, "boot": {"memmap_on_memory": "Y"}})
        session = evidence.added(k, k.memory_block_size, AT)
        first = AT >> k.config.page_shift
        offline = pfn_to_online_page(k, first)
        online(session, Online(zone="movable"))
        there = pfn_to_online_page(k, first)
        verdicts[name] = settled((offline, there) == (False, True))
        parts.append(f"{name}: {'saved' if offline else 'not saved'} offline, {'saved' if there else 'not'} online")
    return over_releases("; ".join(parts), verdicts)


def _populated(k: Kernel, block: int, *, unaccounted_first: bool) -> bool:
    """Whether the node of an online block, its only memory, counts as one with memory when that is offline."""
    (start, nid), own = (block * k.pages_per_block, memmap_rollback.NODE), k.altmaps[block].free
    if unaccounted_first:
        state_store(k, block, "offline")
    else:
        with k.hw.locked(LOCK):
            offline_pages(k, start + own, k.pages_per_block - own, None, None)
            adjust_present_page_count(k, start, None, -own)
            mhp_deinit_memmap_on_memory(k, start, own)
    return nid in k.node_states.memory


def accounting() -> Finding:
    """mom-14: a block that hosts its struct pages and is all that its node has goes offline, in either order.

    ``offline_pages()`` asks whether the node has other pages than those that go: with the block's own struct pages
    still accounted it has, and stays in N_MEMORY, with its kswapd and in the zonelists, though nothing is left in it.
    """
    parts, verdicts = [], dict[str, VerdictName]()
    for name in KERNELS:
        ends = []
        for first in (True, False):
            session = memmap_rollback.session(name)
            plug(session, Plug(size=memmap_rollback.BLOCK_SIZE, node=memmap_rollback.NODE))
            (block, _, _) = list(session.k.memory_blocks)[-1]
            state_store(session.k, block, "online_movable")
            ends.append(_populated(session.k, block, unaccounted_first=first))
        verdicts[name] = judged(ends == [False, True])
        told = ["stays" if populated else "goes" for populated in ends]
        parts.append(f"{name}: the node {told[0]} with its last block, {told[1]} in the other order")
    return over_releases("; ".join(parts), verdicts)


def off_node_slowdown() -> Finding:
    """mom-13: time is not modelled."""
    figure = "what runs here counts accesses and places, not time; the share of struct pages off-node is mom-3's"
    return Finding("not decidable here", figure, dict.fromkeys(MAINLINE, "not decidable here"))
