"""Hyper-V's host backs the rest of a memory block while user space brings that block online.

``handle_pg_range()`` gives pages to the buddy itself where their section is online, and leaves them to
``hv_online_page()`` where it is not. But ``online_pages_range()`` marks sections as online only when it has asked that
function about all pages of the block.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.hv.hv_balloon import DmDevice, balloon_probe, hot_add_req
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span

GUESTS = tuple(one for one in mainline() if one.arch in ("x86_64", "arm64") and one.va_bits == 48)
"""What Hyper-V has for guests."""


def back_the_rest(k: Kernel) -> int:
    """The host backs the second half of the block: how many pages the driver took."""
    pages = pfns(k, near_dimm(k))
    return hot_add_req(k, Span(pages.start + pages.size // 2, pages.end), None)[0]


def write_online_movable(k: Kernel) -> None:
    """``echo online_movable > /sys/devices/system/memory/memoryN/state``."""
    state_store(k, near_dimm(k).start // k.memory_block_size, "online_movable")


def all_that_is_backed_is_online(k: Kernel) -> str | None:
    """The first law that does not hold when all is done, or which pages the host has backed that the buddy never gets:
    no later step asks for them.
    """
    backed = (part for region in k.statics(DmDevice).ha_region_list for part in region.backed)
    for start, end, flags in (run for part in backed for run in k.page_flags.runs(*part)):
        if flags & PageFlags.OFFLINE and pfn_to_online_page(k, start):
            return f"pages: PFN {start:#x}-{end:#x} of an online block are backed, and the buddy never gets them"
    return laws_hold(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The driver has added the block for the first half of its pages, and waits for somebody to bring it online."""
    k = boot_near(variant.config(configuration))
    pages = pfns(k, near_dimm(k))
    balloon_probe(k)
    hot_add_req(k, Span(pages.start, pages.start + pages.size // 2), None)
    actors = back_the_rest, write_online_movable
    return KernelProgram(k, actors, ("host", "online"), check=all_that_is_backed_is_online)


CASE = Case(
    name="hv-backing-vs-online",
    actors="Hyper-V's host backs the second half of a memory block; user space brings the block online",
    build=build,
    geometry="a memory block that is backed by halves; real ones, in any parts",
    variants=(
        Variant(
            "as-it-is",
            "pages are left to hv_online_page() as long as their section is not online",
            "broken",
            GUESTS,
            finding="Pages that Hyper-V's host backs while their block goes online stay out of use",
        ),
        Variant(
            "notifier",
            "hv_memory_notifier() gives the buddy, once a block is online, what is backed of it",
            "repaired",
            GUESTS,
            generic={"hv_backed_meanwhile": "notifier"},
        ),
    ),
)
