"""The tree of physical address ranges behind ``/proc/iomem``: ``kernel/resource.c``.

These are functions over a plain tree of :class:`Resource`. Callers hold ``resource_lock`` around them, as the kernel's
own functions do inside. ``IORESOURCE_MUXED``, whose holders others wait for, is not part of it: no memory path uses it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from errno import EBUSY, EINVAL, ERANGE
from itertools import chain, pairwise
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.linux.choices import ResourceSplit
from memhp.units import align_up

KERNEL_FILE = "kernel/resource.c"
IORESOURCE_TYPE_BITS = 0x0000_1F00
IORESOURCE_IO = 0x0000_0100
IORESOURCE_MEM = 0x0000_0200
IORESOURCE_EXT_TYPE_BITS = 0x0100_0000
IORESOURCE_SYSRAM = 0x0100_0000
IORESOURCE_SYSTEM_RAM = IORESOURCE_MEM | IORESOURCE_SYSRAM
IORESOURCE_SYSRAM_DRIVER_MANAGED = 0x0200_0000
IORESOURCE_SYSRAM_MERGEABLE = 0x0400_0000
IORESOURCE_EXCLUSIVE = 0x0800_0000
IORESOURCE_BUSY = 0x8000_0000

IORES_DESC_NONE = 0
IORES_DESC_CRASH_KERNEL = 1
IORES_DESC_ACPI_TABLES = 2
IORES_DESC_ACPI_NV_STORAGE = 3
IORES_DESC_PERSISTENT_MEMORY = 4
IORES_DESC_PERSISTENT_MEMORY_LEGACY = 5
IORES_DESC_DEVICE_PRIVATE_MEMORY = 6
IORES_DESC_RESERVED = 7
IORES_DESC_SOFT_RESERVED = 8
IORES_DESC_CXL = 9

BUSY_SYSTEM_RAM = IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY
"""What :func:`walk_system_ram_range` looks for and :func:`merge_system_ram_resource` demands."""


class Region(Enum):
    """What :func:`region_intersects` answers (``include/linux/mm.h``)."""

    REGION_INTERSECTS = 0
    """Only resources of that kind, and perhaps holes."""
    REGION_DISJOINT = 1
    """No resource of that kind."""
    REGION_MIXED = 2
    """Resources of that kind and others."""


class Extent(NamedTuple):
    """What a resource is in its tree; ends are included."""

    start: int
    end: int
    flags: int
    parent: "Resource | None"


@dataclass(eq=False)
class Resource:
    """``struct resource``: bytes `start` to `end`, both included. `children` are disjoint and ascending.

    A root may keep a log, `written`: every resource below it that is written, or made somebody's parent, and what it
    was before the first time.
    """

    start: int
    end: int
    name: str
    flags: int = IORESOURCE_MEM
    desc: int = IORES_DESC_NONE
    parent: "Resource | None" = field(default=None, repr=False)
    children: "list[Resource]" = field(default_factory=list, repr=False)
    written: "dict[Resource, Extent] | None" = field(default=None, init=False, repr=False)

    def __setattr__(self, name: str, value: object) -> None:
        if name in Extent._fields:
            self._log()
            if isinstance(value, Resource):
                value._log()
        super().__setattr__(name, value)

    def _log(self) -> None:
        """Keep what it is now; its fields are read past those who watch what the kernel reads."""
        top = here = self.__dict__
        while top.get("parent") is not None:
            top = top["parent"].__dict__
        if top.get("written") is not None:
            top["written"].setdefault(self, Extent(*map(here.__getitem__, Extent._fields)))

    @property
    def size(self) -> int:
        """Bytes: ``resource_size()``."""
        return self.end - self.start + 1

    def __str__(self) -> str:
        """Name and range, the range as the kernel's ``%pR`` prints it."""
        return f"{self.name} [mem {self.start:#010x}-{self.end:#010x}]"


def iomem_root(phys_bits: int = 64) -> Resource:
    """A fresh ``iomem_resource``; x86 ends it at the CPU's physical address width (``setup_arch()``)."""
    return Resource(0, (1 << phys_bits) - 1, "PCI mem")


def iter_resources(root: Resource, depth: int = 0) -> Iterator[tuple[int, Resource]]:
    """Every resource below `root` in the order of ``/proc/iomem``, with its depth (0: child of `root`)."""
    for child in root.children:
        yield depth, child
        yield from iter_resources(child, depth + 1)


