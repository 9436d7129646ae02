"""Programs for bench/locks.py and bench/orders.py that are made of the races, or of paths that no race has.

A huge leaf takes the place of two levels of tables; pages of a device are held while its driver goes; memory errors are
counted as docs/findings.md would have it; memory is looked at, or poisoned, as it comes; a device is alone.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial

from lock_pairs import FIRST, OFFLINE, OWNER, PLACE, RISCV, SECOND, X86, add, allocate, machine, pmem, store
from memhp.errors import KernelBug, KernelError
from memhp.explore.case import Variant
from memhp.explore.cases import memory_block_lookup, pagemap_lookup_vs_unmap
from memhp.explore.cases.actors import laws_hold, pfns, refused
from memhp.explore.cases.lone_dimm import lone_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.nvdimm.pmem import pmem_attach_disk
from memhp.linux.drivers.xen.balloon import (
    BalloonStats,
    balloon_init,
    balloon_set_new_target,
    xen_alloc_ballooned_pages,
)
from memhp.linux.drivers.xen.unpopulated_alloc import xen_alloc_unpopulated_pages
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memremap import pin_pages, unpin_pages
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.pgd import INIT_MM
from memhp.linux.mm.sparse import pfn_valid
from memhp.linux.mm.vmap import vmap_pages_range_noflush, vmap_range_noflush, vunmap_range_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, align_down

TABLE_FAILURE = {"low_page_failure": "returned"}
"""As docs/findings.md would have it: no release survives that there is no memory for a table."""
FAR = 256 * GiB
"""Where a namespace is on a machine with large memory blocks."""


def look(k: Kernel) -> str:
    """Somebody asks whether a page has a struct page, and reads that."""
    pfn = pfns(k, lone_dimm(k, FIRST)).start
    if not pfn_valid(k, pfn):
        return "no page"
    k.port.kernel_access(k, INIT_MM, k.layout.pfn_to_page(pfn))
    return "read"


def poison(k: Kernel) -> None:
    """A memory error in the first page of the DIMM that is offline."""
    memory_failure(k, pfns(k, lone_dimm(k, OFFLINE)).start)


def _pair(one: Actor, other: Actor, names: tuple[str, str]) -> KernelProgram:
    k, _ = machine(RISCV)
    return KernelProgram(k, (one, other), names, check=laws_hold)


def _alone(actor: Callable[[Kernel], object], name: str) -> KernelProgram:
    """Nobody else is there, so nobody stands in the actor's way."""
    k, _ = machine(RISCV)

    def succeeds(k: Kernel) -> None:
        try:
            actor(k)
        except KernelError as error:
            raise KernelBug(f"{name} is refused: {error.reason}", place=error.place) from error

    return KernelProgram(k, (succeeds,), (name,))


def hold_another(k: Kernel) -> None:
    """DMA lets its page go, then takes one again, unless the mapping is going, and lets it go."""
    pgmap, _ = pagemap_lookup_vs_unmap.the_mapping(k)
    unpin_pages(k, pgmap, 1)
    pin_pages(k, pgmap, 1)
    unpin_pages(k, pgmap, 1)


def _held_while_unbound() -> KernelProgram:
    program = pagemap_lookup_vs_unmap.CASE.program("dma-each-page")
    return replace(program, actors=(program.actors[0], refused(hold_another)))


def _counted_under_lock() -> KernelProgram:
    """As docs/findings.md would have it: no release takes the lock there."""
    variant = memory_block_lookup.CASE.variant(memory_block_lookup.UNLOCKED)
    repaired = replace(variant, generic={"poison_lookup": "device_hotplug_lock"})
    return memory_block_lookup.CASE.build(repaired, variant.configurations[0])


def _area(k: Kernel) -> Span:
    """Addresses of a PUD leaf at the end of the vmalloc area."""
    end = align_down(k.layout.vmalloc.end, k.config.pud_size)
    return Span(end - k.config.pud_size, end)


def map_registers(k: Kernel) -> None:
    """``ioremap()`` of so many registers that one leaf does."""
    vmap_range_noflush(k, _area(k), 0, k.port.page_kernel(k), k.config.shift(2))


