"""What the laws of real page tables need of /proc/iomem: which frames are System RAM, and which may be mapped."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.facts.iomem import Resource, system_ram, walk
from memhp.spans import SpanSet

_MEMORY = re.compile(
    r"(?i)(system ram|reserved|crash kernel|acpi |persistent memory|dax|namespace|ram buffer|soft reserved"
    r"|unknown e820)"
)
"""How resources begin that are memory, used by the kernel or not: what firmware keeps may be in the direct map."""


def ram_frames(resources: tuple[Resource, ...], page_shift: int) -> SpanSet:
    """The PFNs of whole pages of System RAM; what firmware or a driver keeps inside of it counts."""
    size = 1 << page_shift
    return SpanSet((-(-each.start // size), (each.end + 1) // size) for each in system_ram(resources))


def memory_frames(resources: tuple[Resource, ...], page_shift: int) -> SpanSet:
    """The PFNs of pages of which some is memory."""
    there = (each for _, each in walk(resources) if _MEMORY.match(each.name))
    size = 1 << page_shift
    return SpanSet((each.start // size, -(-(each.end + 1) // size)) for each in there)