def _position(parent: Resource, start: int) -> int:
    """The index of the first child of `parent` that does not end below `start`."""
    return bisect_left(parent.children, start, key=lambda child: child.end)


def _overlapping(parent: Resource, start: int, end: int) -> list[Resource]:
    """The children of `parent` that share a byte with ``start..end``, ascending."""
    at = _position(parent, start)
    stop = at
    while stop < len(parent.children) and parent.children[stop].start <= end:
        stop += 1
    return parent.children[at:stop]


def request_resource_conflict(root: Resource, new: Resource) -> Resource | None:
    """Make `new` a child of `root`; the resource in the way, or `root` itself when `new` does not fit inside.

    ``kernel/resource.c:__request_resource``.
    """
    if new.end < new.start or new.start < root.start or new.end > root.end:
        return root
    at = _position(root, new.start)
    if at < len(root.children) and root.children[at].start <= new.end:
        return root.children[at]
    root.children.insert(at, new)
    new.parent = root
    return None


def _busy(new: Resource, conflict: Resource, function: str) -> KernelError:
    reason, advice = f"{new} conflicts with {conflict}", f"choose a range clear of {conflict}"
    return KernelError(EBUSY, reason, place=f"kernel/resource.c:{function}", advice=advice)


def request_resource(root: Resource, new: Resource) -> None:
    """``request_resource()``: `new` becomes a child of `root`. Raises EBUSY on any overlap with a child."""
    if conflict := request_resource_conflict(root, new):
        raise _busy(new, conflict, "request_resource")


def insert_resource_conflict(parent: Resource, new: Resource) -> Resource | None:
    """Put `new` where its range belongs, over what lies inside it; the resource in the way, if one is.

    It goes down into a resource that holds `new` and more; resources within `new`, an equal one too, become its
    children; one that overlaps it in part is the conflict. ``kernel/resource.c:__insert_resource``.
    """
    while conflict := request_resource_conflict(parent, new):
        if conflict in (parent, new):
            return conflict
        if conflict.start > new.start or conflict.end < new.end:
            break
        if (conflict.start, conflict.end) == (new.start, new.end):
            break
        parent = conflict
    else:
        return None
    inside = _overlapping(parent, new.start, new.end)
    for child in inside:
        if child.start < new.start or child.end > new.end:
            return child
    at = _position(parent, new.start)
    parent.children[at : at + len(inside)] = [new]
    new.parent = parent
    new.children = inside
    for child in inside:
        child.parent = new
    return None


def insert_resource(parent: Resource, new: Resource) -> None:
    """``insert_resource()``: as :func:`insert_resource_conflict`. Raises EBUSY on a partial overlap."""
    if conflict := insert_resource_conflict(parent, new):
        raise _busy(new, conflict, "insert_resource")


def _unlink(old: Resource, replacement: Iterable[Resource], function: str) -> None:
    parent = old.parent
    if parent is None or old not in parent.children:
        raise KernelError(EINVAL, f"{old} is not in the tree", place=f"kernel/resource.c:{function}")
    at = parent.children.index(old)
    parent.children[at : at + 1] = replacement
    old.parent = None


def release_resource(old: Resource) -> None:
    """``release_resource()``: take `old` and all below it out. Raises EINVAL when it is in no tree."""
    _unlink(old, (), "release_resource")


def remove_resource(old: Resource) -> None:
    """``remove_resource()``: take `old` out, its children move up into its place. Raises EINVAL as above."""
    parent, children = old.parent, old.children
    _unlink(old, children, "remove_resource")
    for child in children:
        child.parent = parent
    old.children = []


def adjust_resource(res: Resource, start: int, size: int) -> None:
    """``adjust_resource()``: give `res` this range. Raises EBUSY when parent, neighbours or children are in the way."""
    wanted = Resource(start, start + size - 1, res.name)
    in_the_way = [child for child in res.children if child.start < start or child.end > wanted.end]
    if parent := res.parent:
        if start < parent.start or wanted.end > parent.end:
            in_the_way.append(parent)
        at = parent.children.index(res)
        in_the_way += [below for below in parent.children[:at] if start <= below.end]
        in_the_way += [above for above in parent.children[at + 1 :] if above.start <= wanted.end]
    if in_the_way:
        raise _busy(wanted, in_the_way[0], "adjust_resource")
    res.start, res.end = start, wanted.end


