"""Sections: which are present, valid, early and online, and how they come and go: ``mm/sparse.c``.

Functions that the kernel calls once for each section take a run of whole sections as well. Its small allocations
(``mem_section`` roots, ``mem_section_usage``) take no frames here, but may fail under the explorer.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from errno import EEXIST, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.hw.lifetime import SlabObject, kfree, use_object
from memhp.hw.marked_map import MarkedMap
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.rcu import kfree_rcu, rcu_read_lock
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.compound_vmemmap import vmemmap_can_optimize, vmemmap_populate_compound_pages
from memhp.linux.mm.dev_pagemap import DevPagemap, get_dev_pagemap, put_dev_pagemap
from memhp.linux.mm.sparse_vmemmap import VmemmapPopulateError
from memhp.linux.mm.vmemmap_alloc import sparse_buffer_fini, sparse_buffer_init
from memhp.linux.mmzone import Section, section_field, subsection_map_field, usage_field
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down

KERNEL_FILE = "mm/sparse.c"
MEM_SECTION_SIZE = 16
"""``sizeof(struct mem_section)``: ``section_mem_map`` and ``usage``, without ``CONFIG_PAGE_EXTENSION``."""


@dataclass
class SectionRoots:
    """``mem_section[]``, which pages of it there are."""

    hot_added: set[int] = field(default_factory=set)
    """Those that hot-add brought; what boot memory has is told by its sections."""


# Boot --------------------------------------------------------------------------------------------------------


def sparse_init(k: Kernel) -> None:
    """Find the sections that hold boot memory and give each its struct pages."""
    memblocks_present(k)
    for nid, runs in _by_node(k):
        _sparse_init_nid(k, nid, runs)


def memblocks_present(k: Kernel) -> None:
    """Mark every section that any boot memory lies in; it belongs to the node of the first such memory."""
    per = k.config.pages_per_section
    for start, end, nid in k.memblock.for_each_mem_pfn_range():
        for gap in list(k.mem_section.gaps(start // per, -(-end // per))):
            k.mem_section.set(gap.start, gap.end, Section(nid, online=True, early=True))


def _by_node(k: Kernel) -> list[tuple[int, list[Span]]]:
    """The present sections in order, as (node, runs of section numbers); a node comes twice if it is split."""
    groups: list[tuple[int, list[Span]]] = []
    for start, end, section in k.mem_section:
        if not groups or groups[-1][0] != section.nid:
            groups.append((section.nid, []))
        groups[-1][1].append(Span(start, end))
    return groups


def _sparse_init_nid(k: Kernel, nid: int, runs: list[Span]) -> None:
    per = k.config.pages_per_section
    if k.config.profile.boot_vmemmap == "sparse-buffer":
        sparse_buffer_init(k, sum(run.size for run in runs), nid)
    try:
        for run in runs:
            addresses = k.layout.memmap(run.start * per, run.end * per)
            k.port.vmemmap_populate(k, addresses.start, addresses.end, nid, None)
    except VmemmapPopulateError as error:
        k.hw.log(f"sparse_init_nid: node[{nid}] memory map backing failed. Some memory will not be available.", "err")
        k.mem_section.clear(k.section_nr(k.layout.page_to_pfn(error.address)), runs[-1].end)
    finally:
        sparse_buffer_fini(k)


# What is there -----------------------------------------------------------------------------------------------


@dataclass
class SectionUsages:
    """Usage maps that are more than part of ``Kernel.subsection_map``."""

    by_section: MarkedMap[SlabObject] = field(default_factory=lambda: MarkedMap(usage_field))
    """Section number → the ``mem_section_usage`` of a section whose life is watched, until ``ms->usage`` is NULL."""


@kernel_function(None)
def usage_of(k: Kernel, section_nr: int) -> SlabObject | None:
    """What ``ms->usage`` leads to now; None: it is NULL. Boot's usage maps stay for good."""
    usages = k.statics(SectionUsages).by_section
    usage = usages.get(section_nr)
    if usage is None and not _needs_usage(k, section_nr * k.config.pages_per_section):
        usage = SlabObject(subsection_map_field(section_nr))
        if k.hw.is_watched:
            usages.note(section_nr, usage)
    return usage


@of_file("include/linux/mmzone.h")
def valid_section(k: Kernel, section_nr: int) -> bool:
    """Whether the section has struct pages."""
    return k.mem_section.get(section_nr) is not None


