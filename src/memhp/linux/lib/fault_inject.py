"""Allocations made to fail, each below one function of the kernel: ``lib/fault-inject.c`` with its stack filter."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import repeat
from typing import Literal, get_args

AllocationName = Literal[
    "acpi_bind_one",
    "acpi_memory_device_add",
    "add_memory_block",
    "alloc_low_pages",
    "create_altmaps_and_memory_blocks",
    "memremap_pages",
    "offline_and_remove_memory",
    "section_activate",
    "sparse_index_init",
    "virtio_mem_bbm_prepare_next_bb",
    "virtio_mem_sbm_prepare_next_mb",
    "vmemmap_alloc_block",
]
"""Functions that allocate, by the places that the model asks at."""

PAGES: frozenset[AllocationName] = frozenset({"alloc_low_pages", "vmemmap_alloc_block"})
"""Those that ask for pages; the others ask for objects of slabs."""

INLINED: dict[AllocationName, str] = {
    "create_altmaps_and_memory_blocks": "add_memory_resource",
    "section_activate": "sparse_add_section",
    "sparse_index_init": "sparse_add_section",
    "virtio_mem_bbm_prepare_next_bb": "virtio_mem_run_wq",
    "virtio_mem_sbm_prepare_next_mb": "virtio_mem_run_wq",
}
"""The function that has another one in itself, where a compiler makes one of both."""


class FailNth:
    """Faults by which one of the allocations below a function fails, and no other."""

    def __init__(self, function: AllocationName, nth: int = 1) -> None:
        assert function in get_args(AllocationName)
        self.function = function
        self._before = nth - 1

    @property
    def failed(self) -> bool:
        """Whether it has."""
        return self._before < 0

    def fails(self, site: str) -> bool:
        """Whether the allocation at a place (``file:function``) fails now."""
        if self.failed or site.rpartition(":")[2] != self.function:
            return False
        self._before -= 1
        return self.failed

    def parts(self, count: int) -> Iterator[int]:
        """As many rounds of a loop as may be up to the one that fails are asked about one by one."""
        first = min(self._before + 1, count)
        yield from repeat(1, first)
        if count > first:
            yield count - first
