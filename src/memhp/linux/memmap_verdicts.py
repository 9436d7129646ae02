"""Which kernels can keep the struct pages of added memory in that memory: a row for each configuration and mode."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from dataclasses import replace

import msgspec

from memhp.linux.choices import Arch
from memhp.linux.config import Config, MemmapOnMemoryMode
from memhp.linux.drivers.base.block_size import MEM_SIZE_FOR_LARGE_BLOCK, memory_block_size_bytes
from memhp.linux.mm.memory_hotplug_memmap import (
    memmap_on_memory_verdict,
    memory_block_memmap_on_memory_pages,
    memory_block_memmap_size,
)
from memhp.units import div_round_up

MODES: dict[str, tuple[MemmapOnMemoryMode, ...]] = {
    "none": ("N",),
    "one-block": ("N", "Y"),
    "one-block-or-force": ("N", "Y", "force"),
    "many-blocks": ("N", "Y", "force"),
}
"""What ``memory_hotplug.memmap_on_memory`` can be, by the rules of a kernel."""


class ConditionRow(msgspec.Struct, frozen=True):
    """One condition that the kernel checks."""

    name: str
    met: bool
    why_not: str
    """Empty if it is met."""


class MemmapRow(msgspec.Struct, frozen=True):
    """One configuration with one size of memory blocks. Sizes are bytes."""

    profile: str
    arch: Arch
    page_size: int
    va_bits: int
    va_bits_actual: int
    memory_block_size: int
    mode: MemmapOnMemoryMode
    supported: bool
    conditions: list[ConditionRow]
    """In the kernel's order; it stops at the first that is not met."""
    memmap_size: int
    """Struct pages of a memory block."""
    memmap_pages: int
    """Pages of a memory block that are set aside for them if this is supported."""
    wasted_pages: int
    """Of those, pages that hold none: what ``force`` announces."""


def memmap_rows(configs: Iterable[Config], ram_size: int) -> Iterator[MemmapRow]:
    """Every mode of each configuration, with the memory blocks of a machine with `ram_size` bytes of RAM.

    And with those of bare metal with 64 GiB, where they are larger.
    """
    for config in configs:
        large = memory_block_size_bytes(replace(config, hypervisor=False), MEM_SIZE_FOR_LARGE_BLOCK)
        for block in sorted({memory_block_size_bytes(config, ram_size), large}):
            for mode in MODES[config.memmap_on_memory_rules]:
                yield memmap_row(replace(config, memmap_on_memory=mode).validate(), block)


def memmap_row(config: Config, block_size: int) -> MemmapRow:
    """The verdict on one configuration with memory blocks of `block_size` bytes, one block to be added."""
    conditions = memmap_on_memory_verdict(config, block_size, block_size)
    size = memory_block_memmap_size(config, block_size)
    pages = memory_block_memmap_on_memory_pages(config, block_size)
    return MemmapRow(
        profile=config.profile.name,
        arch=config.arch,
        page_size=config.page_size,
        va_bits=config.va_bits,
        va_bits_actual=config.va_bits_actual,
        memory_block_size=block_size,
        mode=config.memmap_on_memory,
        supported=not any(each.unmet for each in conditions),
        conditions=[ConditionRow(each.name, not each.unmet, each.unmet) for each in conditions],
        memmap_size=size,
        memmap_pages=pages,
        wasted_pages=pages - div_round_up(size, config.page_size),
    )
