"""Facts that a model cannot have equal, each with its reason: everything else that is not equal is a difference.

A rule names facts by pattern and says when it applies; where it applies to facts that are equal it does no harm, but it
must not be wider than its reason.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from dataclasses import dataclass

from memhp.facts.compare import Value


@dataclass(frozen=True)
class Context:
    """What is known at a moment: of the machine's past what decides which facts a model can have equal."""

    steps_from_facts: bool = False
    """Whether steps were told by facts alone, as in captures, rather than carried out."""
    virtio_mem: bool = False
    """Whether a device took back parts of blocks, of which no step tells."""
    add_failed: bool = False
    """Whether the kernel's log tells of an ``add_memory()`` since boot that ran out of memory."""
    untold_adds: bool = False
    """Whether the log tells of adds that no two moments show."""
    died: bool = False
    """Whether the kernel's log tells of an oops."""
    huge_pool: bool = False
    """Whether there was a pool of huge pages."""


@dataclass(frozen=True)
class Rule:
    """Facts (whole names) that are not compared when `applies`."""

    facts: re.Pattern[str]
    reason: str
    applies: Callable[[Context], bool] = lambda _: True


RULES = (
    Rule(
        re.compile(r"/proc/zoneinfo node \d+ \w+ boost"),
        "the allocator raises it when it takes a page block of another kind, and kswapd lowers it: tasks decide",
    ),
    Rule(
        re.compile(
            r"/proc/zoneinfo node \d+ \w+ (managed|protection)|/proc/meminfo (MemTotal|CommitLimit)"
            r"|change of free memory.*"
        ),
        "virtio-mem took back sub-blocks of a block that stays, of which no step taken from facts tells",
        lambda context: context.steps_from_facts and context.virtio_mem,
    ),
    Rule(
        re.compile(r"/proc/meminfo CommitLimit"),
        "of a pool of huge pages, which count against the limit, those go that lie in memory that goes offline "
        "(mm/hugetlb.c:dissolve_free_hugetlb_folios): where they lie is the allocator's choice",
        lambda context: context.huge_pool,
    ),
    Rule(
        re.compile(r"change of .*"),
        "the log tells of adds that failed, or were undone, between the moments: what they took is not told",
        lambda context: context.untold_adds,
    ),
    Rule(
        re.compile(r"/proc/vmstat nr_memmap_pages"),
        "an add ran out of memory and left the struct pages that it had made: how many depends on what tasks had left "
        "free, which no fact tells (mm/sparse.c:sparse_add_section, mm/memory_hotplug.c:__add_pages)",
        lambda context: context.steps_from_facts and context.add_failed,
    ),
    Rule(
        re.compile(r"/proc/iomem \S+ : System RAM"),
        "the kernel died of an oops in add_memory(), whose resource stays without memory blocks",
        lambda context: context.steps_from_facts and context.died,
    ),
)
"""Every rule; the first that covers a fact gives the reason."""


def reason_for(fact: str, expected: Value, got: Value, context: Context) -> str:
    """Why a fact that is not equal need not be; "" where nothing says so."""
    for rule in RULES:
        if rule.applies(context) and rule.facts.fullmatch(fact):
            return rule.reason
    if got is None and _unmodelled(fact):
        return "the model does not show this file"
    if expected is None and _PROMO.fullmatch(fact):
        return "this kernel's /proc/zoneinfo has no line for the promo watermark (mm/vmstat.c:zoneinfo_show_print)"
    return ""


_PROMO = re.compile(r"/proc/zoneinfo node \d+ \w+ promo")
_UNMODELLED = re.compile(r"/sys/devices/system/memory/memory\d+/(phys_device|removable)")


def _unmodelled(fact: str) -> bool:
    return _UNMODELLED.fullmatch(fact) is not None
