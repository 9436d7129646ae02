"""Memory blocks: each is online or offline as a whole, and its sections, pages and zone say the same."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.hw.memory import Use
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.linux.mmzone import MemoryBlock, ZoneRef, ZoneType
from memhp.spans import Span, SpanSet

NAME = "blocks"
OFFLINE_USES = (Use.DEVICE, Use.MEMMAP, Use.OFFLINE, Use.HWPOISON)
"""What frames of an offline block may be: the device's, or struct pages that the block hosts itself."""


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Blocks without sections, sections without blocks, and blocks that are half of one state."""
    yield from _pairing(look)
    yield from _links(look)
    yield from _states(look)


def _states(look: MachineView) -> Iterator[Breach]:
    """Blocks that are half of one state."""
    k = look.k
    per = k.pages_per_block
    for first, last, block in look.memory_blocks:
        frames = Span(first * per, last * per)
        name = f"memory{first}" if last == first + 1 else f"memory{first} to memory{last - 1}"
        if block.state == "online":
            yield from _online(look, name, frames, block)
        elif block.state == "offline":
            yield from _offline(look, name, frames)
        else:
            yield Breach(NAME, f"{name} is left {block.state}", pfns=frames)
        if block.group is not None and block.group not in k.memory_groups:
            yield Breach(NAME, f"{name} belongs to memory group {block.group}, which does not exist", pfns=frames)


def _pairing(look: MachineView) -> Iterator[Breach]:
    """Every block has a present section, and every section that may go online has a block."""
    k = look.k
    per = k.pages_per_block
    sections = sorted([*look.early_sections, *look.hot_sections])
    whole = SpanSet.joined((span.start // per * per, -(-span.end // per) * per) for span in sections)
    for bare in minus(look.block_frames, whole):
        text = f"memory{bare.start // per} to memory{bare.end // per - 1} have no present section"
        yield Breach(NAME, text, pfns=bare)
    for loose in minus(look.online_sections, look.block_frames):
        yield Breach(NAME, f"the sections of {pfn_text(loose)} are online without a memory block", pfns=loose)


def _links(look: MachineView) -> Iterator[Breach]:
    """What is linked below a node's device is a block that exists (``/sys/devices/system/node/nodeN/memoryM``)."""
    blocks = SpanSet.joined((first, last) for first, last, _ in look.memory_blocks)
    for nid, links in sorted(look.k.node_states.devices.items()):
        for dangling in minus(SpanSet.joined(look.spans(links, look.k.pages_per_block)), blocks):
            text = f"node{nid} is linked to memory{dangling.start} to memory{dangling.end - 1}, which are gone"
            yield Breach(NAME, text)


def _online(look: MachineView, name: str, frames: Span, block: MemoryBlock) -> Iterator[Breach]:
    """All present sections are online, all pages have a zone: the block's, where it names one.

    A block or section that RAM fills in part may have a device's memory in the rest, which is ZONE_DEVICE's.
    """
    k = look.k
    per = k.config.pages_per_section
    for start, end, section in k.mem_section.runs(frames.start // per, frames.end // per):
        span = Span(start * per, end * per)
        if not section.online:
            yield Breach(NAME, f"{name} is online, but the sections of {pfn_text(span)} are not", pfns=span)
        if block.nid != section.nid and block.zone is not None:
            text = f"{name} is on node {block.nid}, the sections of {pfn_text(span)} on node {section.nid}"
            yield Breach(NAME, text, pfns=span)
    for part in look.present.runs(*frames):
        for gap in minus(SpanSet(k.page_zone.gaps(*part)), _devices_own(look, part)):
            yield Breach(NAME, f"{name} is online, but {pfn_text(gap)} has no zone", pfns=gap)
        for start, end, ref in k.page_zone.runs(*part):
            devices = ref.type is ZoneType.DEVICE and k.statics(Memremap).pgmap_array.covers(start, end)
            if block.zone is not None and ref != ZoneRef(block.nid or 0, block.zone) and not devices:
                span = Span(start, end)
                text = (
                    f"{name} is online in zone {block.zone.title} of node {block.nid}, but {pfn_text(span)} is linked "
                    f"to zone {ref.type.title} of node {ref.nid}"
                )
                yield Breach(NAME, text, pfns=span)


def _devices_own(look: MachineView, part: Span) -> SpanSet:
    """What of a part is no RAM: the rest of a section of boot memory, whose struct pages a device has made."""
    return SpanSet(gap for section in look.early_sections.runs(*part) for gap in look.k.boot_memory.gaps(*section))


def _offline(look: MachineView, name: str, frames: Span) -> Iterator[Breach]:
    """No section is online, no page has a zone (unless this kernel cuts zones on removal), nobody uses the memory."""
    k = look.k
    for span in look.online_sections.runs(*frames):
        yield Breach(NAME, f"{name} is offline, but the sections of {pfn_text(span)} are online", pfns=span)
    keeps_links = k.config.profile.zone_shrink == "on-remove"
    for start, end, ref in () if keeps_links else k.page_zone.runs(*frames):
        span = Span(start, end)
        text = f"{name} is offline, but {pfn_text(span)} is linked to zone {ref.type.title} of node {ref.nid}"
        yield Breach(NAME, text, pfns=span)
    for start, end, owner in k.hw.memory.owners.runs(*frames):
        if owner.use not in OFFLINE_USES:
            text = f"{name} is offline, but {pfn_text(Span(start, end))} is {owner}"
            yield Breach(NAME, text, pfns=Span(start, end))


LAW = Law(
    NAME,
    "A memory block is online or offline as a whole: its sections, pages and users agree",
    find,
    still=nothing_near(find),
)