@of_file("include/linux/mmzone.h")
def early_section(k: Kernel, pfn: int) -> bool:
    """Whether the section of a page is there since boot."""
    section = k.mem_section.get(k.section_nr(pfn))
    return section is not None and section.early


@of_file("include/linux/mmzone.h")
def pfn_valid(k: Kernel, pfn: int) -> bool:
    """Whether a page has a struct page; in an early section every page has. Old arm64 kernels ask memblock too.

    Nobody has to hold a lock. That the section's usage map is there still when it is read, RCU takes care of, in
    kernels in which it does.
    """
    if k.config.profile.section_usage == "freed-at-once":
        return _pfn_valid(k, pfn)
    with rcu_read_lock(k.hw):
        return _pfn_valid(k, pfn)


def _pfn_valid(k: Kernel, pfn: int) -> bool:
    nr = k.section_nr(pfn)
    section = k.mem_section.get(nr)
    if section is None:
        return False
    if k.port.pfn_valid_asks_memblock(k.config, early=section.early):
        return k.memblock.memblock_is_map_memory(pfn << k.config.page_shift)
    return section.early or pfn_section_valid(k, pfn)


@of_file("include/linux/mmzone.h")
def pfn_section_valid(k: Kernel, pfn: int) -> bool:
    """Whether the sub-section of a page is valid: ``ms->usage`` is read, and then a bit of what it leads to.

    KernelBug where it is NULL and the kernel does not look for that.
    """
    nr = k.section_nr(pfn)
    k.hw.reads(usage_field(nr))
    usage = usage_of(k, nr)
    if usage is None:
        if k.config.profile.section_usage_null == "followed":
            raise KernelBug(f"NULL pointer dereference: {usage_field(nr)}", place=here())
        return False
    use_object(k.hw, usage, here())
    return pfn in k.subsection_map


@of_file("mm/memory_hotplug.c")
def pfn_to_online_page(k: Kernel, pfn: int) -> bool:
    """Whether ``pfn_to_online_page()`` gives a page for `pfn`: it is valid, online and no ZONE_DEVICE page.

    In a section that a device has part of, a page is a device's for as long as its mapping can be pinned: one of a
    mapping that was killed counts as online until it is unmapped, and one whose struct page is not initialised yet does
    not. Where an architecture has a ``pfn_valid()`` of its own, that is asked too. No lock is needed to call it, but
    without ``get_online_mems()`` the answer may be out of date at once, and the section's usage map may be freed while
    it is looked at: no kernel holds RCU here. mm/memory_hotplug.c:pfn_to_online_page.
    """
    with rcu_read_lock(k.hw) if k.config.profile.online_page_usage == "rcu" else nullcontext():
        section = k.mem_section.get(k.section_nr(pfn))
        if section is None or not section.online:
            return False
        if k.port.pfn_valid_asks_memblock(k.config, early=section.early) and not pfn_valid(k, pfn):
            return False
        if not pfn_section_valid(k, pfn):
            return False
    if not section.zone_device or k.config.profile.device_sections == "untold":
        return True
    pgmap = get_dev_pagemap(k, pfn)
    put_dev_pagemap(k, pgmap)
    return pgmap is None


