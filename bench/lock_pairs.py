"""Pairs of kernel paths that meet at the kernel's locks, for bench/locks.py: what the races leave out.

The machine has 1 GiB at boot, two DIMMs that are added and online, one that is added and offline, and two more that are
plugged; each is one block. With base pages of 4 KiB an area of vmalloc has left
empty tables, and all frames below theirs are in use.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import dax_dma_vs_truncate, split_vs_remove
from memhp.explore.cases.actors import laws_hold, pfns, refused
from memhp.explore.cases.lone_dimm import add_lone, boot_lone, lone_dimm, remove_lone
from memhp.explore.cases.ptdump_vs_hot_remove import dump
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.acpi.scan import acpi_device_hotplug
from memhp.linux.drivers.base.memory_probe import probe_store
from memhp.linux.drivers.base.memory_state import online_store, state_store, try_state_store
from memhp.linux.drivers.dax.bus import DevDax
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memhp.linux.drivers.nvdimm.pmem import pmem_attach_disk, pmem_detach_disk
from memhp.linux.fs.dax import I_PAGES, INVALIDATE_LOCK, PTE, gup_fast
from memhp.linux.fs.proc.page import kpagecount_read
from memhp.linux.mm.alloc_contig import alloc_contig_pages
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import (
    MHP_MERGE_RESOURCE,
    MHP_NONE,
    add_memory,
    add_memory_driver_managed,
    try_online_node,
)
from memhp.linux.mm.memory_hotplug_online import (
    generic_online_page,
    restore_online_page_callback,
    set_online_page_callback,
)
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.mm.page_alloc import alloc_pages, free_pages, take_each_off_buddy, take_pages_off_buddy
from memhp.linux.mm.pgd import INIT_MM
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.linux.mm.vmalloc import pcpu_create_chunk, vfree, vmalloc, vmalloc_huge
from memhp.linux.mm.watermarks import set_recommended_min_free_kbytes
from memhp.linux.mmzone import ZoneType
from memhp.linux.set_memory import set_direct_map_default_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

OWNER = Owner(Use.KERNEL, "somebody")
MOVABLE = Owner(Use.MOVABLE, "a process")
PINNED = Owner(Use.PINNED, "a device")
PLACE = "mm/page_alloc.c:alloc_pages"
ONLINE, BESIDE, FIRST, SECOND, OFFLINE = range(5)
"""The DIMMs by number: two that are online, two that nobody has added, one that is added and offline."""
RISCV = Configuration("riscv64", 4 * KiB, 48)
X86 = Configuration("x86_64", 4 * KiB, 48)
ARM64 = Configuration("arm64", 4 * KiB, 48, "linux-7.2")
LAYOUT = Configuration("arm64", 4 * KiB, 48, "linux-5.13")
LARGE = Configuration("arm64", 64 * KiB, 48, "linux-7.2")
LITTLE_FREE, MUCH_FREE = 1024, 1 << 16
"""Settings of ``min_free_kbytes``."""
ABSENT = 1
"""A node without memory."""


@cache
def machine(
    configuration: Configuration, choices: tuple[tuple[str, Any], ...] = (), **options: int
) -> tuple[Kernel, Span]:
    """The machine, and a page of one online DIMM that is in use."""
    variant = Variant("as it is", "", "repaired", (configuration,), dict(choices), options=options)
    config = variant.config(configuration)
    k = boot_lone(config, dimms=5, nodes=(0, ABSENT))
    vmalloc(k, k.config.page_size, "old")
    if k.config.page_size == 4 * KiB:
        vmalloc(k, 2 * k.config.pmd_size, "tables left")
        vfree(k, "tables left")
        alloc_pages(k, 0, 0, count=2 * k.config.pmd_size >> k.config.page_shift, owner=OWNER, where=PLACE)
    pages = []
    for number in (BESIDE, ONLINE):
        add_lone(k, number)
        store(number, "online_movable", k)
        pages += alloc_pages(k, 0, 0, owner=PINNED, where=PLACE, movable=True) if number == BESIDE else []
    add_lone(k, OFFLINE)
    take_pages_off_buddy(k, boot_pages(k), OWNER, PLACE)
    if configuration.arch == "x86_64":
        set_direct_map_default_noflush(k, boot_pages(k).end + (4 * MiB >> k.config.page_shift))
    page = pages[0]
    return k, page


def boot_pages(k: Kernel) -> Span:
    """Two pages of boot memory in the middle of the largest leaf there is."""
    start = (k.config.port.ram_start + GiB // 2) >> k.config.page_shift
    return Span(start, start + 2)


def block(k: Kernel, number: int) -> int:
    """The memory block of a DIMM."""
    return lone_dimm(k, number).start // k.memory_block_size


def allocate(k: Kernel, *, movable: bool = False) -> None:
    """``alloc_pages()`` of one page."""
    alloc_pages(k, 0, 0, owner=MOVABLE if movable else OWNER, where=PLACE, movable=movable)


def add(number: int, k: Kernel, *, nid: int = 0) -> None:
    """``add_memory()``."""
    add_memory(k, nid, *_start_size(lone_dimm(k, number)))


def add_managed(number: int, k: Kernel, *, flags: int = MHP_NONE) -> None:
    """``add_memory_driver_managed()``."""
    add_memory_driver_managed(k, 0, *_start_size(lone_dimm(k, number)), "System RAM (a driver)", flags)


def store(number: int, text: str, k: Kernel) -> None:
    """A write to the block's ``state`` file."""
    state_store(k, block(k, number), text)


