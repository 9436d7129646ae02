"""Where the zones of boot memory end: ``arch_zone_limits_init()``, before 7.2 ``zone_sizes_init()``.

Of arch/riscv/mm/init.c, arch/arm64/mm/init.c and arch/x86/mm/init.c. What is hot-added later may be put into any zone
above these limits, which only say how free_area_init() divides the memory that is there at boot.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Config
from memhp.linux.mmzone import ZoneType
from memhp.spans import Span
from memhp.units import GiB, MiB, align_down

BITS_32 = 4 * GiB
"""The end of what 32 bits address."""

FIXED_LIMITS = {
    "riscv64": {ZoneType.DMA32: BITS_32},
    "x86_64": {ZoneType.DMA: 16 * MiB, ZoneType.DMA32: BITS_32},
}
"""Ends in bytes that no machine moves: ``dma32_phys_limit``; ``MAX_DMA_PFN`` and ``MAX_DMA32_PFN`` (asm/dma.h)."""


def zone_types(config: Config) -> tuple[ZoneType, ...]:
    """The zones that this kernel was built with, lowest first: ``enum zone_type``."""
    absent = set()
    if not config.has_zone_dma or (config.arch == "arm64" and config.arm64.dma_zone == "none"):
        absent.add(ZoneType.DMA)
    if not config.zone_dma32:
        absent.add(ZoneType.DMA32)
    return tuple(kind for kind in ZoneType if kind not in absent)


def zone_limits(config: Config, dram: Span, *, dma_limit: int | None = None) -> dict[ZoneType, int]:
    """The first PFN above each zone of boot memory, lowest zone first, for the zones that this kernel has.

    `dram` is from the first to the last byte of RAM that memblock knows. `dma_limit` is arm64's: one more than the
    highest address that all devices of the board reach, by ``dma-ranges`` in the device tree or by ACPI's IORT
    (``of_dma_get_max_cpu_address``, ``acpi_iort_dma_get_max_cpu_address``); None where the firmware sets no limit. A
    limit equal to that of the zone below makes an empty zone.
    """
    ends = _arm64_limits(config, dram, dma_limit) if config.arch == "arm64" else dict(FIXED_LIMITS[config.arch])
    ends[ZoneType.NORMAL] = dram.end
    return {kind: min(ends[kind], dram.end) >> config.page_shift for kind in zone_types(config) if kind in ends}


def _arm64_limits(config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
    """Ends in bytes of ZONE_DMA and ZONE_DMA32: arch/arm64/mm/init.c:max_zone_phys and its callers."""
    kind = config.arm64.dma_zone
    if kind == "none":
        return {ZoneType.DMA32: align_down(dram.start, BITS_32) + BITS_32}
    limit = dram.end if dma_limit is None else dma_limit
    if kind == "32-bit-if-ram-below":
        dma = min(limit, BITS_32) if dram.start < BITS_32 - 1 else limit
        return {ZoneType.DMA: dma, ZoneType.DMA32: BITS_32}
    bits = min((limit - 1).bit_length(), 32)
    return {ZoneType.DMA: _zone_mask(dram, 1 << bits), ZoneType.DMA32: _zone_mask(dram, BITS_32)}


def _zone_mask(dram: Span, end: int) -> int:
    """A zone that would end below the start of RAM ends at 4 GiB, or with RAM above that, nowhere (before 6.12)."""
    if dram.start >= BITS_32:
        return dram.end
    return BITS_32 if dram.start >= end else end
