"""arm64: the layouts that hotplug has seen, as arch/arm64/include/asm/memory.h and pgtable.h of each lay them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from memhp.linux.addresses import ADDRESS_MASK, ADDRESS_SPACE
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import CONT_PMDS
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.linux.layout import Layout
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, align_down, align_up, div_round_up

KERNEL_FILE = "arch/arm64/include/asm/memory.h"
STRUCT_PAGE_MAX_SHIFT = 6
PCI_IO_SIZE = 16 * MiB
BPF_JIT_REGION_SIZE = 128 * MiB
KASAN_SHADOW_SCALE_SHIFT = 3
MAX_FDT_SIZE = 2 * MiB
OLD_FIX_FDT_SIZE = 4 * MiB
VA_BITS_MIN = {4 * KiB: 48, 16 * KiB: 47, 64 * KiB: 48}
"""What a kernel built for 52 bits falls back to on a CPU without LVA or LPA2."""


class Frame(NamedTuple):
    """What a version of the headers fixes: addresses as unsigned 64-bit numbers."""

    page_offset: int
    page_end: int
    kasan_end: int
    modules_start: int
    modules_size: int
    vmalloc_end: int
    vmemmap_start: int
    vmemmap_size: int
    pci_io_start: int
    fixaddr_top: int


def _neg(value: int) -> int:
    """``-UL(value)``."""
    return -value & ADDRESS_MASK


def page_end(bits: int) -> int:
    """``_PAGE_END(va)``: where the half of the address space below the other mappings ends."""
    return _neg(1 << (bits - 1))


def _kasan_size(config: Config) -> int:
    return 1 << (config.va_bits_actual - KASAN_SHADOW_SCALE_SHIFT) if config.kasan else 0


def _frame_5_3(config: Config) -> Frame:
    """The direct map in the upper half (``VA_START`` is the start of everything)."""
    bits = config.va_bits
    page_offset = _neg(1 << (bits - 1))
    size = 1 << (bits - config.page_shift - 1 + STRUCT_PAGE_MAX_SHIFT)
    pci_io_start = page_offset - size - 2 * MiB - PCI_IO_SIZE
    kasan_end = _neg(1 << bits) + _kasan_size(config)
    return Frame(
        page_offset=page_offset,
        page_end=ADDRESS_SPACE,
        kasan_end=kasan_end,
        modules_start=kasan_end + BPF_JIT_REGION_SIZE,
        modules_size=128 * MiB,
        vmalloc_end=page_offset - config.pud_size - size - 64 * KiB,
        vmemmap_start=page_offset - size,
        vmemmap_size=size,
        pci_io_start=pci_io_start,
        fixaddr_top=pci_io_start - 2 * MiB,
    )


def _frame_5_4(config: Config) -> Frame:
    """The direct map in the lower half, KASAN's shadow above it; the vmemmap just below the top."""
    size = (page_end(config.va_bits_min) - _neg(1 << config.va_bits)) >> (config.page_shift - STRUCT_PAGE_MAX_SHIFT)
    start = _neg(size + 2 * MiB)
    pci_io_start = start - 2 * MiB - PCI_IO_SIZE
    kasan_end = page_end(config.va_bits_min)
    if config.kasan:
        kasan_end += 1 << (config.va_bits_min - KASAN_SHADOW_SCALE_SHIFT)
    return Frame(
        page_offset=_neg(1 << config.va_bits),
        page_end=page_end(config.va_bits_actual),
        kasan_end=kasan_end,
        modules_start=kasan_end + BPF_JIT_REGION_SIZE,
        modules_size=128 * MiB,
        vmalloc_end=_neg(config.pud_size + size + 64 * KiB),
        vmemmap_start=start,
        vmemmap_size=size,
        pci_io_start=pci_io_start,
        fixaddr_top=pci_io_start - 2 * MiB,
    )


def _frame_5_11(config: Config, modules_size: int = 128 * MiB, bpf: int = BPF_JIT_REGION_SIZE) -> Frame:
    """The vmemmap as a projection of the whole address space: on a power of two."""
    shift = config.page_shift - STRUCT_PAGE_MAX_SHIFT
    start = _neg(1 << (config.va_bits - shift))
    return _flipped(
        config,
        modules_start=page_end(config.va_bits_min) + bpf,
        modules_size=modules_size,
        vmalloc_end=start - 256 * MiB,
        vmemmap_start=start,
        vmemmap_size=(page_end(config.va_bits_min) - _neg(1 << config.va_bits)) >> shift,
        pci_io_start=start - 8 * MiB - PCI_IO_SIZE,
        fixaddr_top=start - 32 * MiB,
    )


