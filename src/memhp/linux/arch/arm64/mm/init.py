"""arm64: where the zones of boot memory end, and which pages have struct pages: ``arch/arm64/mm/init.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.generic import BITS_32
from memhp.linux.config import Config
from memhp.linux.mmzone import ZoneType
from memhp.spans import Span
from memhp.units import align_down

KERNEL_FILE = "arch/arm64/mm/init.c"


def has_dma_zone(config: Config) -> bool:
    """Since 5.5."""
    return arm64(config).dma_zone != "none"


def pfn_valid_asks_memblock(config: Config, *, early: bool) -> bool:
    """arm64's own ``pfn_valid()``, until 5.14."""
    asks = arm64(config).pfn_valid
    return asks == "memblock" or (asks == "memblock-if-early" and early)


def arch_zone_limits_init(config: Config, dram: Span, dma_limit: int | None) -> dict[ZoneType, int]:
    """Ends in bytes of ZONE_DMA and ZONE_DMA32: arch/arm64/mm/init.c:max_zone_phys and its callers."""
    kind = arm64(config).dma_zone
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
