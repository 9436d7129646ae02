"""DMA reads into a page of a DAX file while the file is truncated, or its file system unmounted."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelBug
from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.fs.dax import (
    I_PAGES,
    INVALIDATE_LOCK,
    DaxMapping,
    Inodes,
    dax_break_layout,
    dax_delete_mapping_range,
    dax_layout_busy_page,
    evict_inode,
    gup_fast,
    put_page,
)
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import devm_memremap_pages_release, memremap_pages
from memhp.linux.mm.util import snapshot_page
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

DEVICE, FILE = "pmem0", "file"
BLOCKS = {"rodata_full": False}
"""Leaves larger than pages on arm64, so that executions are short."""


def the_file(k: Kernel) -> tuple[DaxMapping, int]:
    """The file, and the page of the device that is its one block."""
    mapping = k.statics(Inodes).i_mapping[FILE]
    return mapping, mapping.pgmap.ranges[0].start >> k.config.page_shift


def read_into(k: Kernel) -> str:
    """``read()`` with ``O_DIRECT`` into a page of the file that the process maps; KernelBug: it is the file's no more.

    When the transfer ends what backs the page is read from its struct page.
    """
    mapping, pfn = the_file(k)
    if not gup_fast(k, mapping, pfn):
        return "not mapped"
    k.hw.reads(I_PAGES)
    if pfn not in mapping.i_pages:
        raise KernelBug(f"DMA writes PFN {pfn:#x}, which the file system may have given to another file", place="hw")
    end_dma(k)
    return "done"


def end_dma(k: Kernel) -> None:
    """The transfer ends, and the page is let go: ``unpin_user_page()``."""
    mapping, pfn = the_file(k)
    snapshot_page(k, pfn, "mm/gup.c:unpin_user_page")
    put_page(k, mapping, pfn)


def truncate(k: Kernel) -> None:
    """The file's block is given back, when nobody holds its page."""
    mapping, _ = the_file(k)
    with k.hw.locked(INVALIDATE_LOCK):
        dax_break_layout(k, mapping)
        dax_delete_mapping_range(k, mapping)


def truncate_at_once(k: Kernel) -> None:
    """The same, without looking who holds the page."""
    mapping, _ = the_file(k)
    with k.hw.locked(INVALIDATE_LOCK):
        dax_layout_busy_page(k, mapping)
        dax_delete_mapping_range(k, mapping)


def unmount(k: Kernel) -> None:
    """The file system is unmounted, then the driver of its device is unbound."""
    mapping, _ = the_file(k)
    evict_inode(k, mapping)
    devm_memremap_pages_release(k, mapping.pgmap)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """A process maps the one page of a file and reads into it from a disk.

    The file is truncated meanwhile; or the process is gone when its file system is unmounted, and the transfer is not.
    """
    k = boot_near(variant.config(configuration), tag=DEVICE)
    start = near_dimm(k).start
    pgmap = DevPagemap(MemoryType.FS_DAX, (Span(start, start + k.config.section_size),))
    memremap_pages(k, pgmap)
    pfn = start >> k.config.page_shift
    mapping = k.statics(Inodes).i_mapping[FILE] = DaxMapping(pgmap, {pfn}, {pfn})
    other, reader = ACTORS[variant.name]
    if reader is end_dma:
        gup_fast(k, mapping, pfn)
    return KernelProgram(k, (other, reader), (other.__name__.split("_")[0], "DMA"), check=laws_hold)


ACTORS: dict[str, tuple[Actor, Actor]] = {
    "no-wait": (truncate_at_once, read_into),
    "break-layout": (truncate, read_into),
    "unmount-warns": (unmount, end_dma),
    "unmount-waits": (unmount, end_dma),
}


def _of(release: str) -> tuple[Configuration, ...]:
    return tuple(one for one in configurations(release, page_size=4 * KiB) if one.va_bits == 48)


THEN, NOW = (_of(release) for release in MAINLINE)

CASE = Case(
    name="dax-dma-vs-truncate",
    actors="DMA into a page of a DAX file; the file is truncated, or its file system unmounted and the device unbound",
    build=build,
    geometry="a device of one section, of which a file has one page",
    variants=(
        Variant(
            "no-wait",
            "blocks are given to another file whoever holds their pages, as before 4.18",
            "broken",
            THEN + NOW,
            options=BLOCKS,
            of_kernel=False,
        ),
        Variant(
            "break-layout",
            "pages leave page tables, then who holds one is waited for",
            "repaired",
            THEN + NOW,
            options=BLOCKS,
        ),
        Variant(
            "unmount-warns",
            "the end of the file in memory warns of a page that DMA holds, as kernels before 6.15",
            "broken",
            THEN,
            options=BLOCKS,
            finding="A device's struct pages go while DMA holds its pages",
        ),
        Variant(
            "unmount-waits",
            "the end of the file in memory waits for DMA: ext4, xfs, fuse and erofs of 7.2",
            "repaired",
            NOW,
            options=BLOCKS,
        ),
    ),
)
