"""What a scenario file may say of its machine, checked strictly: RAM, boot options, CPUs, and where it comes from."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Size: TypeAlias = str | int
"""Bytes, or text for :func:`memhp.units.parse_size`."""

Node = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
"""A NUMA node's number."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a scenario: unknown keys are refused."""


class Memory(Strict, frozen=True):
    """A range of RAM that the machine boots with."""

    size: Size
    start: Size | None = None
    """Physical address; by default right after the range before, or where the preset's RAM starts."""
    node: Node = 0
    hotpluggable: bool = False
    """Whether firmware says that it may go (SRAT): under ``movable_node`` it is ZONE_MOVABLE's then, unless the kernel
    is on that node."""
    mirrored: bool = False
    """Whether firmware keeps it twice (``EFI_MEMORY_MORE_RELIABLE``): what it does not is ZONE_MOVABLE's, from 4 GiB
    on, under ``kernelcore=mirror``."""


class Boot(Strict, frozen=True):
    """What stands on the kernel's command line; what is left out is as the machine has it."""

    memmap_on_memory: Literal["N", "Y", "force"] | None = None
    online_policy: Literal["contig-zones", "auto-movable"] | None = None
    auto_movable_ratio: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)] | None = None
    auto_movable_numa_aware: bool | None = None
    memhp_default_state: Literal["offline", "online", "online_kernel", "online_movable"] | None = None
    movable_node: bool | None = None
    kernelcore: Size | None = None
    """What the kernel keeps of the memory at boot for any use, the rest being Movable: a size, ``"40%"``, or
    ``"mirror"`` for what firmware mirrors."""
    movablecore: Size | None = None
    """What of it is to be Movable."""
    cma: Size | None = None
    """What boot reserves for the contiguous memory allocator: a size, ``"64M@4G"`` or ``"64M@0-4G"`` (kernels with
    ``CONFIG_DMA_CMA``); by default what Debian's kernels do: arm64 64 MiB, LoongArch and riscv64 of 7.2 128 MiB."""
    rodata_full: bool | None = None
    """arm64: single pages of the direct map may change protection, so it is mapped by base pages."""
    debug_pagealloc: bool | None = None
    gbpages: bool | None = None
    """x86: 1 GiB leaves in the direct map."""


class Cpu(Strict, frozen=True):
    """What the CPUs can do; what is left out is as the machine has it."""

    bbml2: bool | None = None
    """arm64: leaves of the direct map can be split while they are in use (Cortex-X4, Neoverse V3, Ampere1, NVIDIA
    Olympus): kernels since 6.18 map memory by the largest that fit then."""
    tlb_range: bool | None = None
    """arm64: one instruction invalidates a range (FEAT_TLBIRANGE)."""
    invlpgb: bool | None = None
    """x86: one CPU flushes the TLBs of all, without an IPI (AMD INVLPGB)."""
    tce: bool | None = None
    """x86: INVLPG drops no cached pointer to a table but those on the way to its address (AMD EFER.TCE)."""


class Build(Strict, frozen=True):
    """What the kernel is built with, as ``mm/Kconfig`` names it; what is left out is as distributions have it."""

    sparsemem_vmemmap: bool | None = None
    """``CONFIG_SPARSEMEM_VMEMMAP``: struct pages lie in one virtual array. riscv has no hotplug without it, where it
    may be left out."""
    memory_hotplug: bool | None = None
    """``CONFIG_MEMORY_HOTPLUG``: memory can be added, and there are memory blocks."""
    memory_hotremove: bool | None = None
    """``CONFIG_MEMORY_HOTREMOVE``: it can go offline and away; needs the former."""
    zone_device: bool | None = None
    """``CONFIG_ZONE_DEVICE``: devices get struct pages; needs both."""
    deferred_struct_page_init: bool | None = None
    """``CONFIG_DEFERRED_STRUCT_PAGE_INIT``: struct pages are initialised in parallel, late in boot."""


class MachineText(Strict, frozen=True):
    """The machine of a scenario: a source of facts, or a preset, with whatever is to be different."""

    source: str | None = None
    """A captured folder or archive, a sysroot, or ``/`` for the running host: from the scenario's own folder on, or
    where memhp runs."""
    step: str | None = None
    """Which moment of a capture; its first by default."""
    preset: str | None = None
    qemu: str | None = None
    """A command line of QEMU: RAM, nodes, slots and memory devices as they are there."""
    arch: str | None = None
    """One of :data:`memhp.linux.arch.registry.ARCHES`."""
    profile: str | None = None
    page_size: Size | None = None
    va_bits: int | None = None
    memory: Size | list[Memory] | None = None
    cpus: Annotated[int, Meta(ge=1, le=8192)] | None = None
    nodes: Annotated[int, Meta(ge=1, le=1024)] | None = None
    hypervisor: bool | None = None
    """x86: whether the kernel runs under a hypervisor; decides the size of memory blocks."""
    cpu: Cpu | None = None
    cxl_windows: list[Memory] | None = None
    """Where firmware says that CXL memory may be (CEDT, CFMWS): kernels of 7.2 make memory blocks no larger than what
    the windows are aligned to."""
    max_memory: Size | None = None
    """Physical address that firmware names as the end of what may ever be plugged (ACPI SRAT)."""
    slots: Annotated[int, Meta(ge=0, le=256)] | None = None
    """How many DIMMs there is room for; by default as many as anybody plugs."""
    device_memory: Size | None = None
    """How much memory devices may have together: ``maxmem`` less the RAM at boot."""
    proximity: list[Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]] | None = None
    """Proximity domains in the order in which firmware names them (ACPI SRAT): the first is node 0, and so on; empty
    without such a table. By default domain N is node N."""
    reserved: Size | None = None
    """Boot memory that the kernel image and early allocations keep, besides struct pages and page tables."""
    boot: Boot | None = None
    build: Build | None = None
    choices: dict[str, Any] = {}
    """Decisions of the kernel to change, by the names of :mod:`memhp.linux.choices`:
    ``choices = { pgd_policy = "none" }``."""