def request_region(parent: Resource, start: int, n: int, name: str, flags: int = 0) -> Resource:
    """``__request_region()``: claim `n` bytes from `start`; gives the new busy resource.

    It is put below every resource on the way that holds the range and is not ``IORESOURCE_BUSY``, and inherits type,
    extended type and descriptor from its parent. Raises EBUSY (where the kernel answers NULL) when anything else
    overlaps the range.
    """
    res = Resource(start, start + n - 1, name)
    while True:
        res.flags = parent.flags & (IORESOURCE_TYPE_BITS | IORESOURCE_EXT_TYPE_BITS) | IORESOURCE_BUSY | flags
        res.desc = parent.desc
        conflict = request_resource_conflict(parent, res)
        if conflict is None:
            return res
        if conflict is parent or conflict.flags & IORESOURCE_BUSY:
            raise _busy(res, conflict, "__request_region")
        parent = conflict


def _holders(root: Resource, start: int, end: int) -> Iterator[Resource]:
    """The chain of resources that hold ``start..end`` whole, from the outermost in, down to the first busy one."""
    parent = root
    while True:
        at = _position(parent, end)
        if at == len(parent.children) or parent.children[at].start > start:
            return
        parent = parent.children[at]
        yield parent
        if parent.flags & IORESOURCE_BUSY:
            return


def release_region(parent: Resource, start: int, n: int) -> bool:
    """``__release_region()``: give back what :func:`request_region` claimed with the same range.

    False when no busy resource has exactly this range, where the kernel only warns: ``Trying to free nonexistent
    resource``. What lies below the resource goes with it.
    """
    for res in _holders(parent, start, start + n - 1):
        if res.flags & IORESOURCE_BUSY and (res.start, res.size) == (start, n):
            release_resource(res)
            return True
    return False


def release_mem_region_adjustable(
    root: Resource, start: int, size: int, *, split: ResourceSplit = "children-move"
) -> bool:
    """``release_mem_region_adjustable()``: take a range out of the busy resource that holds it, cutting it to fit.

    A cut in the middle leaves a new resource above the hole; children that lie there move into it (since 6.18), or stay
    with the lower half and forbid the cut, as `split` says. False when the range stays claimed: no busy resource holds
    it, or a child is in the way, for which the kernel has a warning and no error. (A child within the range itself
    makes 7.2 lose those above it: they had moved to the half that is then not linked. With
    ``children-move-after`` they have not.)
    """
    end = start + size - 1
    for res in _holders(root, start, end):
        if not res.flags & IORESOURCE_MEM:
            return False
        if res.flags & IORESOURCE_BUSY:
            break
    else:
        return False
    if res.start == start and res.end == end:
        release_resource(res)
        return True
    above = [child for child in res.children if child.start > end] if split != "children-stay" else []
    upper = Resource(end + 1, res.end, res.name, res.flags, res.desc, res.parent, above)
    before, in_middle = res.children, res.start < start and res.end > end
    try:
        if not in_middle:
            low, high = (end + 1, res.end) if res.start == start else (res.start, start - 1)
            adjust_resource(res, low, high - low + 1)
            return True
        res.children = [child for child in res.children if child not in above]
        adjust_resource(res, res.start, start - res.start)
    except KernelError:
        if split == "children-move-after":
            res.children = before
        return False
    for child in above:
        child.parent = upper
    assert res.parent is not None
    res.parent.children.insert(res.parent.children.index(res) + 1, upper)
    return True


def _mergeable(low: Resource, high: Resource) -> bool:
    same = (low.flags, low.name, low.desc) == (high.flags, high.name, high.desc)
    return same and low.end + 1 == high.start and not low.children and not high.children


def merge_system_ram_resource(res: Resource) -> Resource:
    """``merge_system_ram_resource()``: mark `res` mergeable and join it with equal neighbours; the one that is left.

    Neighbours merge when flags (so they must be marked as well), name and descriptor are the same, they touch, and
    neither has children. Does nothing unless `res` is busy System RAM, where the kernel warns.
    """
    if res.flags & BUSY_SYSTEM_RAM != BUSY_SYSTEM_RAM or res.parent is None:
        return res
    res.flags |= IORESOURCE_SYSRAM_MERGEABLE
    siblings = res.parent.children
    at = siblings.index(res)
    for low, high in reversed(list(pairwise(siblings[max(at - 1, 0) : at + 2]))):
        if _mergeable(low, high):
            low.end = high.end
            siblings.remove(high)
            high.parent = None
            res = low
    return res