def _huge_over_tables() -> KernelProgram:
    """A page was mapped there before: its tables are there, and empty."""
    k, _ = machine.__wrapped__(RISCV)
    page = Span(_area(k).start, _area(k).start + k.config.page_size)
    pages = alloc_pages(k, 0, 0, owner=OWNER, where=PLACE)
    vmap_pages_range_noflush(k, page, pages, k.port.page_kernel(k), k.config.page_shift)
    vunmap_range_noflush(k, page)
    k.port.flush_tlb_kernel_range(k, page)
    return KernelProgram(k, (map_registers, allocate), ("ioremap", "allocate"))


def growing(k: Kernel) -> Actor:
    """Xen lets the domain have a section more than it ever had."""
    target = k.statics(BalloonStats).current_pages + k.config.pages_per_section
    return partial(balloon_set_new_target, target=target)


def _of_xen(actor: Callable[[Kernel], object], name: str) -> KernelProgram:
    """A domain of Xen, whose memory grows while somebody else is at it."""
    k, _ = machine.__wrapped__(RISCV)
    balloon_init(k)
    return KernelProgram(k, (growing(k), refused(actor)), ("balloon", name))


def _of_xen_online() -> KernelProgram:
    """The block that the domain's memory grows by goes online as soon as it is there."""
    k, _ = machine.__wrapped__(RISCV)
    balloon_init(k)
    grown = deepcopy(k)
    growing(k)(grown)
    added = next(first for first, _, _ in grown.memory_blocks if k.memory_blocks.get(first) is None)
    online = refused(lambda k: state_store(k, added, "online_movable"))
    return KernelProgram(k, (growing(k), online), ("balloon", "online"))


def take_ballooned(k: Kernel) -> None:
    """A driver maps another domain's memory at a page out of the balloon."""
    with suppress(KernelError):
        xen_alloc_ballooned_pages(k, 1)


def attach(k: Kernel) -> None:
    """A namespace is attached as device registers are."""
    pmem_attach_disk(k, "pmem0", Span(FAR, FAR + GiB), 0, pagemap=False)


def _of_large_blocks() -> KernelProgram:
    """A domain of Xen so large that a memory block is more than the section by which the driver lets it grow."""
    config = Variant("", "", "repaired", (X86,), TABLE_FAILURE).config(X86)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, 72 * GiB),)))
    k.hw.plug(pfns(k, Span(FAR, FAR + GiB)), Owner(Use.DEVICE, "nvdimm"))
    balloon_init(k)
    return KernelProgram(k, (growing(k), attach), ("balloon", "pmem"))


def map_grants(k: Kernel) -> None:
    """A driver maps other domains' memory at pages that have none behind them."""
    with suppress(KernelError):
        xen_alloc_unpopulated_pages(k, 1)


def _of_grants(*, failing: bool) -> KernelProgram:
    """A namespace is attached meanwhile; `failing`: allocations for the grants' pages may fail."""
    program = _of_large_blocks()
    failures = frozenset({0}) if failing else frozenset()
    return replace(program, actors=(map_grants, attach), names=("grants", "pmem"), failures=failures)


def order_pairs() -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes each program, by name."""
    yield "add | look", partial(_pair, partial(add, FIRST), look, ("add", "look"))
    online = partial(store, OFFLINE, "online_movable")
    yield "online | memory error", partial(_pair, online, refused(poison), ("online", "memory error"))
    yield "xen: balloon | pmem", partial(_of_xen, partial(pmem, SECOND), "pmem")
    yield "xen: balloon | add", partial(_of_xen, partial(add, SECOND), "add")
    yield "xen: balloon | online of what it adds", _of_xen_online
    yield "xen: balloon | ballooned pages", partial(_of_xen, take_ballooned, "grants")
    yield "xen, large blocks: balloon | pmem", _of_large_blocks
    yield "xen: grants | pmem", partial(_of_grants, failing=False)
    yield "xen: grants-failing | pmem", partial(_of_grants, failing=True)
    yield "unbind | DMA", _held_while_unbound
    yield "remove | memory error, counted under the lock", _counted_under_lock
    yield "ioremap | allocate", _huge_over_tables
    yield "pmem-pagemap alone", partial(_alone, partial(pmem, SECOND, pagemap=True), "pmem-pagemap")
