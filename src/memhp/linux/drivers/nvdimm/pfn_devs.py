"""Where a namespace of persistent memory keeps its struct pages: ``drivers/nvdimm/pfn_devs.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from errno import EINVAL, ENXIO
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.config import Config
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import memremap_compat_align
from memhp.linux.place import here
from memhp.spans import Span
from memhp.units import KiB, align_down, align_up, format_size

KERNEL_FILE = "drivers/nvdimm/pfn_devs.c"
PfnMode = Literal["mem", "dev"]
"""Struct pages in RAM (``PFN_MODE_RAM``, ``map=mem``) or on the device (``PFN_MODE_PMEM``, ``map=dev``)."""

SZ_8K = 8 * KiB
MAX_STRUCT_PAGE_SIZE = 64
"""What is set aside for each struct page, whatever size this kernel's has."""


@dataclass(frozen=True)
class PfnInfo:
    """``struct nd_pfn_sb``, the info block that makes a namespace a device with struct pages. Bytes."""

    mode: PfnMode
    dataoff: int
    """From the start of the namespace to the data."""
    align: int
    end_trunc: int
    """What alignment loses at the end."""


def nd_pfn_init(config: Config, namespace: Span, mode: PfnMode, align: int) -> PfnInfo:
    """The info block for a namespace (physical bytes). Raises EINVAL when it is misaligned, ENXIO when it is too small.

    Struct pages on the device get what the largest would need, rounded so that the data is aligned to `align`.
    """
    compat = memremap_compat_align(config)
    if namespace.start % compat:
        text = f"start {namespace.start:#x} misaligned to {compat:#x}"
        raise KernelError(
            EINVAL, text, place=here(), advice=f"start the namespace at a multiple of {format_size(compat)}"
        )
    unit = max(align, compat)
    end_trunc = namespace.end - align_down(namespace.end, unit)
    first = namespace.start + SZ_8K
    if mode == "dev":
        first += MAX_STRUCT_PAGE_SIZE * ((namespace.size - SZ_8K) >> config.page_shift)
    offset = align_up(first, unit) - namespace.start
    if offset >= namespace.size - end_trunc:
        advice = "take a larger namespace, a smaller alignment, or map=mem"
        raise KernelError(ENXIO, "unable to satisfy requested alignment", place=here(), advice=advice)
    return PfnInfo(mode, offset, align, end_trunc)


def nd_info_block_reserve(config: Config) -> int:
    """Bytes at the start of a namespace for the info block."""
    return align_up(SZ_8K, config.page_size)


def nvdimm_setup_pfn(config: Config, namespace: Span, info: PfnInfo) -> DevPagemap:
    """The mapping of a namespace, with an altmap when its struct pages lie on the device itself."""
    span = Span(namespace.start, namespace.end - info.end_trunc)
    altmap = None
    if info.mode == "dev":
        base = span.start >> config.page_shift
        aligned = align_down(base, config.pages_per_subsection)
        reserve = nd_info_block_reserve(config)
        altmap = VmemAltmap(
            base_pfn=aligned,
            end_pfn=(span.end - 1) >> config.page_shift,
            free=(info.dataoff - reserve) >> config.page_shift,
            reserve=(reserve >> config.page_shift) + base - aligned,
        )
    return DevPagemap(MemoryType.GENERIC, (span,), altmap)