def _find_next(root: Resource, start: int, end: int, flags: int, desc: int) -> Resource | None:
    """The first resource in tree order that meets ``start..end`` and matches, clipped: ``find_next_iomem_res()``."""
    for at in range(_position(root, start), len(root.children)):
        top = root.children[at]
        for res in chain([top], (below for _, below in iter_resources(top))):
            if res.start > end:
                return None
            if res.end >= start and _is_type_match(res, flags, desc):
                return Resource(max(start, res.start), min(end, res.end), res.name, res.flags, res.desc, res.parent)
    return None


def _is_type_match(res: Resource, flags: int, desc: int) -> bool:
    return res.flags & flags == flags and desc in (IORES_DESC_NONE, res.desc)


def walk_iomem_res_desc(root: Resource, desc: int, flags: int, start: int, end: int) -> Iterator[Resource]:
    """The parts of resources with these flags and descriptor within ``start..end``, both included, ascending.

    Each is a copy clipped to the range. ``IORES_DESC_NONE`` matches any descriptor. As in the kernel a range of one
    byte finds nothing, and the tree may change between two steps.
    """
    while start < end and (res := _find_next(root, start, end, flags, desc)):
        yield res
        start = res.end + 1


def walk_system_ram_range(root: Resource, start_pfn: int, nr_pages: int, page_shift: int) -> Iterator[tuple[int, int]]:
    """``(pfn, nr_pages)`` of every run of whole pages of busy System RAM in the range, ascending.

    The kernel's callback may stop the walk with a non-zero result: so may the caller of this iterator. As in the kernel
    a first resource without a whole page ends it (``ret`` is still ``-EINVAL`` then).
    """
    start, end = start_pfn << page_shift, (start_pfn + nr_pages << page_shift) - 1
    found = False
    for res in walk_iomem_res_desc(root, IORES_DESC_NONE, BUSY_SYSTEM_RAM, start, end):
        pfn = align_up(res.start, 1 << page_shift) >> page_shift
        end_pfn = res.end + 1 >> page_shift
        if end_pfn > pfn:
            found = True
            yield pfn, end_pfn - pfn
        elif not found:
            return


def region_intersects(
    root: Resource, start: int, size: int, flags: int, desc: int = IORES_DESC_NONE, *, descends: bool = True
) -> Region:
    """``region_intersects()``: what kinds of resource share bytes with `size` bytes from `start`.

    A child of `root` of another kind counts only where matching resources below it leave part of it uncovered; before
    6.12 nobody looked below it (`descends`).
    """
    matching = other = False
    end = start + size - 1
    for top in _overlapping(root, start, end):
        if _is_type_match(top, flags, desc):
            matching = True
            continue
        uncovered, last = max(top.start, start), min(top.end, end)
        for _, res in iter_resources(top) if descends else ():
            if res.start > end or res.end < start or not _is_type_match(res, flags, desc):
                continue
            matching = True
            if res.start > uncovered:
                break
            uncovered = max(uncovered, res.end + 1)
        other |= uncovered <= last
    if not matching:
        return Region.REGION_DISJOINT
    return Region.REGION_MIXED if other else Region.REGION_INTERSECTS


def request_free_mem_region(
    root: Resource, base: Resource, size: int, name: str, *, align: int, physmem_end: int
) -> Resource:
    """``request_free_mem_region()``: claim the highest free range below `base` and `physmem_end`, for device memory.

    `size` is rounded up to `align` bytes (``GFR_DEFAULT_ALIGN``: a section). Candidates go down from the last byte in
    steps of `align`; the first that no child of `base` touches is requested from `root` (``iomem_resource``). Raises
    ERANGE when there is none, or when the one found is taken elsewhere in the tree.
    """
    size = align_up(size, align)
    addr = min(base.end, physmem_end) - size + 1
    while addr > align and addr >= base.start:
        if obstacles := _overlapping(base, addr, addr + size - 1):
            addr -= align_up(addr + size - obstacles[0].start, align)
            continue
        try:
            res = request_region(root, addr, size, name)
        except KernelError:
            break
        res.desc = IORES_DESC_DEVICE_PRIVATE_MEMORY
        return res
    reason = f"no {size:#x} free bytes below {min(base.end, physmem_end):#x} in {base}"
    raise KernelError(ERANGE, reason, place=f"{KERNEL_FILE}:get_free_mem_region")
