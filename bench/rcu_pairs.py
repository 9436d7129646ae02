"""Programs for bench/locks.py in which somebody reads under RCU what another one takes away.

A PCI device's pool of peer-to-peer memory is taken from, by the kernel and by user space, while its driver goes; the
driver of private memory takes a page into use while another one, which it had in use, keeps its mapping there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from memhp.errors import KernelError
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import p2pdma_dma_vs_unbind, pagemap_lookup_vs_unmap
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.drivers.pci.p2pdma import p2pmem_alloc_mmap, pci_alloc_p2pmem, pci_free_p2pmem, pci_p2pdma_add_resource
from memhp.linux.fs.kernfs.dir import KernfsNodes
from memhp.linux.fs.kernfs.file import kernfs_fop_mmap
from memhp.linux.mm.memremap import zone_device_page_init
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

DEVICE = p2pdma_dma_vs_unbind.DEVICE
LIVE, ANY = (Configuration("x86_64", 4 * KiB, 48, release) for release in ("linux-6.12", "linux-7.2"))
"""Kernels that take a page into use while the mapping lives, and as long as anybody refers to it."""


def take(k: Kernel) -> Hashable:
    """A driver of the kernel takes a page out of the pool and gives it back."""
    pages = pci_alloc_p2pmem(k, DEVICE, 1)
    if pages is None:
        return "none"
    pci_free_p2pmem(k, DEVICE, pages)
    return "taken"


def map_page(k: Kernel) -> Hashable:
    """A process that has the file open maps a page of it."""
    with suppress(KernelError):
        kernfs_fop_mmap(k, k.statics(KernfsNodes).allocate[DEVICE], lambda: p2pmem_alloc_mmap(k, DEVICE))
        return "mapped"
    return "gone"


def _pool(actor: Actor, name: str) -> KernelProgram:
    """The driver of a BAR with a pool is unbound meanwhile."""
    k = boot_near(Variant("", "", "repaired", (ANY,)).config(ANY), tag=DEVICE)
    start = near_dimm(k).start
    pci_p2pdma_add_resource(k, DEVICE, Span(start, start + k.config.section_size))
    return KernelProgram(k, (p2pdma_dma_vs_unbind.unbind, actor), ("unbind", name), check=laws_hold)


def use_another(k: Kernel) -> None:
    """The driver takes a page into use, unless it is warned, and frees it; then the one that it had in use."""
    pgmap, _ = pagemap_lookup_vs_unmap.the_mapping(k)
    zone_device_page_init(k, pgmap)
    if not any("zone_device_page_init" in message for message in k.warned):
        pagemap_lookup_vs_unmap.free_page(k)
    pagemap_lookup_vs_unmap.free_page(k)


def _private(configuration: Configuration) -> KernelProgram:
    case = pagemap_lookup_vs_unmap.CASE
    program = case.build(case.variant("private"), configuration)
    return replace(program, actors=(program.actors[0], use_another), names=("unbind", "driver"))


def rcu_pairs() -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes each program, by name."""
    yield "p2pdma: unbind | kernel's queue", partial(_pool, take, "queue")
    yield "p2pdma: unbind | mmap", partial(_pool, map_page, "mmap")
    yield "private memory, 6.12: unbind | page taken into use", partial(_private, LIVE)
    yield "private memory, 7.2: unbind | page taken into use", partial(_private, ANY)
