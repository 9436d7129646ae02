"""A DIMM so far up that the kernel's root table has no entry for it, and processes that come upon its memory.

It stands at the first address whose struct pages lie under a root entry that those of boot memory do not use; where the
machine cannot have memory as far up as that, at the first one whose bytes do (x86-64 with five levels). Hot-add is
followed by the online of its first block; nothing else is in the zone of its pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.cases.actors import pfns
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import pgd
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mmzone import ZoneType
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, align_up

OLDER = "older"
"""A process that is there before the memory."""
CHILD = "child"
"""A process that is made while the memory is added."""

GEOMETRY = (
    "the DIMM is one leaf of the direct map where there are leaves larger than a memory block; "
    "the process looks for a page and touches it, but leaves it free"
)

PGD_ALLOC = {"riscv64": "arch/riscv/include/asm/pgalloc.h:pgd_alloc", "x86_64": "arch/x86/mm/pgtable.c:pgd_alloc"}


def boot_far(config: Config) -> Kernel:
    """A machine with 1 GiB of RAM, an older process, and the far DIMM plugged, which the kernel does not know yet."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    k.port.copy_pgd(k, OLDER)
    k.hw.plug(pfns(k, far_dimm(k)), Owner(Use.DEVICE, "dimm"))
    return k


def far_dimm(k: Kernel) -> Span:
    """The bytes of the DIMM."""
    layout, levels = k.layout, k.hw.fmt.levels
    size = levels[2].size if k.hw.fmt.root_height > 2 else k.memory_block_size
    root = levels[-1].size
    last = max(span.end for span in k.boot_memory) - 1
    struct_pages = layout.page_to_pfn((layout.pfn_to_page(last) // root + 1) * root) << k.config.page_shift
    contents = layout.virt_to_phys((layout.phys_to_virt(last << k.config.page_shift) // root + 1) * root)
    spans = [Span(at, at + size) for at in (align_up(struct_pages, size), align_up(contents, size))]
    return next(span for span in spans if layout.pluggable_range().covers(span))


def root_places(k: Kernel) -> list[int]:
    """The root entries that the DIMM's bytes and struct pages need."""
    dimm = far_dimm(k)
    addresses = k.layout.phys_to_virt(dimm.start), k.layout.pfn_to_page(dimm.start >> k.config.page_shift)
    return sorted({k.hw.fmt.index(va, k.hw.fmt.root_height) for va in addresses})


def add_and_online(k: Kernel) -> None:
    """``add_memory()`` of the DIMM, then ``echo online > state`` of its first block."""
    dimm = far_dimm(k)
    add_memory(k, 0, dimm.start, dimm.size, MHP_NONE)
    state_store(k, dimm.start // k.memory_block_size, "online")


@kernel_function("mm/page_alloc.c:rmqueue_buddy")
def use_page(k: Kernel, mm: str) -> Hashable:
    """What an allocation from the new memory touches, by a process that runs with its own tables.

    ``rmqueue()`` takes a free page off its list under ``zone->lock``, which is in its struct page; then the page is
    cleared. Here the page stays free. Whether there was one; raises KernelBug where an access oopses.
    """
    zone, ops = k.nodes[0].zone(ZoneType.NORMAL), k.port
    with k.hw.locked(zone.lock):
        free = next(iter(zone.free), None)
        if free is None:
            return "no page yet"
        ops.kernel_access(k, mm, k.layout.pfn_to_page(free.start))
    ops.kernel_access(k, mm, k.layout.phys_to_virt(free.start << k.config.page_shift))
    return "a page"


def half_made(k: Kernel, mm: str) -> Table:
    """A new root table in which all but the entries that the DIMM needs are copied."""
    root = pgd.alloc_root(k, mm, PGD_ALLOC[k.config.arch])
    half = k.hw.fmt.levels[-1].entries // 2
    entries = k.hw.load_run(k.init_mm, half, half)
    entries[[place - half for place in root_places(k)]] = 0
    k.hw.fill_run(root, half, entries)
    return root


@kernel_function("kernel/fork.c:mm_alloc_pgd")
def fork_and_use(root: Table, k: Kernel) -> Hashable:
    """A new process: the rest of its root table is copied, it is scheduled, and allocates."""
    pgd.pgd_ctor(k, root, [(place, 1) for place in root_places(k)], PGD_ALLOC[k.config.arch])
    return use_page(k, root.mm)