def _frame_6_9(config: Config) -> Frame:
    """The vmemmap ends 1 GiB below the top, PCI I/O and fixmap lie above it; 2 GiB of modules."""
    pages = (page_end(config.va_bits_min) - _neg(1 << config.va_bits)) >> config.page_shift
    size = pages * config.struct_page_size
    end = _neg(GiB)
    unused = (
        (_neg(1 << config.va_bits_actual) - _neg(1 << config.va_bits)) >> config.page_shift
    ) * config.struct_page_size
    return _flipped(
        config,
        modules_start=page_end(config.va_bits_min),
        modules_size=2 * GiB,
        vmalloc_end=end - size + unused - 8 * MiB,
        vmemmap_start=end - size,
        vmemmap_size=size,
        pci_io_start=end + 8 * MiB,
        fixaddr_top=_neg(8 * MiB),
    )


def _flipped(config: Config, **parts: int) -> Frame:
    """A frame with the direct map in the lower half and KASAN's shadow at its end."""
    end = page_end(config.va_bits_min)
    return Frame(page_offset=_neg(1 << config.va_bits), page_end=end - _kasan_size(config), kasan_end=end, **parts)


_FRAMES: dict[str, Callable[[Config], Frame]] = {
    "5.3": _frame_5_3,
    "5.4": _frame_5_4,
    "5.11": _frame_5_11,
    "5.17": partial(_frame_5_11, bpf=0),
    "6.4": partial(_frame_5_11, bpf=0),
    "6.5": partial(_frame_5_11, modules_size=2 * GiB, bpf=0),
    "6.9": _frame_6_9,
}


def memstart_align(config: Config) -> int:
    """``ARM64_MEMSTART_ALIGN``: arch/arm64/mm/init.c; bytes."""
    cont_pmd = config.shift(1) + CONT_PMDS[config.page_size].bit_length() - 1
    shift = {4 * KiB: config.shift(2), 16 * KiB: cont_pmd, 64 * KiB: config.shift(1)}[config.page_size]
    return max(1 << shift, config.section_size)


def memstart_addr(config: Config, ram: Span, linear_size: int) -> int:
    """``memstart_addr``: arch/arm64/mm/init.c:arm64_memblock_init; negative when PAGE_OFFSET stands for no memory.

    RAM that does not fit keeps its upper part. A 52-bit kernel on a smaller CPU moves RAM up to the part of the
    direct map that the CPU can address (before 5.11 by other means, to the same end).
    """
    if config.bases.memstart_addr is not None:
        return config.bases.memstart_addr
    align = memstart_align(config)
    start = align_down(ram.start, align)
    if start + linear_size < ram.end:
        start = align_up(ram.end - linear_size, align)
    return start - ((1 << config.va_bits) - (1 << config.va_bits_actual))


def vmalloc_size(page_size: int, va_bits: int, va_bits_actual: int) -> int:
    """Bytes of the vmalloc area (``VMALLOC_END - VMALLOC_START``, 6.9 and later).

    From the end of the modules at the end of the linear map of VA_BITS_MIN, up to 8 MiB below what of vmemmap is used.
    """
    va_bits_min = min(va_bits, VA_BITS_MIN[page_size]) if va_bits > 48 else va_bits
    page_end, page_offset = -(1 << (va_bits_min - 1)), -(1 << va_bits)
    vmemmap_start = -GiB - (page_end - page_offset) // page_size * (1 << STRUCT_PAGE_MAX_SHIFT)
    vmemmap_unused = (-(1 << va_bits_actual) - page_offset) // page_size * (1 << STRUCT_PAGE_MAX_SHIFT)
    return vmemmap_start + vmemmap_unused - 8 * MiB - (page_end + 2 * GiB)


