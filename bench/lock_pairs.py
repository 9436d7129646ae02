"""Pairs of kernel paths that meet at the kernel's locks, for bench/locks.py: what the races leave out.

The machine has 1 GiB at boot, two DIMMs that are added and online, and two more that are plugged; each is one block.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial

from memhp.errors import KernelError
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.lone_dimm import boot_lone, lone_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.acpi.scan import acpi_device_hotplug
from memhp.linux.drivers.base.memory_probe import probe_store
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.dax.bus import DevDax
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memhp.linux.drivers.nvdimm.pmem import pmem_attach_disk, pmem_detach_disk
from memhp.linux.mm.alloc_contig import alloc_contig_pages
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import add_memory, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.vmalloc import vfree, vmalloc
from memhp.linux.mm.watermarks import set_recommended_min_free_kbytes
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB, MiB

OWNER = Owner(Use.KERNEL, "somebody")
MOVABLE = Owner(Use.MOVABLE, "a process")
PINNED = Owner(Use.PINNED, "a device")
PLACE = "mm/page_alloc.c:alloc_pages"
ONLINE, BESIDE, FIRST, SECOND = 0, 1, 2, 3
"""The DIMMs by number: two that are online, and those that nobody has added."""
RISCV = Configuration("riscv64", 4 * KiB, 48)


@cache
def machine(configuration: Configuration) -> tuple[Kernel, Span]:
    """The machine, and a page of one online DIMM that is in use."""
    k = boot_lone(Variant("as it is", "", "repaired", (configuration,)).config(configuration), dimms=4)
    vmalloc(k, k.config.page_size, "old")
    pages = []
    for number in (BESIDE, ONLINE):
        add(number, k)
        store(number, "online_movable", k)
        pages += alloc_pages(k, 0, 0, owner=PINNED, where=PLACE, movable=True) if number == BESIDE else []
    page = pages[0]
    return k, page


def block(k: Kernel, number: int) -> int:
    """The memory block of a DIMM."""
    return lone_dimm(k, number).start // k.memory_block_size


def refused(actor: Callable[[Kernel], object]) -> Actor:
    """An actor whose refusal is an answer like any other."""

    def with_refusal(k: Kernel) -> str | None:
        with suppress(KernelError):
            actor(k)
            return None
        return "refused"

    return with_refusal


def allocate(k: Kernel, *, movable: bool = False) -> None:
    """``alloc_pages()`` of one page."""
    alloc_pages(k, 0, 0, owner=MOVABLE if movable else OWNER, where=PLACE, movable=movable)


def add(number: int, k: Kernel) -> None:
    """``add_memory()``."""
    add_memory(k, 0, *_start_size(lone_dimm(k, number)))


def add_managed(number: int, k: Kernel) -> None:
    """``add_memory_driver_managed()``."""
    add_memory_driver_managed(k, 0, *_start_size(lone_dimm(k, number)), "System RAM (a driver)")


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


def pmem(number: int, k: Kernel) -> None:
    """A namespace is attached, as device registers are, and detached."""
    pmem_detach_disk(k, lone_dimm(k, number), pmem_attach_disk(k, "pmem0", lone_dimm(k, number), 0, pagemap=False))


def acpi(number: int, k: Kernel) -> None:
    """Firmware tells of a memory device."""
    acpi_device_hotplug(k, AcpiDevice("PNP0C80:00", (lone_dimm(k, number),), 0), "ACPI_NOTIFY_DEVICE_CHECK")


def contiguous(k: Kernel) -> None:
    """``alloc_contig_pages()`` of 4 MiB."""
    alloc_contig_pages(k, 10, 0, OWNER)


def _start_size(span: Span) -> tuple[int, int]:
    return span.start, span.size


def _actors(page: Span, last: int) -> dict[str, Actor]:
    """Every path by name; `page` is in use on one online DIMM, `last` is the last page of the other."""
    return {
        "allocate": allocate,
        "allocate-movable": partial(allocate, movable=True),
        "free": lambda k: free_pages(k, [page], PLACE),
        "contiguous": contiguous,
        "add": partial(add, FIRST),
        "add-next": partial(add, SECOND),
        "add-managed": partial(add_managed, SECOND),
        "probe": partial(probe, FIRST),
        "online-again": partial(store, ONLINE, "online"),
        "offline": partial(store, ONLINE, "offline"),
        "offline-and-remove": remove_online,
        "kmem": partial(kmem, FIRST),
        "pmem": partial(pmem, SECOND),
        "acpi": partial(acpi, FIRST),
        "watermarks": lambda k: set_recommended_min_free_kbytes(k, 1024),
        "vmalloc": lambda k: vmalloc(k, k.config.page_size, "new"),
        "vmalloc-too": lambda k: vmalloc(k, k.config.page_size, "newer"),
        "vfree": lambda k: vfree(k, "old"),
        "memory-failure": lambda k: memory_failure(k, last),
    }


PAIRS = (
    ("allocate", "allocate"), ("allocate-movable", "free"), ("contiguous", "allocate"), ("offline", "allocate-movable"),
    ("offline", "free"), ("offline", "watermarks"), ("watermarks", "watermarks"),
    ("memory-failure", "allocate-movable"), ("add", "add-next"), ("add", "add-managed"), ("probe", "add-next"),
    ("kmem", "pmem"), ("pmem", "add"), ("pmem", "pmem"), ("acpi", "add-next"), ("acpi", "acpi"),
    ("vmalloc", "vmalloc-too"), ("vmalloc", "vfree"), ("offline-and-remove", "add"), ("online-again", "offline"),
    ("probe", "probe"), ("add", "pmem"), ("contiguous", "free"),
)  # fmt: skip


def pairs(configuration: Configuration = RISCV) -> Iterator[tuple[str, KernelProgram]]:
    """A program for each pair."""
    for one, other in PAIRS:
        k, page = machine(configuration)
        actors = _actors(page, pfns(k, lone_dimm(k, ONLINE)).end - 1)
        both = (refused(actors[one]), refused(actors[other]))
        names = (one, other if other != one else f"{other} too")
        yield f"{one} | {other}", KernelProgram(k, both, names, check=laws_hold)
