"""What each architecture does on its own: the functions that the generic code of the kernel calls by these names."""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from memhp.hw.tlb import Table
    from memhp.linux.choices import Arch
    from memhp.linux.mm.altmap import VmemAltmap
    from memhp.linux.mm.dev_pagemap import DevPagemap
    from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder
    from memhp.linux.state import Kernel
    from memhp.spans import Span


class ArchOps(Protocol):
    """One architecture's functions; a module of it is one. Physical ranges and addresses are bytes."""

    def paging_init(self, k: Kernel) -> None:
        """Boot, before the page allocator: the kernel's root table, and the direct map of the RAM in memblock."""

    def mem_init(self, k: Kernel) -> None:
        """Boot, with the page allocator: root entries filled in advance, notifiers registered."""

    def copy_pgd(self, k: Kernel, mm: str) -> None:
        """A new process gets its root table: ``pgd_alloc()``. Raises ENOMEM."""

    def kernel_access(self, k: Kernel, mm: str, va: int) -> str:
        """Read a byte in the kernel while `mm` is the address space: ``ok`` or what fixed it. Raises KernelBug."""

    def pgprot_mhp(self, k: Kernel) -> int:
        """Attribute bits of hot-added RAM in the direct map: ``pgprot_mhp(PAGE_KERNEL)``."""

    def arch_get_mappable_range(self, k: Kernel) -> Span:
        """Physical bytes for which a direct map can be made."""

    def page_kernel(self, k: Kernel) -> int:
        """Attribute bits of ordinary kernel memory, which a device's memory gets too: ``PAGE_KERNEL``."""

    def pgprot_noncached(self, k: Kernel, prot: int) -> int:
        """The same attributes, but for memory that no cache may hold."""

    def arch_add_memory(
        self,
        k: Kernel,
        nid: int,
        start: int,
        size: int,
        altmap: VmemAltmap | None = None,
        pgprot: int | None = None,
        pgmap: DevPagemap | None = None,
    ) -> None:
        """Direct map and struct pages for a physical range. Raises what ``__add_pages()`` raises, ENOMEM."""

    def add_pages(
        self,
        k: Kernel,
        nid: int,
        start_pfn: int,
        nr_pages: int,
        altmap: VmemAltmap | None = None,
        pgmap: DevPagemap | None = None,
    ) -> None:
        """Struct pages without a direct map, for memory that the CPU cannot reach."""

    def vmemmap_builder(self, k: Kernel) -> VmemmapBuilder:
        """What this architecture's vmemmap entries look like."""

    def arch_remove_memory(self, k: Kernel, start: int, size: int, altmap: VmemAltmap | None = None) -> None:
        """The opposite of :meth:`arch_add_memory`."""

    def vmemmap_populate(self, k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map struct pages at the addresses of one or more sections, or of part of one. Raises ENOMEM."""

    def vmemmap_free(self, k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap struct pages and free their storage."""

    def arch_vmap_supported(self, k: Kernel, height: int) -> bool:
        """Whether vmap may use leaves of that height: ``arch_vmap_pmd_supported()``, ``arch_vmap_pud_supported()``."""

    def pmd_free_pte_page(self, k: Kernel, table: Table, index: int) -> None:
        """Take the PTE table below a PMD entry, which maps nothing, away for a leaf."""

    def pud_free_pmd_page(self, k: Kernel, table: Table, index: int) -> bool:
        """Take the PMD table below a PUD entry away, with the empty PTE tables below it; whether that went."""

    def flush_tlb_all(self, k: Kernel, times: int = 1) -> None:
        """Invalidate every translation on every CPU."""

    def flush_tlb_kernel_range(self, k: Kernel, span: Span) -> None:
        """Invalidate the kernel's translations of the addresses in `span`."""


def ops(k: Kernel) -> ArchOps:
    """The functions of the architecture that the kernel is built for."""
    return _ops(k.config.arch)


@cache
def _ops(arch: Arch) -> ArchOps:
    from memhp.linux.arch.arm64.mm import mmu
    from memhp.linux.arch.riscv.mm import init as riscv
    from memhp.linux.arch.x86.mm import init_64

    modules: dict[Arch, ArchOps] = {"riscv64": riscv, "arm64": mmu, "x86_64": init_64}
    return modules[arch]