def probe(number: int, k: Kernel) -> None:
    """A write to ``/sys/devices/system/memory/probe``."""
    probe_store(k, lone_dimm(k, number).start)


def remove_online(k: Kernel) -> None:
    """``offline_and_remove_memory()``."""
    offline_and_remove_memory(k, *_start_size(lone_dimm(k, ONLINE)))


def kmem(number: int, k: Kernel) -> None:
    """dax/kmem takes a device and gives it up again."""
    device = DevDax("dax0.0", (lone_dimm(k, number),), 2 * MiB)
    dev_dax_kmem_probe(k, device)
    dev_dax_kmem_remove(k, device)


def pmem(number: int, k: Kernel, *, pagemap: bool = False) -> None:
    """A namespace is attached, as device registers are or with struct pages, and detached."""
    span = lone_dimm(k, number)
    pmem_detach_disk(k, span, pmem_attach_disk(k, "pmem0", span, 0, pagemap=pagemap))


def acpi(number: int, k: Kernel) -> None:
    """Firmware tells of a memory device."""
    acpi_device_hotplug(k, AcpiDevice("PNP0C80:00", (lone_dimm(k, number),), 0), "ACPI_NOTIFY_DEVICE_CHECK")


def contiguous(k: Kernel) -> None:
    """``alloc_contig_pages()`` of 4 MiB."""
    alloc_contig_pages(k, 10, 0, OWNER)


def try_store(number: int, text: str, k: Kernel) -> None:
    """The operation of the block's ``state`` file, which starts again until it gets the lock."""
    while not try_state_store(k, block(k, number), text):
        pass


def read_counts(k: Kernel) -> None:
    """``/proc/kpagecount`` of the last page of a DIMM."""
    end = pfns(k, lone_dimm(k, ONLINE)).end
    kpagecount_read(k, Span(end - 1, end))


def set_memory(number: int, k: Kernel) -> None:
    """A page of boot memory gets its ordinary attributes; the leaf that maps it is split first, where it can be."""
    set_direct_map_default_noflush(k, boot_pages(k).start + number)


def decide_pages(k: Kernel) -> None:
    """A driver decides for a while which pages go to the buddy: all."""
    set_online_page_callback(k, generic_online_page)
    restore_online_page_callback(k, generic_online_page)


