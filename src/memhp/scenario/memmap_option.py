"""x86's ``memmap=``: what a kernel's command line makes of firmware's memory map.

``arch/x86/kernel/e820.c:parse_memmap_one``: ``nn!ss`` is persistent memory, ``nn$ss`` and ``nn#ss`` are reserved and
ACPI's, all of them whatever firmware says; a plain size ends RAM there, as ``mem=`` does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass, field

from memhp.errors import BadInput
from memhp.facts.cmdline import Cmdline
from memhp.spans import Span, SpanSet
from memhp.units import parse_size

_WORD = re.compile(r"([0-9a-zA-Z]+)(?:([!$#])([0-9a-zA-Z]+))?")


@dataclass
class MemoryMap:
    """What all ``memmap=`` of a command line say together. Bytes, physical."""

    persistent: list[Span] = field(default_factory=list)
    """Legacy persistent memory, in the order in which it is named."""
    taken: SpanSet = field(default_factory=SpanSet)
    """All that is not RAM: that, and what is reserved."""
    end: int = 1 << 52
    """Where RAM ends at the latest."""


def memory_map(append: Cmdline, where: str) -> MemoryMap:
    """The words of every ``memmap=``. Raises :class:`BadInput` for those that make RAM, or nothing."""
    found = MemoryMap()
    for option, value in append.options:
        if option != "memmap":
            continue
        for word in (value or "").split(","):
            _add(found, word, where)
    found.persistent.sort()
    return found


def _add(found: MemoryMap, word: str, where: str) -> None:
    match = _WORD.fullmatch(word)
    if match is None or word == "exactmap":
        fix = "write SIZE!START, SIZE$START, SIZE#START or SIZE; take the rest out"
        raise BadInput(f"memmap={word} is not understood", where=where, fix=fix)
    size = parse_size(match[1], where=f"{where}: memmap=")
    if not size:
        raise BadInput(f"memmap={word} names no memory", where=where, fix="leave it out")
    if match[2] is None:
        found.end = min(found.end, size)
        return
    start = parse_size(match[3], where=f"{where}: memmap=")
    span = Span(start, start + size)
    found.taken.add(*span)
    if match[2] == "!":
        found.persistent.append(span)
