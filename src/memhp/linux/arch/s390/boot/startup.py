"""s390: where the kernel keeps what, ``arch/s390/boot/startup.c:setup_kernel_memory_layout``, as its notes tell.

What a boot chose is noted: vmemmap, VMALLOC_START, the image's place, the identity mapping's base. The rest follows on:
modules lie below the image, the absolute lowcore and the page through which real memory is copied below vmalloc. How
much memory the identity mapping has room for, and where the image ends, is seen in the tables. KFENCE's pool is not
noted, and has no section.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cmp_to_key
from typing import NamedTuple

import numpy as np

from memhp.hw.ranges import Ranges
from memhp.linux.arch.s390.format import IEP
from memhp.linux.areas import Area, Marker
from memhp.linux.memory_maps import MemoryMaps
from memhp.linux.port import WRITABLE, LeafRule, Root, VmCoreNotes
from memhp.linux.tables_port import NotedAreas
from memhp.spans import Span
from memhp.units import GiB, MiB

KERNEL_FILE = "arch/s390/boot/startup.c"
LOWCORE = 8192
"""``sizeof(struct lowcore)``."""
LOWCORE_ALT_ADDRESS = 0x70000
"""Where the lowcore is mapped if the machine relocates it (arch/s390/include/asm/lowcore.h)."""
MODULES = 2 * GiB
"""``MODULES_LEN``."""
SECTION_BITS = 27


class _Section(NamedTuple):
    """Two markers of the dump, ``NAME Start`` and ``NAME End``."""

    name: str
    start: int
    end: int


def noted_areas(info: VmCoreNotes, root: Root, found: Ranges) -> NotedAreas:
    """The areas and the dump's sections of a kernel of 6.10 or later, whose image is not in the identity mapping.

    Of an older one the sections of the image and below 2 GiB are known only.
    """
    amode31 = _Section("Amode31 Area", info.integer("SAMODE31", 16), info.integer("EAMODE31", 16))
    stext = info.symbol("_stext")
    image = _Section("Kernel Image", stext, _mapped_to(found, stext))
    if not info.noted("KERNELOFFPHYS"):
        return NotedAreas((Area("kernel", image.start, image.end),), _markers((image, amode31)))
    base, vmemmap = info.integer("IDENTITYBASE", 16), info.symbol("vmemmap")
    inside = found.mapped & (found.va >= np.uint64(base)) & (found.va < np.uint64(vmemmap))
    end = int((found.va + found.size)[inside].max(initial=base))
    per_page = info.integer("SIZE(page)")
    pages = -(-(end - base) >> SECTION_BITS) << SECTION_BITS - root.fmt.page_shift
    modules_end = info.integer("KERNELOFFSET", 16) // MiB * MiB
    vmalloc = info.number("VMALLOC_START")
    copied = vmalloc - root.fmt.page_size
    lowcores = (copied - info.integer("LENGTH(lowcore_ptr)") * LOWCORE) // LOWCORE * LOWCORE
    sections = (
        image,
        _Section("Lowcore", 0, LOWCORE),
        _Section("Identity Mapping", base, end),
        amode31,
        _Section("Modules Area", modules_end - MODULES, modules_end),
        _Section("Lowcore Area", lowcores, lowcores + info.integer("LENGTH(lowcore_ptr)") * LOWCORE),
        _Section("Real Memory Copy Area", copied, vmalloc),
        _Section("vmemmap Area", vmemmap, vmemmap + pages * per_page),
        _Section("vmalloc Area", vmalloc, modules_end - MODULES),
    )
    names = {
        "Identity Mapping": "direct map",
        "vmemmap Area": "vmemmap",
        "vmalloc Area": "vmalloc",
        "Modules Area": "modules",
        "Kernel Image": "kernel",
        "Lowcore Area": "lowcore",
    }
    areas = (Area(names[each.name], each.start, each.end) for each in sections if each.name in names)
    maps = MemoryMaps(
        page_shift=root.fmt.page_shift,
        section_size=1 << SECTION_BITS,
        direct_map=Span(base, end),
        direct_map_base=base,
        vmemmap=Span(vmemmap, vmemmap + pages * per_page),
        vmemmap_usable=Span(vmemmap, vmemmap + pages * per_page),
        vmemmap_base=vmemmap,
        struct_page_size=per_page,
        memmap_leaf=MiB,
        data_rules=_data_rules(found),
        set_apart=tuple(Span(at, at + LOWCORE) for at in (0, LOWCORE_ALT_ADDRESS)),
    )
    return NotedAreas(tuple(sorted(areas, key=lambda area: area.start)), _markers(sections), maps)


def _data_rules(found: Ranges) -> tuple[LeafRule, ...]:
    """``PAGE_KERNEL``; a machine without instruction-execution protection has it in no entry."""
    protects = bool((found.bits[found.mapped] & np.uint64(IEP)).any())
    return (LeafRule(WRITABLE, "P", (0,)), *((LeafRule("executable", "IEP", (1,)),) if protects else ()))


def _mapped_to(found: Ranges, va: int) -> int:
    """Where what is mapped from `va` on ends."""
    for start, size, mapped in zip(found.va.tolist(), found.size.tolist(), found.mapped.tolist(), strict=True):
        if mapped and start <= va < start + size:
            va = start + size
    return va


def _markers(sections: tuple[_Section, ...]) -> tuple[Marker, ...]:
    """The markers in the order of ``ptdump_cmp()`` (arch/s390/mm/dump_pagetables.c): what is inside follows."""
    ends = [(each, is_start) for each in sections for is_start in (True, False)]
    found = (Marker(each.start if start else each.end, f"{each.name} {'Start' if start else 'End'}")
             for each, start in sorted(ends, key=cmp_to_key(_order)))  # fmt: skip
    return (Marker(0, "Kernel Virtual Address Space"), *found)


def _order(one: tuple[_Section, bool], other: tuple[_Section, bool]) -> int:
    (a, a_starts), (b, b_starts) = one, other
    at, there = a.start if a_starts else a.end, b.start if b_starts else b.end
    sizes = (a.end - a.start) - (b.end - b.start)
    if at != there:
        return -1 if at < there else 1
    if a_starts != b_starts:
        return 1 if a_starts else -1
    return -sizes if a_starts else sizes
