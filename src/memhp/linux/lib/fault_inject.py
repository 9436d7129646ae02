"""Allocations made to fail, each below one function of the kernel: ``lib/fault-inject.c`` with its stack filter."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal, get_args

AllocationName = Literal[
    "acpi_bind_one",
    "acpi_memory_device_add",
    "add_memory_block",
    "alloc_low_pages",
    "offline_and_remove_memory",
    "section_activate",
    "vmemmap_alloc_block",
]
"""Functions that allocate, by the places that the model asks at."""

PAGES: frozenset[AllocationName] = frozenset({"alloc_low_pages", "vmemmap_alloc_block"})
"""Those that ask for pages; the others ask for objects of slabs."""

INLINED: dict[AllocationName, str] = {"section_activate": "sparse_add_section"}
"""The function that has another one in itself, where a compiler makes one of both."""


class FailOnce:
    """Faults by which the first allocation below a function fails, and no other."""

    def __init__(self, function: AllocationName) -> None:
        assert function in get_args(AllocationName)
        self.function = function
        self.failed = False

    def fails(self, site: str) -> bool:
        """Whether the allocation at a place (``file:function``) fails now."""
        if self.failed or site.rpartition(":")[2] != self.function:
            return False
        self.failed = True
        return True

    def cut(self, count: int) -> int:
        """The first round of a loop is asked about alone."""
        return 0 if self.failed else min(1, count)
