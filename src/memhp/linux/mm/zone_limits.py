"""Where the zones of boot memory end: ``arch_zone_limits_init()``, before 7.2 ``zone_sizes_init()``.

What is hot-added later may be put into any zone above these limits, which only say how free_area_init() divides the
memory that is there at boot.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Config
from memhp.linux.mmzone import ZoneType
from memhp.spans import Span

KERNEL_FILE = "mm/mm_init.c"


def zone_types(config: Config) -> tuple[ZoneType, ...]:
    """The zones that this kernel was built with, lowest first: ``enum zone_type``."""
    absent = set()
    if not config.has_zone_dma or not config.port.has_dma_zone(config):
        absent.add(ZoneType.DMA)
    if not config.zone_dma32:
        absent.add(ZoneType.DMA32)
    if not config.zone_device:
        absent.add(ZoneType.DEVICE)
    return tuple(kind for kind in ZoneType if kind not in absent)


def zone_limits(config: Config, dram: Span, *, dma_limit: int | None = None) -> dict[ZoneType, int]:
    """The first PFN above each zone of boot memory, lowest zone first, for the zones that this kernel has.

    `dram` is from the first to the last byte of RAM that memblock knows. `dma_limit` is one more than the highest
    address that all devices of the board reach, by ``dma-ranges`` in the device tree or by ACPI's IORT
    (``of_dma_get_max_cpu_address``, ``acpi_iort_dma_get_max_cpu_address``); None where the firmware sets no limit. A
    limit equal to that of the zone below makes an empty zone.
    """
    ends = config.port.arch_zone_limits_init(config, dram, dma_limit)
    ends[ZoneType.NORMAL] = dram.end
    if config.port.zones_end_with_ram:
        ends = {kind: min(end, dram.end) for kind, end in ends.items()}
    return {kind: ends[kind] >> config.page_shift for kind in zone_types(config) if kind in ends}
