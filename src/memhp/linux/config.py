"""What a kernel was built with and booted with, and what follows from it: page size, levels, orders, sections.

A :class:`Config` is one kernel on one kind of CPU. What RAM the machine has is not part of it. Sizes are bytes
unless a name says pages or order.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from memhp.errors import BadInput
from memhp.hw.unchanging import Unchanging
from memhp.linux.addresses import SUBSECTION_SHIFT
from memhp.linux.arch.registry import ARCHES, Arch, port
from memhp.linux.choice import check_types, value_in
from memhp.linux.choices import ArchProfile, MemmapOnMemory, Profile
from memhp.linux.profiles import PROFILES
from memhp.linux.release import Since, parse_release
from memhp.units import KiB, format_size

if TYPE_CHECKING:
    from memhp.hw.format import Format
    from memhp.linux.port import Port

MemmapOnMemoryMode = Literal["N", "Y", "force"]
OnlinePolicy = Literal["contig-zones", "auto-movable"]
OnlineType = Literal["offline", "online", "online_kernel", "online_movable"]

STRUCT_PAGE_SIZES = range(56, 97, 8)
"""What ``sizeof(struct page)`` may be (``include/linux/mm.h:__mm_zero_struct_page``)."""

_LEAST = {"auto_movable_ratio": 0, "memory_block_advice": 0, "fixmap_slots": 0, "nr_cpus": 1}
"""The least that numbers may be which nothing else bounds."""


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

    def __post_init__(self) -> None:
        check_types(self)


class Core(NamedTuple):
    """An amount of memory as ``kernelcore`` and ``movablecore`` name it: bytes, or percent of all."""

    size: int = 0
    percent: int = 0


class Cma(NamedTuple):
    """What ``cma=SIZE@BASE-LIMIT`` asks for, bytes; a base without a limit is where exactly, no limit is none."""

    size: int
    base: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Config(Unchanging):
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
    struct_page_size: int = 0
    """``sizeof(struct page)`` in bytes; 0 for the architecture's usual one, which stands here from then on."""
    bases: Bases = field(default_factory=Bases)
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
    kernelcore: Core | None = None
    """``kernelcore=``: what all nodes together keep for any use, the rest being ZONE_MOVABLE."""
    movablecore: Core | None = None
    """``movablecore=``: what is to be ZONE_MOVABLE."""
    mirrored_kernelcore: bool = False
    """``kernelcore=mirror``: what firmware does not mirror is to be ZONE_MOVABLE; amounts count no more."""
    cma: Cma | None = None
    """What boot reserves for the contiguous memory allocator (``cma=``, or ``CONFIG_CMA_SIZE_MBYTES``)."""
    hypervisor: bool = True
    """x86: whether CPUID says that there is a hypervisor (decides the memory block size from 64 GiB on)."""
    memory_block_advice: int = 0
    """Largest memory block size that firmware advises, bytes, 0 for none (since 6.16: CXL windows)."""
    pse: bool = True
    """x86: whether the CPU maps 2 MiB pages."""
    gbpages: bool = True
    """x86: whether the direct map may use 1 GiB pages (CPU ``pdpe1gb``, ``nogbpages``)."""
    tlb_range: bool = False
    """arm64: whether the CPU invalidates ranges (FEAT_TLBIRANGE)."""
    invlpgb: bool = False
    """x86: whether one CPU flushes the TLBs of all (AMD INVLPGB), where the kernel uses it."""
    tce: bool = False
    """x86: whether INVLPG leaves pointers to tables cached that other addresses are translated by (AMD EFER.TCE), where
    the kernel sets that bit."""
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
    memory_hotplug: bool = True
    """``CONFIG_MEMORY_HOTPLUG``, without which nobody adds memory."""
    memory_hotremove: bool = True
    """``CONFIG_MEMORY_HOTREMOVE``, without which none goes offline or away, and there is no virtio-mem driver."""
    zone_device: bool = True
    """``CONFIG_ZONE_DEVICE``, without which devices get no struct pages of their own."""
    deferred_struct_page_init: bool = True
    """``CONFIG_DEFERRED_STRUCT_PAGE_INIT``, as distributions build it."""
    nr_cpus: int = 2
    """CPUs online."""

    def __post_init__(self) -> None:
        check_types(self)
        usual = self.port.struct_page_size
        if not self.struct_page_size:
            object.__setattr__(self, "struct_page_size", usual)

    def validate(self) -> "Config":
        """The same configuration, if such a kernel can exist. Raises :class:`BadInput` with what there is instead."""
        for name, least in _LEAST.items():
            if (number := getattr(self, name)) is not None and number < least:
                raise BadInput(f"cannot be {number}", where=name, fix=f"at least {least}")
        if self.struct_page_size not in STRUCT_PAGE_SIZES:
            raise BadInput(
                f"no struct page has {self.struct_page_size} bytes",
                where="struct_page_size",
                fix=f"one of {', '.join(map(str, STRUCT_PAGE_SIZES))}",
            )
        sizes = self.port.va_bits
        record = self.profile.arch(self.arch)
        if self.page_size not in sizes:
            have = ", ".join(format_size(size) for size in sizes)
            raise BadInput(
                f"{self.arch} has no {format_size(self.page_size)} pages", where="page_size", fix=f"one of {have}"
            )
        widths = self.port.va_bits_of(record, self.page_size)
        if self.va_bits not in widths:
            raise BadInput(
                f"{self.profile.name} on {self.arch} with {format_size(self.page_size)} pages has no "
                f"{self.va_bits}-bit addresses",
                where="va_bits",
                fix=f"one of {', '.join(map(str, widths))}",
            )
        if self.pa_bits not in (0, *self.port.pa_bits(self)):
            have = ", ".join(map(str, self.port.pa_bits(self)))
            raise BadInput(f"no {self.pa_bits}-bit physical addresses here", where="pa_bits", fix=f"one of {have}")
        if self.memmap_on_memory != "N" and self.memmap_on_memory_rules == "none":
            lacks = self.profile.name if self.port.has_memmap_on_memory else self.arch
            raise BadInput(f"{lacks} has no memmap_on_memory", where="memmap_on_memory", fix="N")
        if self.memmap_on_memory == "force" and self.memmap_on_memory_rules == "one-block":
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
    def port(self) -> "Port":
        """What the architecture says. Raises :class:`BadInput` when there is no such architecture."""
        return port(self.arch)

    @property
    def choices(self) -> ArchProfile:
        """The profile's record for this architecture."""
        return self.profile.arch(self.arch)

    def value_since(self, steps: tuple[Since, ...]) -> Any:
        """The value that the kernel's release has, of those that came one after the other."""
        release = parse_release(self.profile.release)
        assert release is not None
        return value_in(release, steps)

    @cached_property
    def max_physmem_bits(self) -> int:
        """``MAX_PHYSMEM_BITS``: the width of physical addresses that sections cover and entries can hold."""
        return self.port.max_physmem_bits(self)

    @cached_property
    def va_bits_actual(self) -> int:
        """The width in use (arm64 ``vabits_actual``)."""
        return self.port.va_bits_actual(self)

    @cached_property
    def va_bits_min(self) -> int:
        """The width that the fixed part of the layout is made for (arm64 ``VA_BITS_MIN``)."""
        return self.port.va_bits_min(self)

    @cached_property
    def format(self) -> "Format":
        """The format of the kernel's page-table entries."""
        return self.port.format(self)

    @cached_property
    def page_shift(self) -> int:
        """``PAGE_SHIFT``."""
        return self.page_size.bit_length() - 1

    @cached_property
    def levels(self) -> int:
        """Levels of tables in use, 2 to 5."""
        return len(self.format.levels)

    @cached_property
    def entries_per_table(self) -> int:
        """``PTRS_PER_PTE``."""
        return self.page_size // 8

    def shift(self, height: int) -> int:
        """Address bits below an entry at `height`; a folded level has the shift of the root, as in the kernel."""
        return self.format.levels[min(height, self.levels - 1)].shift

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
        return self.port.section_size_bits(self)

    @property
    def has_virtio_mem(self) -> bool:
        """Whether there is a virtio-mem driver (``drivers/virtio/Kconfig``)."""
        return self.choices.virtio_mem and self.memory_hotremove

    @property
    def virtio_mem_sub_block(self) -> int:
        """Bytes that virtio-mem asks the buddy for at least: a pageblock, until 5.19 the largest order where that is
        more (``virtio_mem_init_hotplug()``).
        """
        pages = self.pageblock_nr_pages
        if self.profile.virtio_mem_sub_block == "max-order":
            pages = max(pages, 1 << self.max_page_order)
        return pages * self.page_size

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
        return self.port.max_page_order[self.page_size]

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
    def has_hvo(self) -> bool:
        """Whether the build has ``HUGETLB_PAGE_OPTIMIZE_VMEMMAP``."""
        return self.port.has_hvo if self.hvo is None else self.hvo

    @property
    def memmap_on_memory_rules(self) -> MemmapOnMemory:
        """The conditions of ``mhp_supports_memmap_on_memory()`` in this kernel; none on an architecture without it."""
        return self.profile.memmap_on_memory if self.port.has_memmap_on_memory else "none"

    @property
    def has_memblock(self) -> bool:
        """Whether memblock lives on after boot, so that hot-add and hot-remove keep it up to date."""
        return self.port.keeps_memblock if self.keep_memblock is None else self.keep_memblock

    @property
    def has_zone_dma(self) -> bool:
        """Whether the build has ZONE_DMA."""
        return self.port.has_zone_dma if self.zone_dma is None else self.zone_dma

    @cached_property
    def can_set_direct_map(self) -> bool:
        """Whether single pages of the direct map may change (arm64 ``can_set_direct_map()``; riscv and x86 always)."""
        return self.port.can_set_direct_map(self)

    @cached_property
    def direct_map_base_pages(self) -> bool:
        """Whether the direct map has base pages only."""
        return self.port.direct_map_base_pages(self)

    @cached_property
    def vmemmap_huge(self) -> bool:
        """Whether ``vmemmap_populate()`` tries PMD leaves for a whole section."""
        leaves = self.choices.vmemmap_leaves
        if not self.port.pmd_leaves(self):
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


def configs(profile: Profile | None = None, arches: Iterable[Arch] = ARCHES) -> list[Config]:
    """Every configuration that can exist, in the order profile, architecture, page size, width, CPU.

    A build that also runs on narrower CPUs comes twice, on a CPU with its width and on one without.
    """
    wanted = tuple(arches)
    return [
        Config(arch=arch, profile=each, page_size=page_size, va_bits=va_bits, lva=lva).validate()
        for each in (PROFILES.values() if profile is None else (profile,))
        for arch in each.arches
        if arch in wanted
        for page_size in port(arch).va_bits
        for va_bits in port(arch).va_bits_of(each.arch(arch), page_size)
        for lva in ((True, False) if port(arch).runs_on_narrower_cpus(va_bits) else (True,))
    ]
