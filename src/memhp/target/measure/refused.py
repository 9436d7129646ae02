"""Which memory a step could not take offline, and the pages that stand in its way: for whoever is to clear it.

The kernel logs the range and the reason of each refusal and dumps one page at most. What it would meet after that one
is read from the machine: the uses that the reason is about, in that range, run by run.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Collection, Iterable

from memhp.hw.memory import Use
from memhp.linux.mm.hugetlb import POOLS
from memhp.linux.mm.migrate import FIXED, MOVABLE_USES
from memhp.linux.mm.page_isolation import UNMOVABLE_USES
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.result import Held, Refused
from memhp.spans import Span, SpanSet

_FAILED = re.compile(r"memory offlining \[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\] failed due to (.*)")
"""What ``mm/memory_hotplug.c:offline_pages`` logs."""

ISOLATION = "failure to isolate range"

IN_THE_WAY: dict[str, Collection[Use]] = {
    ISOLATION: UNMOVABLE_USES,
    "unmovable page": (Use.OFFLINE, Use.BALLOON_FIXED),
    "signal backoff": MOVABLE_USES,
    "failure to dissolve huge pages": POOLS.values(),
}
"""For each reason that is about pages: the uses of them that stand in the way."""


def refused(k: Kernel, log: Iterable[str]) -> list[Refused]:
    """The ranges that would not go offline, of the kernel's log of a step; each once, for the reason given last."""
    reasons = {(int(found[1], 16), int(found[2], 16) + 1): found[3] for found in map(_FAILED.fullmatch, log) if found}
    return [
        Refused(start=start, size=end - start, reason=reason, pages=_pages(k, Span(start, end), reason))
        for (start, end), reason in sorted(reasons.items())
    ]


def _pages(k: Kernel, span: Span, reason: str) -> list[Held]:
    """The pages of a range of bytes that the reason is about. Those that stay are in the way of those that move."""
    shift = k.config.page_shift
    frames = Span(span.start >> shift, span.end >> shift)
    uses = IN_THE_WAY.get(reason, ())
    reserved = SpanSet()
    if reason == ISOLATION:
        zone = k.zone_of(frames.start)
        uses = uses if zone is None or zone.type is not ZoneType.MOVABLE else ()
        flagged = k.page_flags.runs(*frames)
        reserved = SpanSet.joined((start, end) for start, end, flags in flagged if PageFlags.RESERVED in flags)
    found = [
        (lo, hi, owner)
        for start, end, owner in k.hw.memory.owners.runs(*frames)
        for lo, hi in ([(start, end)] if owner.use in uses else reserved.runs(start, end))
    ]
    fixed = [each for each in found if each[2].use in FIXED]
    return [Held(start=lo << shift, size=(hi - lo) << shift, owner=str(owner)) for lo, hi, owner in fixed or found]
