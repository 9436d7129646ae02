"""Hocko's other question: what if the first section of a memory block of many goes before the others?

It is where the struct pages of all of them lie. The kernel refuses; here it is done all the same, by the functions
below the check, once for each section of the block.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from copy import deepcopy
from typing import Any

from memhp.check import check_all, snapshot
from memhp.check.snapshot import Snapshot
from memhp.claims import evidence
from memhp.claims.claim import Finding, answered
from memhp.explore.cases.actors import pfns
from memhp.explore.cases.memmap_first_section import CASE as FIRST_SECTION
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import format_size

SERVER: dict[str, Any] = {"preset": "x86-server", "memory": "64G", "boot": {"memmap_on_memory": "Y", "gbpages": False}}
"""Memory blocks of 2 GiB; 2 MiB leaves in the direct map, since the removal of part of a larger one ends in an oops."""


def added_block() -> tuple[Kernel, Snapshot, int]:
    """A server with a block that hosts its struct pages: the kernel, how it was before, the block's first byte."""
    k = evidence.kernel(SERVER)
    before = snapshot(k)
    return k, before, evidence.added(k, k.memory_block_size).plugged[0].start


def take_section(k: Kernel, start: int, section: int) -> None:
    """Remove one section of the block at `start` (bytes) without asking, and let the platform take its memory."""
    size = k.config.section_size
    at = start + section * size
    k.port.arch_remove_memory(k, at, size, k.altmaps[start // k.memory_block_size])
    k.hw.unplug(pfns(k, Span(at, at + size)), "platform")


def first_section() -> Finding:
    """mom-7: what the kernel answers, and which law breaks if each of the sections goes before the others."""
    asked = evidence.run(
        SERVER,
        {"do": "plug", "size": "2G", "at": "0x1080000000"},
        {"do": "unplug", "at": "0x1080000000", "size": "128M", "expect": "EINVAL"},
    )
    refusal = asked.steps[1].outcome
    k, before, start = added_block()
    sections = range(k.memory_block_size // k.config.section_size)
    broken: dict[int, str] = {}
    for section in sections:
        copy = deepcopy(k)
        take_section(copy, start, section)
        for breach in check_all(copy, before):
            broken[section] = f"{breach.law}: {breach.text}"
    for section in reversed(sections[1:]):
        take_section(k, start, section)
    backwards = check_all(k, before)
    parts = [f"{refusal.result}: {refusal.reason}"]
    parts.append(
        f"done all the same to {format_size(k.memory_block_size)}, {len(broken)} of {len(sections)} sections break a "
        f"law by going first: {', '.join(f'section {section}, {text}' for section, text in broken.items())}"
    )
    parts.append(f"from the last to the second {len(backwards)} breaches")
    race = {
        one.name: evidence.explored(FIRST_SECTION, one.name, "x86_64-4K-48-linux-7.2") for one in FIRST_SECTION.variants
    }
    parts.append(f"explored against a reader: {', '.join(evidence.told(name, each) for name, each in race.items())}")
    as_expected = [each.word for each in race.values()] == ["broken", "safe", "safe"]
    found = as_expected and asked.steps[1].as_expected and set(broken) == {0} and not backwards
    return answered(("linux-6.12",), found, "; ".join(parts))