def vmalloc_size_before_6_9(page_size: int, va_bits: int, modules: int) -> int:
    """Bytes of the vmalloc area from 6.0 to 6.8: from the end of `modules` bytes for modules to 256 MiB below vmemmap.

    vmemmap has room for the whole width, up to the top (``VMEMMAP_START``, ``VMEMMAP_SHIFT``).
    """
    va_bits_min = min(va_bits, VA_BITS_MIN[page_size]) if va_bits > 48 else va_bits
    vmemmap_start = -((1 << va_bits) // page_size * (1 << STRUCT_PAGE_MAX_SHIFT))
    return vmemmap_start - 256 * MiB - (-(1 << (va_bits_min - 1)) + modules)


def _fixmap_pages(config: Config) -> int:
    """Pages of the fixmap: arch/arm64/include/asm/fixmap.h; the slots of boot-time maps count since 6.4.

    Since 6.9 there is one for each of five levels of tables, and a boot-time map may begin anywhere in a page.
    """
    slots = config.fixmap_slots
    layout = arm64(config).layout
    if layout not in {"6.4", "6.5", "6.9"}:
        return OLD_FIX_FDT_SIZE // config.page_size + 3 + (6 if slots is None else slots)
    fdt = 1 + div_round_up(MAX_FDT_SIZE, config.page_size) + 1
    tables = 5 if layout == "6.9" else 4
    boot_maps = (256 * KiB // config.page_size + (layout == "6.9")) * 7
    return fdt + 3 + (9 if slots is None else slots) + boot_maps + tables


def _linear_base(config: Config, frame: Frame) -> int:
    """Where the direct map starts: ``_PAGE_OFFSET(vabits_actual)``."""
    return frame.page_offset if arm64(config).layout == "5.3" else _neg(1 << config.va_bits_actual)


def arm64_layout(config: Config, ram: Span, image_size: int) -> Layout:
    """The address space of an arm64 kernel whose RAM is `ram` and whose image has `image_size` bytes."""
    frame = _FRAMES[arm64(config).layout](config)
    linear = _linear_base(config, frame)
    start = memstart_addr(config, ram, frame.page_end - linear)
    modules_end = frame.modules_start + frame.modules_size
    kernel_start = modules_end if config.bases.kernel_start is None else config.bases.kernel_start

    vmemmap = Area("vmemmap", frame.vmemmap_start, frame.vmemmap_start + frame.vmemmap_size)
    kasan = Area("kasan", frame.kasan_end - _kasan_size(config), frame.kasan_end) if config.kasan else None
    fixmap = Area("fixmap", frame.fixaddr_top - _fixmap_pages(config) * config.page_size, frame.fixaddr_top)
    pci_io = Area("PCI I/O", frame.pci_io_start, frame.pci_io_start + PCI_IO_SIZE)
    direct_map = Area("direct map", linear, frame.page_end)
    parts = {
        "direct_map": direct_map,
        "vmalloc": Area("vmalloc", modules_end, frame.vmalloc_end),
        "modules": Area("modules", frame.modules_start, modules_end),
        "kernel": Area("kernel", kernel_start, kernel_start + align_up(image_size, config.page_size)),
    }
    linear_end = start + frame.page_end - frame.page_offset
    ends = {"none": ADDRESS_MASK, "MAX_PHYSMEM_BITS": (1 << config.max_physmem_bits) - 1, "PHYSMEM_END": linear_end - 1}
    return Layout(
        config=config,
        phys_offset=start,
        page_offset=frame.page_offset,
        vmemmap=vmemmap,
        fixmap=fixmap,
        pci_io=pci_io,
        kasan=kasan,
        vmemmap_start_pfn=start >> config.page_shift,
        vmemmap_lent=((linear - frame.page_offset) >> config.page_shift) * config.struct_page_size,
        physmem_end=ends[config.profile.pluggable_end],
        boot_limit=linear_end,
        markers=_markers(config, frame, parts, fixmap, pci_io, kasan),
        **parts,
    )


def _markers(
    config: Config, frame: Frame, parts: dict[str, Area], fixmap: Area, pci_io: Area, kasan: Area | None
) -> tuple[Marker, ...]:
    """The markers of arch/arm64/mm/ptdump.c, in the order of its table."""
    unused = (parts["direct_map"].start - frame.page_offset) >> config.page_shift
    vmemmap_start = frame.vmemmap_start
    if arm64(config).layout == "6.9":
        vmemmap_start += unused * config.struct_page_size
    vmemmap = Area("vmemmap", vmemmap_start, frame.vmemmap_start + frame.vmemmap_size)
    edges = ("start", "end")

    def both(area: Area, name: str) -> list[Marker]:
        return [Marker(at, f"{name} {edge}") for at, edge in zip((area.start, area.end), edges, strict=True)]

    shadow = both(kasan, "Kasan shadow") if kasan is not None else []
    modules = both(parts["modules"], "Modules")
    vmalloc = [Marker(parts["vmalloc"].start, "vmalloc() area"), Marker(parts["vmalloc"].end, "vmalloc() end")]
    linear = [Marker(frame.page_offset, "Linear Mapping start"), Marker(parts["direct_map"].end, "Linear Mapping end")]
    pci, fix = both(pci_io, "PCI I/O"), both(fixmap, "Fixmap")
    if arm64(config).layout == "6.9":
        return (*linear, *shadow, *modules, *vmalloc, *both(vmemmap, "vmemmap"), *pci, *fix)
    if arm64(config).layout == "5.3":
        direct = Marker(frame.page_offset, "Linear mapping")
        return (*shadow, *modules, *vmalloc, *fix, *pci, *both(vmemmap, "vmemmap"), direct)
    bpf_region = Area("bpf", frame.kasan_end, frame.modules_start)
    bpf = both(bpf_region, "BPF") if bpf_region.size else []
    return (*linear, *shadow, *bpf, *modules, *vmalloc, *fix, *pci, *both(vmemmap, "vmemmap"))
