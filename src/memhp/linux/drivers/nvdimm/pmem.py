"""A namespace of persistent memory as a block device, with struct pages for DAX: ``drivers/nvdimm/pmem.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY

from memhp.errors import KernelError
from memhp.linux.kernel.resource import release_region, request_region
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/nvdimm/pmem.c"
FSDAX_PAGEMAP_OPS = DevPagemapOps(page_free=lambda _k, _pfn: None)


def pmem_attach_disk(k: Kernel, name: str, namespace: Span, nid: int, *, pagemap: bool = True) -> DevPagemap | None:
    """Claim the namespace (physical bytes) and, with `pagemap`, give all of it struct pages.

    Without, or on a kernel without ZONE_DEVICE (``pmem_should_map_pages()``), it is mapped like device registers, which
    is not modelled. Raises EBUSY, and what mapping raises.
    """
    request_mem_region(k, namespace, name, here())
    if not (pagemap and k.config.zone_device):
        return None
    pgmap = DevPagemap(MemoryType.FS_DAX, (namespace,), ops=FSDAX_PAGEMAP_OPS, owner=name)
    try:
        memremap_pages(k, pgmap, nid)
    except KernelError:
        release_mem_region(k, namespace)
        raise
    return pgmap


def pmem_detach_disk(k: Kernel, namespace: Span, pgmap: DevPagemap | None) -> None:
    """The driver is unbound: its managed resources go, the last one first."""
    if pgmap is not None:
        memunmap_pages(k, pgmap)
    release_mem_region(k, namespace)


def request_mem_region(k: Kernel, span: Span, name: str, place: str) -> None:
    """``devm_request_mem_region()``: a busy resource of that name. Raises EBUSY."""
    try:
        with k.hw.locked("resource_lock"):
            request_region(k.iomem_resource, span.start, span.size, name)
    except KernelError as error:
        raise KernelError(EBUSY, error.reason, place=place, advice=error.advice) from error


def release_mem_region(k: Kernel, span: Span) -> None:
    """``release_mem_region()``."""
    with k.hw.locked("resource_lock"):
        release_region(k.iomem_resource, span.start, span.size)
