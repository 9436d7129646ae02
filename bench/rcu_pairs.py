"""Programs for bench/locks.py in which somebody reads under RCU what another one takes away.

User space maps a page of a PCI device's peer-to-peer memory while its driver goes; the driver of private memory takes a
page into use while another one, which it had in use, keeps its mapping there; two drivers give up what they meant to
map.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from memhp.errors import KernelError
from memhp.explore.case import Configuration
from memhp.explore.cases import p2pdma_dma_vs_unbind, pagemap_lookup_vs_unmap
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.pci.p2pdma import p2pmem_alloc_mmap
from memhp.linux.fs.kernfs.dir import KernfsNodes
from memhp.linux.fs.kernfs.file import kernfs_fop_mmap
from memhp.linux.lib.percpu_refcount import PercpuRef
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, Memremap
from memhp.linux.mm.memremap import memunmap_pages, zone_device_page_init
from memhp.linux.state import Kernel
from memhp.units import KiB

DEVICE = p2pdma_dma_vs_unbind.DEVICE
LIVE, ANY = (Configuration("x86_64", 4 * KiB, 48, release) for release in ("linux-6.12", "linux-7.2"))
"""Kernels that take a page into use while the mapping lives, and as long as anybody refers to it."""


def map_page(k: Kernel) -> Hashable:
    """A process that has the file open maps a page of it."""
    with suppress(KernelError):
        kernfs_fop_mmap(k, k.statics(KernfsNodes).allocate[DEVICE], lambda: p2pmem_alloc_mmap(k, DEVICE))
        return "mapped"
    return "gone"


def _mapped() -> KernelProgram:
    """The race in which a driver takes a page of a BAR, whose own driver is unbound; user space does so instead."""
    program = p2pdma_dma_vs_unbind.CASE.program("taken")
    return replace(program, actors=(program.actors[0], map_page), names=("unbind", "mmap"))


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


def _given_up() -> KernelProgram:
    """Two devices whose first range could not be mapped: their counts go (``memunmap_pages()``)."""
    program = pagemap_lookup_vs_unmap.CASE.program("private")
    devices = program.kernel.statics(Memremap).drvdata
    for name in ("one", "other"):
        devices[name] = pgmap = DevPagemap(MemoryType.GENERIC, ())
        pgmap.ref = PercpuRef(f"{name}.ref", pgmap.release, pgmap.slab)
    actors = (partial(_unmap, name="one"), partial(_unmap, name="other"))
    return replace(program, actors=actors, names=("one", "other"))


def _unmap(k: Kernel, name: str) -> None:
    memunmap_pages(k, k.statics(Memremap).drvdata[name])


def rcu_pairs() -> Iterator[tuple[str, Callable[[], KernelProgram]]]:
    """What makes each program, by name."""
    yield "p2pdma: unbind | mmap", _mapped
    yield "private memory, 6.12: unbind | page taken into use", partial(_private, LIVE)
    yield "private memory, 7.2: unbind | page taken into use", partial(_private, ANY)
    yield "devices: nothing mapped | nothing mapped", _given_up