@kernel_function("mm/memory_hotplug.c:pfn_to_online_page")
def online_runs(k: Kernel, start_pfn: int, end_pfn: int) -> Iterator[Span]:
    """The pages of ``[start_pfn, end_pfn)`` that lie in valid sub-sections of online sections, ascending."""
    per = k.config.pages_per_section
    for first, last, section in k.mem_section.runs(start_pfn // per, -(-end_pfn // per)):
        if section.online:
            yield from k.subsection_map.runs(max(start_pfn, first * per), min(end_pfn, last * per))


# Online and offline ------------------------------------------------------------------------------------------


def online_mem_sections(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Mark the sections of the pages ``start_pfn``, one section further, and so on up to `end_pfn` as online."""
    _set_online(k, start_pfn, end_pfn, online=True)


def offline_mem_sections(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """The opposite of :func:`online_mem_sections`."""
    _set_online(k, start_pfn, end_pfn, online=False)


@of_file("mm/memory_hotplug.c")
def section_taint_zone_device(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Note of the sections at the ends of a device's pages that others may have the rest: mm/memory_hotplug.c."""
    for pfn in (start_pfn, end_pfn):
        nr = k.section_nr(pfn)
        section = k.mem_section.get(nr)
        if pfn % k.config.pages_per_section and section is not None:
            k.mem_section.set(nr, nr + 1, section._replace(zone_device=True))


def _set_online(k: Kernel, start_pfn: int, end_pfn: int, *, online: bool) -> None:
    per = k.config.pages_per_section
    first = start_pfn // per
    last = first + -(-(end_pfn - start_pfn) // per)
    if not k.mem_section.covers(first, last):
        warn(k, f"mm/sparse.c:{'online' if online else 'offline'}_mem_sections")
    for at, count in k.hw.batches(first, last):
        k.hw.writes(section_field(at))
        for start, end, section in list(k.mem_section.runs(at, at + count)):
            k.mem_section.set(start, end, section._replace(online=online))


# Hot-add -----------------------------------------------------------------------------------------------------


def sparse_add_section(
    k: Kernel,
    nid: int,
    start_pfn: int,
    nr_pages: int,
    altmap: VmemAltmap | None = None,
    pgmap: DevPagemap | None = None,
) -> None:
    """Add part of a section, or a run of whole sections one after the other.

    Raises EEXIST at a section of which something is there already, ENOMEM when there is no memory for struct pages.
    Sections before the one that failed stay, as in the kernel's loop.
    """
    per = k.config.pages_per_section
    end_pfn = start_pfn + nr_pages
    taken = next(k.subsection_map.runs(start_pfn, end_pfn), None)
    stop = end_pfn if taken is None else max(start_pfn, align_down(taken.start, per))
    if stop > start_pfn:
        sparse_index_init(k, start_pfn // per)
        section_activate(k, nid, start_pfn, stop - start_pfn, altmap, pgmap)
        for gap in list(k.mem_section.gaps(start_pfn // per, -(-stop // per))):
            k.mem_section.set(gap.start, gap.end, Section(nid, online=False, early=False))
    if taken is not None:
        raise KernelError(
            EEXIST,
            f"section {k.section_nr(stop)} is there already",
            place=f"{KERNEL_FILE}:fill_subsection_map",
            advice="add memory where none has been added yet",
        )


def sparse_index_init(k: Kernel, section_nr: int) -> None:
    """Make sure that there is an array that the section's ``mem_section`` lies in. Raises ENOMEM.

    ``SECTIONS_PER_ROOT`` sections share a page (``CONFIG_SPARSEMEM_EXTREME``), which stays when they go.
    """
    per_root = k.config.page_size // MEM_SECTION_SIZE
    root = section_nr // per_root
    roots = k.statics(SectionRoots).hot_added
    if root in roots or k.mem_section.covered(root * per_root, (root + 1) * per_root):
        return
    if k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory for mem_section", place=here())
    roots.add(root)


def section_activate(
    k: Kernel, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None, pgmap: DevPagemap | None = None
) -> None:
    """Make sub-sections valid and populate their struct pages; the latter not within an early section, which has all.

    Raises :class:`VmemmapPopulateError`; sections before the one that failed stay populated and are marked present.
    """
    per = k.config.pages_per_section
    k.hw.reads(usage_field(pfn // per))
    if _needs_usage(k, pfn) and k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory for mem_section_usage", place=here())
    if _needs_usage(k, pfn):
        k.hw.writes(usage_field(pfn // per))
    k.subsection_map.add(pfn, pfn + nr_pages)
    if nr_pages < per and early_section(k, pfn):
        return
    try:
        populate_section_memmap(k, pfn, nr_pages, nid, altmap, pgmap)
    except VmemmapPopulateError as error:
        failed = max(pfn, align_down(k.layout.page_to_pfn(error.address), per))
        after = min(pfn + nr_pages, align_down(failed, per) + per)
        k.subsection_map.remove(after, pfn + nr_pages)
        if failed > pfn:
            k.mem_section.set(pfn // per, failed // per, Section(nid, online=False, early=False))
        section_deactivate(k, failed, after - failed, altmap)
        raise


def populate_section_memmap(
    k: Kernel, pfn: int, nr_pages: int, nid: int, altmap: VmemAltmap | None, pgmap: DevPagemap | None
) -> None:
    """Map the struct pages of a range: alike ones of a device's large pages share storage where that saves any.

    mm/sparse-vmemmap.c:__populate_section_memmap. Raises :class:`VmemmapPopulateError`.
    """
    if pgmap is not None and vmemmap_can_optimize(k.config, altmap, pgmap.vmemmap_shift):
        vmemmap_populate_compound_pages(k, pfn, nr_pages, nid, pgmap, k.port.vmemmap_builder(k))
        return
    addresses = k.layout.memmap(pfn, pfn + nr_pages)
    k.port.vmemmap_populate(k, addresses.start, addresses.end, nid, altmap)


def _needs_usage(k: Kernel, pfn: int) -> bool:
    """Whether the section has no ``mem_section_usage``: those of boot stay for good."""
    per = k.config.pages_per_section
    start = align_down(pfn, per)
    return not k.subsection_map.untold.covered(start, start + per) and not k.boot_memory.covered(start, start + per)


# Hot-remove --------------------------------------------------------------------------------------------------


def sparse_remove_section(k: Kernel, pfn: int, nr_pages: int, altmap: VmemAltmap | None = None) -> None:
    """Remove part of a section, or a run of whole sections one after the other."""
    per = k.config.pages_per_section
    end_pfn = pfn + nr_pages
    if not k.mem_section.covers(pfn // per, -(-end_pfn // per)):
        warn(k, here(), once=True)
    for first, last, _ in list(k.mem_section.runs(pfn // per, -(-end_pfn // per))):
        start, end = max(pfn, first * per), min(end_pfn, last * per)
        if k.subsection_map.covers(start, end):
            section_deactivate(k, start, end - start, altmap)
            continue
        for at in range(start, end, per):
            section_deactivate(k, at, min(end, align_down(at, per) + per) - at, altmap)


def section_deactivate(k: Kernel, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Make sub-sections invalid and free their struct pages: of part of a section, or of a run of alike sections.

    An early section keeps its struct pages until its last sub-section goes, and then frees them all; before 5.9 those
    of a part went with it. A section that nothing is left of is invalid (``SECTION_HAS_MEM_MAP``) before its struct
    pages go, and in kernels that free its usage map by RCU before that goes.
    """
    per = k.config.pages_per_section
    if not k.subsection_map.covers(pfn, pfn + nr_pages):
        warn(k, here(), f"section already deactivated ({pfn:#x} + {nr_pages})")
        return
    early = early_section(k, pfn)
    first, last = pfn // per, -(-(pfn + nr_pages) // per)
    watched = _watched_usages(k, first, last)
    k.subsection_map.remove(pfn, pfn + nr_pages)
    empty = not k.subsection_map.covered(first * per, last * per)
    boots = not early and k.boot_memory.covered(first * per, last * per)
    if empty and boots and k.config.profile.early_usage == "by-section":
        raise KernelBug("a usage map is freed that boot allocated, not the slab", place="mm/slub.c:kfree")
    freed = k.config.profile.section_usage if empty else ""
    if freed == "freed-at-once":
        for nr, usage in watched:
            kfree(k.hw, usage, here())
            _forget_usage(k, nr)
    if empty:
        k.mem_section.clear(first, last)
    if freed == "freed-after-grace-period":
        for nr, usage in watched:
            kfree_rcu(k.hw, usage, here())
            _forget_usage(k, nr)
    boot_memmap = early and empty
    if not early or empty or k.config.profile.early_memmap == "by-part":
        pages = Span(first * per, last * per) if boot_memmap else Span(pfn, pfn + nr_pages)
        addresses = k.layout.memmap(*pages)
        k.port.vmemmap_free(k, addresses.start, addresses.end, None if boot_memmap else altmap)


def _watched_usages(k: Kernel, first: int, last: int) -> list[tuple[int, SlabObject]]:
    """The usage maps that go when these sections are empty, by section: those of the slab, where somebody looks."""
    if not k.hw.is_watched:
        return []
    per = k.config.pages_per_section
    slabs = [nr for nr in range(first, last) if not k.boot_memory.covered(nr * per, nr * per + per)]
    return [(nr, usage) for nr in slabs if (usage := usage_of(k, nr)) is not None]


def _forget_usage(k: Kernel, section_nr: int) -> None:
    """``ms->usage = NULL``."""
    k.hw.writes(usage_field(section_nr))
    k.statics(SectionUsages).by_section.clear(section_nr, section_nr + 1)