def of_one_setting(k: Kernel) -> str | None:
    """What is wrong when watermarks come from two settings: each zone's is its share of one number of pages."""
    zones = [zone for zone in k.zones() if zone.type is not ZoneType.MOVABLE and zone.managed]
    lowmem = sum(zone.managed for zone in zones)
    least = max(-(-zone.watermark_min * lowmem // zone.managed) for zone in zones)
    most = min(((zone.watermark_min + 1) * lowmem - 1) // zone.managed for zone in zones)
    if least <= most:
        return laws_hold(k)
    return f"watermarks: zones have those of two settings, {[zone.watermark_min for zone in zones]}"


CHECKS = {"higher-watermarks": of_one_setting}
"""By the second actor: what must hold when all is done, where that is more than the laws."""


def read_page(k: Kernel) -> None:
    """Somebody reads what lies in the second of the two pages of boot memory: a CPU's own walk of the tables."""
    k.port.kernel_access(k, INIT_MM, k.layout.phys_to_virt((boot_pages(k).end - 1) << k.config.page_shift))


def _start_size(span: Span) -> tuple[int, int]:
    return span.start, span.size


def _actors(page: Span, last: Span) -> dict[str, Callable[[Kernel], object]]:
    """Every path by name; `page` is in use on one online DIMM, `last` is the last page of the other."""
    return {
        "allocate": allocate,
        "allocate-movable": partial(allocate, movable=True),
        "free": lambda k: free_pages(k, [page], PLACE),
        "take": lambda k: take_each_off_buddy(k, k.nodes[0].zone(ZoneType.MOVABLE), [last], OWNER, PLACE),
        "contiguous": contiguous,
        "add": partial(add, FIRST),
        "add-next": partial(add, SECOND),
        "add-nowhere": partial(add, SECOND, nid=ABSENT + 1),
        "add-managed": partial(add_managed, SECOND),
        "add-merged": partial(add_managed, SECOND, flags=MHP_MERGE_RESOURCE),
        "probe": partial(probe, FIRST),
        "online": partial(store, OFFLINE, "online_movable"),
        "online-first": partial(store, FIRST, "online_movable"),
        "online-second": partial(store, SECOND, "online_movable"),
        "try-online": partial(try_store, OFFLINE, "online_movable"),
        "online-again": partial(store, ONLINE, "online"),
        "offline": partial(store, ONLINE, "offline"),
        "offline-beside": partial(store, BESIDE, "offline"),
        "offline-by-0": lambda k: online_store(k, block(k, ONLINE), "0"),
        "offline-and-remove": remove_online,
        "remove": partial(remove_lone, number=OFFLINE),
        "callback": decide_pages,
        "node": lambda k: try_online_node(k, ABSENT),
        "kmem": partial(kmem, FIRST),
        "pmem": partial(pmem, SECOND),
        "pmem-pagemap": partial(pmem, SECOND, pagemap=True),
        "acpi": partial(acpi, FIRST),
        "watermarks": lambda k: set_recommended_min_free_kbytes(k, LITTLE_FREE),
        "higher-watermarks": lambda k: set_recommended_min_free_kbytes(k, MUCH_FREE),
        "percpu": lambda k: pcpu_create_chunk(k, k.config.page_size, "percpu"),
        "vmalloc": lambda k: vmalloc(k, k.config.page_size, "new"),
        "vmalloc-too": lambda k: vmalloc(k, k.config.page_size, "newer"),
        "vmalloc-failing": lambda k: vmalloc(k, k.config.page_size, "never"),
        "vmalloc-huge": lambda k: vmalloc_huge(k, k.config.pmd_size, "huge"),
        "vfree": lambda k: vfree(k, "old"),
        "memory-failure": lambda k: memory_failure(k, last.start),
        "memory-failure-next": lambda k: memory_failure(k, last.start - 1),
        "soft-offline": lambda k: soft_offline_page(k, last.start),
        "kpagecount": read_counts,
        "ptdump": dump,
        "read": read_page,
        "set-memory": partial(set_memory, 0),
        "set-memory-next": partial(set_memory, 1),
    }


PAIRS = (
    ("allocate", "allocate"), ("allocate-movable", "free"), ("contiguous", "allocate"), ("watermarks", "watermarks"),
    ("memory-failure", "allocate-movable"), ("memory-failure", "free"),
    ("soft-offline", "memory-failure"), ("soft-offline", "add"), ("soft-offline", "allocate-movable"),
    ("memory-failure", "memory-failure"), ("memory-failure", "memory-failure-next"),
    ("take", "free"), ("take", "allocate-movable"),
    ("add", "add-next"), ("add", "add-managed"), ("probe", "add-next"), ("add-nowhere", "pmem"),
    ("add-merged", "pmem"), ("kmem", "pmem"), ("pmem", "add"), ("pmem", "pmem"), ("acpi", "add-next"), ("acpi", "acpi"),
    ("pmem-pagemap", "add"), ("pmem-pagemap", "remove"), ("pmem-pagemap", "online"), ("remove", "add"),
    ("remove", "pmem"), ("node", "add"), ("node", "node"), ("callback", "callback"), ("vmalloc", "vmalloc-too"),
    ("vmalloc", "vfree"),
    ("vmalloc-failing", "vmalloc"), ("offline-and-remove", "add"), ("online-again", "offline"),
    ("offline-by-0", "online-again"), ("offline-by-0", "offline-and-remove"), ("online", "remove"), ("probe", "probe"),
    ("add", "pmem"), ("contiguous", "free"), ("kpagecount", "offline-and-remove"),
    ("set-memory", "set-memory-next"), ("set-memory", "ptdump"),
    ("set-memory", "read"), ("remove", "allocate"), ("vfree", "allocate"),
    ("vmalloc-huge", "allocate"),
    ("acpi", "online-first"), ("probe", "online-first"), ("add-managed", "online-second"), ("try-online", "remove"),
    ("remove", "ptdump"), ("remove", "node"), ("pmem-pagemap", "ptdump"),
)  # fmt: skip
ANYWHERE = (
    ("set-memory", "set-memory-next"), ("set-memory", "read"), ("remove", "allocate"), ("vmalloc-huge", "allocate"),
    ("add", "add-next"), ("watermarks", "higher-watermarks"),
)  # fmt: skip
OF_PAGEBLOCKS = (
    ("offline", "free"), ("offline", "allocate-movable"), ("offline", "watermarks"), ("offline", "memory-failure"),
    ("online", "free"), ("online", "allocate-movable"), ("online", "watermarks"), ("online", "callback"),
    ("offline", "pmem"), ("offline-beside", "free"),
)  # fmt: skip
"""What takes the zone's lock for each pageblock: where a memory block has two, every schedule can be tried."""
REPAIRED = (("can_unmap_lock", "pgtable_split_lock"),)
"""As docs/findings.md would have it: no release takes that lock there."""
V5 = (("free_empty_tables", "always"), ("remove_passes", 1), ("remove_lock", "whole-range"))
"""arm64's hot-remove as it was posted then; where vmalloc and vmemmap share no table but the root, nothing breaks."""
ELSEWHERE: tuple[tuple[str, Configuration, tuple[tuple[str, str], ...], dict[str, Any]], ...] = (
    ("x86-64", X86, (*ANYWHERE, ("remove", "add")), {}),
    ("arm64", ARM64, (*ANYWHERE, ("set-memory", "offline"), ("vmalloc", "add")), {"bbml2": True}),
    ("arm64-V5", LAYOUT, (("remove", "percpu"),), {"choices": V5, "rodata_full": False}),
    ("arm64-repaired", ARM64, (("set-memory", "offline"),), {"bbml2": True, "choices": REPAIRED}),
    ("arm64-64K", LARGE, OF_PAGEBLOCKS, {"page_block_max_order": 12}),
)
"""Pairs of paths that differ by architecture: its name, machine, pairs, what is particular about the machine."""


def pairs(configuration: Configuration = RISCV) -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes the program of each pair."""
    for one, other in PAIRS:
        yield f"{one} | {other}", partial(_program, one, other, configuration)
    for arch, its, of_arch, options in ELSEWHERE:
        for one, other in of_arch:
            yield f"{arch}: {one} | {other}", partial(_program, one, other, its, **options)
    yield "arm64-repaired: split | remove of the last block", _split_repaired
    yield "dax: truncate | DMA | fault and DMA", _truncate_while_held


def _split_repaired() -> KernelProgram:
    """The race in which a run of leaves loses its last block, with the lock that docs/findings.md would have."""
    variant = split_vs_remove.CASE.variant(split_vs_remove.LAST_BLOCK)
    repaired = replace(variant, choices=dict(REPAIRED))
    return split_vs_remove.CASE.build(repaired, variant.configurations[0])


def _truncate_while_held() -> KernelProgram:
    """A file's page is held as it is truncated; a process that faults the page in again reads into it."""
    program = dax_dma_vs_truncate.CASE.program("break-layout")
    mapping, pfn = dax_dma_vs_truncate.the_file(program.kernel)
    gup_fast(program.kernel, mapping, pfn)
    actors = (dax_dma_vs_truncate.truncate, dax_dma_vs_truncate.end_dma, fault_and_read)
    return replace(program, actors=actors, names=("truncate", "DMA", "fault and DMA"))


def fault_and_read(k: Kernel) -> str:
    """The process touches the page (``dax_iomap_fault()``), then reads into it."""
    mapping, pfn = dax_dma_vs_truncate.the_file(k)
    with k.hw.locked(INVALIDATE_LOCK, write=False):
        k.hw.reads(I_PAGES)
        if pfn not in mapping.i_pages:
            return "SIGBUS"
        k.hw.atomic(PTE)
        mapping.mapped.add(pfn)
    return dax_dma_vs_truncate.read_into(k)


def _program(one: str, other: str, configuration: Configuration, **options: Any) -> KernelProgram:
    k, page = machine(configuration, **options)
    end = pfns(k, lone_dimm(k, ONLINE)).end
    actors = _actors(page, Span(end - 1, end))
    both = (refused(actors[one]), refused(actors[other]))
    names = (one, other if other != one else f"{other} too")
    failures = frozenset(number for number, name in enumerate(names) if name.endswith("-failing"))
    return KernelProgram(k, both, names, failures, check=CHECKS.get(other, laws_hold))
