"""A zone's span, read while it may be resized: ``zone->span_seqlock``, whose readers look again when it was written.

Until 5.13 who resizes a zone writes the seqlock. Since then nobody does, as ``mem_hotplug_lock`` keeps those who resize
apart; readers still begin and retry as before, which keeps nothing from them. The spin lock within the seqlock is not
here: one at a time resizes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager

from memhp.errors import KernelBug
from memhp.linux.mmzone import Zone
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "include/linux/memory_hotplug.h"


def zone_field(zone: Zone, name: str) -> str:
    """A field of a zone, by the name that the doors know it under."""
    return f"zone{zone.nid}/{zone.type.title}.{name}"


def zone_span_seqbegin(k: Kernel, zone: Zone) -> int:
    """The sequence that a reader begins with, once nobody writes."""
    while True:
        k.hw.reads(zone_field(zone, "span_seqlock"))
        sequence = zone.span_seqlock
        if sequence % 2 == 0:
            return sequence


def zone_span_seqretry(k: Kernel, zone: Zone, sequence: int) -> bool:
    """Whether somebody wrote since a reader began."""
    k.hw.reads(zone_field(zone, "span_seqlock"))
    return zone.span_seqlock != sequence


@contextmanager
@kernel_function(f"{KERNEL_FILE}:zone_span_writelock")
def zone_span_writelock(k: Kernel, zone: Zone) -> Iterator[None]:
    """The span of a zone is written within a ``with`` block; kernels that say so to nobody: ``Profile.span_lock``."""
    if k.config.profile.span_lock == "none":
        yield
        return
    name = zone_field(zone, "span_seqlock")
    k.hw.atomic(name)
    zone.span_seqlock += 1
    yield
    k.hw.atomic(name)
    zone.span_seqlock += 1


@kernel_function("mm/memory_hotplug.c:resize_zone_range")
def set_zone_span(k: Kernel, zone: Zone, **fields: int) -> None:
    """Store ``start_pfn`` and ``spanned`` of a zone, one after the other in the order given: others read them."""
    for name, value in fields.items():
        k.hw.writes(zone_field(zone, name))
        setattr(zone, name, value)


def _read(k: Kernel, zone: Zone, name: str) -> int:
    """A read in a reader's section of a seqlock, which is no data race: a step says so, and it is not announced."""
    k.hw.reads(zone_field(zone, name))
    value: int = vars(zone)[name]
    return value


@of_file("mm/page_alloc.c")
def page_outside_zone_boundaries(k: Kernel, zone: Zone, pfn: int, *, retries: bool = True) -> bool:
    """Whether a page lies outside what its zone spans; without `retries` the reader does as no kernel does."""
    while True:
        sequence = zone_span_seqbegin(k, zone)
        start_pfn = _read(k, zone, "start_pfn")
        outside = not start_pfn <= pfn < start_pfn + _read(k, zone, "spanned")
        if not retries or not zone_span_seqretry(k, zone, sequence):
            return outside


@of_file("mm/page_alloc.c")
def bad_range(k: Kernel, zone: Zone, pfn: int, *, retries: bool = True) -> None:
    """``VM_BUG_ON_PAGE(bad_range(zone, page))`` of a page that is taken from a zone: only kernels with DEBUG_VM look.

    KernelBug: it is not within the zone, or another's.
    """
    if page_outside_zone_boundaries(k, zone, pfn, retries=retries) or k.zone_of(pfn) is not zone:
        raise KernelBug(f"VM_BUG_ON_PAGE(bad_range(zone, page)): PFN {pfn:#x}", place=here())
