"""What a kernel was built with and booted with, and what follows from it: page size, levels, orders, sections.

A :class:`Config` is one kernel on one kind of CPU. What RAM the machine has is not part of it. Sizes are bytes
unless a name says pages or order.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from memhp.errors import BadInput
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.arch.riscv.choices import RiscvProfile
from memhp.linux.arch.x86.choices import X86Profile
from memhp.linux.choices import ARCHES, Arch, ArchProfile, Profile
from memhp.linux.profiles import PROFILES
from memhp.units import KiB, format_size

if TYPE_CHECKING:
    from memhp.hw.format import Format

MemmapOnMemoryMode = Literal["N", "Y", "force"]
OnlinePolicy = Literal["contig-zones", "auto-movable"]
OnlineType = Literal["offline", "online", "online_kernel", "online_movable"]

VA_BITS: dict[Arch, dict[int, tuple[int, ...]]] = {
    "riscv64": {4 * KiB: (39, 48, 57)},
    "arm64": {4 * KiB: (39, 48, 52), 16 * KiB: (36, 47, 48, 52), 64 * KiB: (42, 48, 52)},
    "x86_64": {4 * KiB: (48, 57)},
}
"""Virtual address widths by architecture and page size: Sv39/48/57, ``CONFIG_ARM64_VA_BITS_*``, 4 and 5 levels."""

VA_BITS_MIN = {4 * KiB: 48, 16 * KiB: 47, 64 * KiB: 48}
"""What an arm64 kernel built for 52 bits falls back to on a CPU without LVA or LPA2 (``VA_BITS_MIN``)."""

MAX_PAGE_ORDER = {4 * KiB: 10, 16 * KiB: 11, 64 * KiB: 13}
"""The buddy's largest order by page size (``ARCH_FORCE_MAX_ORDER``; before 6.4 ``MAX_ORDER`` was one more, and
exclusive, so the order is the same)."""

SUBSECTION_SHIFT = 21
"""2 MiB (``include/linux/mmzone.h``)."""

CONT_PTES = {4 * KiB: 16, 16 * KiB: 128, 64 * KiB: 32}
"""arm64: PTEs that the contiguous hint joins (``CONT_PTES``)."""

CONT_PMDS = {4 * KiB: 16, 16 * KiB: 32, 64 * KiB: 32}
"""arm64: PMDs that the contiguous hint joins (``CONT_PMDS``)."""


@dataclass(frozen=True)
class Bases:
    """Addresses that a boot chose at random, where they are known; None means the address without KASLR."""

    page_offset: int | None = None
    """x86 ``page_offset_base``: virtual address of physical address 0."""
    vmalloc_start: int | None = None
    """x86 ``vmalloc_base``."""
    vmemmap_start: int | None = None
    """x86 ``vmemmap_base``."""
    physmem_end: int | None = None
    """x86 ``direct_map_physmem_end`` (6.12: ``physmem_end``): last physical address that the direct map can hold."""
    memstart_addr: int | None = None
    """arm64 ``memstart_addr``: physical address that PAGE_OFFSET stands for; may be negative."""
    kernel_start: int | None = None
    """Virtual address of the kernel image (``_text``)."""
    modules_start: int | None = None
    """Start of the modules area where it depends on the image (riscv ``MODULES_VADDR``)."""


@dataclass(frozen=True)
class Config:
    """One kernel on one kind of CPU: build options, boot options, CPU features. :meth:`validate` checks the whole."""

    arch: Arch
    profile: Profile
    page_size: int
    va_bits: int
    """riscv and x86: the width in use. arm64: ``CONFIG_ARM64_VA_BITS``; see :attr:`va_bits_actual`."""
    lva: bool = True
    """arm64: whether the CPU has 52-bit virtual addresses (LVA with 64K pages, LPA2 with 4K and 16K)."""
    pa_bits: int = 0
    """arm64 ``CONFIG_ARM64_PA_BITS``, 48 or 52; 0 takes 52 where the build has it."""
    struct_page_size: int = 64
    """``sizeof(struct page)`` in bytes."""
    bases: Bases = field(default_factory=Bases)
    randomize_memory: bool = False
    """x86 ``CONFIG_RANDOMIZE_MEMORY`` in effect; arm64: the linear map may start anywhere."""
    memmap_on_memory: MemmapOnMemoryMode = "N"
    """``memory_hotplug.memmap_on_memory``."""
    online_policy: OnlinePolicy = "contig-zones"
    """``memory_hotplug.online_policy``."""
    auto_movable_ratio: int = 301
    """``memory_hotplug.auto_movable_ratio``, percent."""
    auto_movable_numa_aware: bool = True
    """``memory_hotplug.auto_movable_numa_aware``."""
    memhp_default_state: OnlineType = "offline"
    """``memhp_default_state=`` or the build's default."""
    movable_node: bool = False
    """``movable_node`` on the command line."""
    hypervisor: bool = True
    """x86: whether CPUID says that there is a hypervisor (decides the memory block size from 64 GiB on)."""
    memory_block_advice: int = 0
    """Largest memory block size that firmware advises, 0 for none (7.2: CXL windows)."""
    pse: bool = True
    """x86: whether the CPU maps 2 MiB pages."""
    gbpages: bool = True
    """x86: whether the direct map may use 1 GiB pages (CPU ``pdpe1gb``, ``nogbpages``)."""
    tlb_range: bool = False
    """arm64: whether the CPU invalidates ranges (FEAT_TLBIRANGE)."""
    bbml2: bool = False
    """arm64: whether every CPU can split a live block mapping without a conflict abort (BBML2)."""
    rodata_full: bool = True
    """arm64: ``rodata=full``: the permissions of single pages of the direct map follow vmalloc's."""
    debug_pagealloc: bool = False
    """``debug_pagealloc=on``: no huge leaves in the direct map."""
    kfence_early: bool = True
    """arm64: the KFENCE pool was set up at boot, so the rest of the direct map need not be able to follow."""
    kasan: bool = False
    """``CONFIG_KASAN``: a shadow area in the layout."""
    fixmap_slots: int | None = None
    """arm64: fixmap pages for GHES, SDEI and KPTI; None: for all of them, as distributions build it."""
    hvo: bool | None = None
    """``CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP``; None: yes on riscv and x86, which have it."""
    keep_memblock: bool | None = None
    """``CONFIG_ARCH_KEEP_MEMBLOCK``; None: as distributions build it (arm64 always, riscv with ACPI, x86 not)."""
    page_block_max_order: int | None = None
    """``CONFIG_PAGE_BLOCK_MAX_ORDER``, where kernels have it; None: the largest, which is MAX_PAGE_ORDER."""
    zone_dma: bool | None = None
    """``CONFIG_ZONE_DMA``; None: as distributions build it (arm64 and x86 yes, riscv has none)."""
    zone_dma32: bool = True
    """``CONFIG_ZONE_DMA32``."""
    nr_cpus: int = 2
    """CPUs online."""
    nr_nodes: int = 1
    """Possible NUMA nodes."""

    def validate(self) -> "Config":
        """The same configuration, if such a kernel can exist. Raises :class:`BadInput` with what there is instead."""
        if self.arch not in ARCHES:
            raise BadInput(f"no architecture {self.arch!r}", where="arch", fix=f"one of {', '.join(ARCHES)}")
        record = self.profile.arch(self.arch)
        sizes = VA_BITS[self.arch]
        if self.page_size not in sizes:
            have = ", ".join(format_size(size) for size in sizes)
            raise BadInput(
                f"{self.arch} has no {format_size(self.page_size)} pages", where="page_size", fix=f"one of {have}"
            )
        widths = va_bits_of(record, self.arch, self.page_size)
        if self.va_bits not in widths:
            raise BadInput(
                f"{self.profile.name} on {self.arch} with {format_size(self.page_size)} pages has no "
                f"{self.va_bits}-bit addresses",
                where="va_bits",
                fix=f"one of {', '.join(map(str, widths))}",
            )
        if self.pa_bits not in (0, *self._possible_pa_bits):
            have = ", ".join(map(str, self._possible_pa_bits))
            raise BadInput(f"no {self.pa_bits}-bit physical addresses here", where="pa_bits", fix=f"one of {have}")
        if self.memmap_on_memory != "N" and self.profile.memmap_on_memory == "none":
            raise BadInput(f"{self.profile.name} has no memmap_on_memory", where="memmap_on_memory", fix="N")
        if self.memmap_on_memory == "force" and self.profile.memmap_on_memory != "many-blocks":
            raise BadInput(f"{self.profile.name} cannot force memmap_on_memory", where="memmap_on_memory", fix="Y or N")
        if self.online_policy == "auto-movable" and not self.profile.auto_movable:
            raise BadInput(f"{self.profile.name} has no auto-movable", where="online_policy", fix="contig-zones")
        if self.page_block_max_order is not None and self.profile.pageblock_cap == "MAX_PAGE_ORDER":
            raise BadInput(
                f"{self.profile.name} cannot cap its pageblocks", where="page_block_max_order", fix="leave it"
            )
        if self.page_block_max_order is not None and not 1 <= self.page_block_max_order <= self.max_page_order:
            raise BadInput(
                f"pageblocks of order {self.page_block_max_order} cannot be",
                where="page_block_max_order",
                fix=f"1 to {self.max_page_order}",
            )
        return self

    @property
    def choices(self) -> ArchProfile:
        """The profile's record for this architecture."""
        return self.profile.arch(self.arch)

    @property
    def riscv(self) -> RiscvProfile:
        """The record for riscv. Raises :class:`BadInput` where the profile has none."""
        return self.profile.record(RiscvProfile)

    @property
    def arm64(self) -> Arm64Profile:
        """The record for arm64. Raises :class:`BadInput` where the profile has none."""
        return self.profile.record(Arm64Profile)

    @property
    def x86(self) -> X86Profile:
        """The record for x86-64. Raises :class:`BadInput` where the profile has none."""
        return self.profile.record(X86Profile)

    @property
    def _possible_pa_bits(self) -> tuple[int, ...]:
        if self.arch == "riscv64":
            return (56,)
        if self.arch == "x86_64":
            return (52,) if self.va_bits == 57 else (46,)
        if self.page_size == 64 * KiB:
            return (48, 52)
        return (52,) if self.va_bits == 52 else (48,)

    @cached_property
    def max_physmem_bits(self) -> int:
        """``MAX_PHYSMEM_BITS``: the width of physical addresses that sections cover and entries can hold.

        An arm64 kernel built for LPA2 has 48 bits on a CPU without it (``PHYS_MASK_SHIFT``).
        """
        if self.arch == "arm64" and self.page_size != 64 * KiB and self.va_bits_actual != 52:
            return 48
        return self.pa_bits or self._possible_pa_bits[-1]

    @cached_property
    def va_bits_actual(self) -> int:
        """The width in use (arm64 ``vabits_actual``)."""
        if self.arch == "arm64" and self.va_bits == 52 and not self.lva:
            return VA_BITS_MIN[self.page_size]
        return self.va_bits

    @cached_property
    def va_bits_min(self) -> int:
        """The width that the fixed part of the layout is made for (arm64 ``VA_BITS_MIN``)."""
        return VA_BITS_MIN[self.page_size] if self.arch == "arm64" and self.va_bits > 48 else self.va_bits

    @cached_property
    def format_va_bits(self) -> int:
        """The width that the root table is indexed with.

        arm64 with 64K pages built for 52 bits keeps its 1024-entry root on a 48-bit CPU and uses the last 64 entries;
        with 4K and 16K pages the extra level is folded away (LPA2).
        """
        if self.arch == "arm64" and self.page_size == 64 * KiB:
            return self.va_bits
        return self.va_bits_actual

    @cached_property
    def format(self) -> "Format":
        """The format of the kernel's page-table entries."""
        from memhp.hw.formats import format_for

        pa_bits = self.max_physmem_bits if self.arch == "arm64" else None
        return format_for(self.arch, self.page_size, self.format_va_bits, pa_bits=pa_bits)

    @cached_property
    def page_shift(self) -> int:
        """``PAGE_SHIFT``."""
        return self.page_size.bit_length() - 1

    @cached_property
    def levels(self) -> int:
        """Levels of tables in use, 2 to 5."""
        return -(-(self.format_va_bits - self.page_shift) // (self.page_shift - 3))

    @cached_property
    def entries_per_table(self) -> int:
        """``PTRS_PER_PTE``."""
        return self.page_size // 8

    def shift(self, height: int) -> int:
        """Address bits below an entry at `height`; a folded level has the shift of the root, as in the kernel."""
        return self.page_shift + min(height, self.levels - 1) * (self.page_shift - 3)

    @property
    def pmd_size(self) -> int:
        """``PMD_SIZE``."""
        return 1 << self.shift(1)

    @property
    def pud_size(self) -> int:
        """``PUD_SIZE``: that of the root entry where the level is folded."""
        return 1 << self.shift(2)

    @property
    def p4d_size(self) -> int:
        """``P4D_SIZE``: that of the root entry where the level is folded."""
        return 1 << self.shift(3)

    @property
    def pgdir_size(self) -> int:
        """``PGDIR_SIZE``: bytes that one root entry translates."""
        return 1 << self.shift(4)

    @cached_property
    def section_size_bits(self) -> int:
        """``SECTION_SIZE_BITS`` (``arch/*/include/asm/sparsemem.h``)."""
        if self.arch == "arm64":
            if self.arm64.section_size == "1G":
                return 30
            return 29 if self.page_size == 64 * KiB else 27
        return 27

    @property
    def section_size(self) -> int:
        """Bytes of a section."""
        return 1 << self.section_size_bits

    @property
    def pages_per_section(self) -> int:
        """``PAGES_PER_SECTION``."""
        return 1 << (self.section_size_bits - self.page_shift)

    @property
    def pages_per_subsection(self) -> int:
        """``PAGES_PER_SUBSECTION``: pages in 2 MiB."""
        return 1 << (SUBSECTION_SHIFT - self.page_shift)

    @property
    def max_page_order(self) -> int:
        """``MAX_PAGE_ORDER``: the largest block of the buddy, inclusive."""
        return MAX_PAGE_ORDER[self.page_size]

    @cached_property
    def pageblock_order(self) -> int:
        """``pageblock_order``: a PMD-sized huge page, or the largest block that may have a migrate type."""
        cap = self.max_page_order if self.page_block_max_order is None else self.page_block_max_order
        return min(self.shift(1) - self.page_shift, cap)

    @property
    def pageblock_nr_pages(self) -> int:
        """``pageblock_nr_pages``."""
        return 1 << self.pageblock_order

    @property
    def cont_ptes(self) -> int:
        """PTEs joined by the contiguous hint; 1 where there is none."""
        return CONT_PTES[self.page_size] if self.arch == "arm64" else 1

    @property
    def cont_pmds(self) -> int:
        """PMDs joined by the contiguous hint; 1 where there is none."""
        return CONT_PMDS[self.page_size] if self.arch == "arm64" else 1

    @property
    def has_hvo(self) -> bool:
        """Whether the build has ``HUGETLB_PAGE_OPTIMIZE_VMEMMAP``."""
        return self.arch != "arm64" if self.hvo is None else self.hvo

    @property
    def has_memblock(self) -> bool:
        """Whether memblock lives on after boot, so that hot-add and hot-remove keep it up to date."""
        return self.arch != "x86_64" if self.keep_memblock is None else self.keep_memblock

    @property
    def has_zone_dma(self) -> bool:
        """Whether the build has ZONE_DMA."""
        return self.arch != "riscv64" if self.zone_dma is None else self.zone_dma

    @cached_property
    def can_set_direct_map(self) -> bool:
        """Whether single pages of the direct map may change (arm64 ``can_set_direct_map()``; riscv and x86 always)."""
        if self.arch != "arm64":
            return True
        return self.rodata_full or self.debug_pagealloc or not self.kfence_early

    @cached_property
    def direct_map_base_pages(self) -> bool:
        """Whether the direct map has base pages only."""
        leaves = self.arm64.direct_map_leaves if self.arch == "arm64" else "largest"
        if leaves == "largest":
            return self.debug_pagealloc or (self.arch == "x86_64" and not self.pse)
        if leaves == "base-unless-bbml2" and self.bbml2:
            return self.debug_pagealloc
        return self.can_set_direct_map

    @cached_property
    def vmemmap_huge(self) -> bool:
        """Whether ``vmemmap_populate()`` tries PMD leaves for a whole section."""
        leaves = self.choices.vmemmap_leaves
        if self.arch == "x86_64" and not self.pse:
            return False
        return leaves == "huge" or (leaves != "base" and self.page_size == 4 * KiB)

    @property
    def memmap_bytes_per_section(self) -> int:
        """Bytes of struct pages for a section."""
        return self.pages_per_section * self.struct_page_size

    @property
    def title(self) -> str:
        """One line that tells this configuration from the others: ``linux-6.12 arm64 4 KiB 52-bit on 48-bit CPU``."""
        actual = "" if self.va_bits_actual == self.va_bits else f" on {self.va_bits_actual}-bit CPU"
        return f"{self.profile.name} {self.arch} {format_size(self.page_size)} {self.va_bits}-bit{actual}"


def va_bits_of(record: ArchProfile, arch: Arch, page_size: int) -> tuple[int, ...]:
    """The virtual address widths that a kernel can be built for with that page size."""
    widths = VA_BITS[arch][page_size]
    if not isinstance(record, Arm64Profile):
        return widths
    if record.layout == "5.3":
        return tuple(width for width in widths if width != 52)
    return tuple(width for width in widths if width != 52 or record.layout == "6.12" or page_size == 64 * KiB)


def configs(profile: Profile | None = None, arches: Iterable[Arch] = ARCHES) -> list[Config]:
    """Every configuration that can exist, in the order profile, architecture, page size, width, CPU.

    A 52-bit arm64 kernel comes twice, on a CPU with 52-bit addresses and on one without.
    """
    wanted = tuple(arches)
    return [
        Config(arch=arch, profile=each, page_size=page_size, va_bits=va_bits, lva=lva).validate()
        for each in (PROFILES.values() if profile is None else (profile,))
        for arch in each.arches
        if arch in wanted
        for page_size in VA_BITS[arch]
        for va_bits in va_bits_of(each.arch(arch), arch, page_size)
        for lva in ((True, False) if arch == "arm64" and va_bits == 52 else (True,))
    ]
