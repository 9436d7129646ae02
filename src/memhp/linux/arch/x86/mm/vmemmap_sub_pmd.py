"""x86-64: which parts of a vmemmap PMD leaf anybody uses, when sections share it: ``arch/x86/mm/init_64.c``.

The kernel fills struct pages that are not in use with a byte, PAGE_UNUSED, and frees the leaf when nothing else is left
in it. Here the filled addresses are spans. A marked part that comes into use again has its mark taken from the first
struct page only, which is enough while parts go as they came.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.linux.arch.x86.choices import x86
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import align_down, align_up, is_aligned

KERNEL_FILE = "arch/x86/mm/init_64.c"


@dataclass
class SharedLeaves:
    """What is known of leaves in which not all addresses are in use."""

    unused: SpanSet = field(default_factory=SpanSet)
    """Addresses of struct pages that are marked as used by nobody (``PAGE_UNUSED``)."""
    unused_pmd_start: int = 0
    """From this address to the end of its PMD the mark is still to be made; 0 for none."""


def vmemmap_flush_unused_pmd(k: Kernel) -> None:
    """Make the mark that was put off."""
    own = k.statics(SharedLeaves)
    if own.unused_pmd_start:
        own.unused.add(own.unused_pmd_start, align_up(own.unused_pmd_start, k.config.pmd_size))
        own.unused_pmd_start = 0


def vmemmap_pmd_is_unused(k: Kernel, part: Span) -> bool:
    """Part of a leaf (addresses) goes out of use: whether nothing of the leaf is in use any more."""
    leaf = align_down(part.start, k.config.pmd_size)
    vmemmap_flush_unused_pmd(k)
    unused = k.statics(SharedLeaves).unused
    unused.add(*part)
    if not unused.covers(leaf, leaf + k.config.pmd_size):
        return False
    unused.remove(leaf, leaf + k.config.pmd_size)
    return True


def vmemmap_use_sub_pmd(k: Kernel, part: Span) -> None:
    """Part of a leaf that is there already comes into use."""
    own = k.statics(SharedLeaves)
    if own.unused_pmd_start == part.start:
        own.unused_pmd_start = 0 if is_aligned(part.end, k.config.pmd_size) else part.end
        return
    vmemmap_flush_unused_pmd(k)
    _use_first_page(k, part.start)


def vmemmap_use_new_sub_pmds(k: Kernel, wanted: Span) -> None:
    """New leaves are there for the addresses `wanted`, the first and the last of them perhaps only in part."""
    for part in parts_of_leaves(k, wanted):
        _use_new_sub_pmd(k, part)


def parts_of_leaves(k: Kernel, wanted: Span) -> list[Span]:
    """The ends of a range of addresses that are less than a leaf."""
    size = k.config.pmd_size
    head = Span(wanted.start, min(wanted.end, align_up(wanted.start, size)))
    tail = Span(max(head.end, align_down(wanted.end, size)), wanted.end)
    return [part for part in (head, tail) if part]


def _use_new_sub_pmd(k: Kernel, part: Span) -> None:
    size = k.config.pmd_size
    if not x86(k.config).vmemmap_partial_pmd:
        return
    vmemmap_flush_unused_pmd(k)
    _use_first_page(k, part.start)
    own = k.statics(SharedLeaves)
    if x86(k.config).vmemmap_mark == "before-start":
        own.unused.add(align_down(part.start, size), part.start)
    if not is_aligned(part.end, size):
        own.unused_pmd_start = part.end


def _use_first_page(k: Kernel, address: int) -> None:
    k.statics(SharedLeaves).unused.remove(address, address + k.config.struct_page_size)
