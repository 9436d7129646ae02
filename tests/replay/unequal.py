"""The facts of captures that the model cannot have equal, each with the condition and the reason. All else is compared.

Not facts of Linux, and so not compared: what QEMU said, the list of dax devices, which the model is told.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from memhp.conform.amounts import an_add_failed, partly_unplugged
from memhp.facts.observed import Facts
from memhp.linux.state import Kernel


class Named(NamedTuple):
    """Facts that differ: of which machines, which (whole names), and why."""

    applies: Callable[[Facts], bool]
    facts: str
    reason: str

    def covers(self, fact: str) -> bool:
        """Whether a fact is one of them."""
        return re.fullmatch(self.facts, fact) is not None


def always(observed: Facts) -> bool:
    return True


def sets_lowmem_reserve_anew(observed: Facts) -> bool:
    """Whether the same is so on a kernel that sets the lowmem reserve whenever managed pages change, from 7.2 on."""
    return partly_unplugged(observed) and (observed.release or "").startswith("7.")


def leaf_outlives_memory(k: Kernel, earlier: Iterable[Facts], now: Facts) -> bool:
    """Whether all memory went whose struct pages a leaf of the vmemmap holds, on LoongArch: ``vmemmap_free()`` there
    does nothing, and the leaf stays until memory of the same addresses comes again.
    """
    if k.port.name != "loongarch64":
        return False
    leaf, size = k.config.format.levels[1].size, k.config.struct_page_size

    def leaves(observed: Facts) -> set[int]:
        blocks = (observed.memory.span(block).start // k.config.page_size for block in observed.memory.blocks)
        return {pfn * size // leaf for pfn in blocks}

    return any(leaves(each) - leaves(now) for each in earlier)


UNEQUAL = (
    Named(
        always,
        r"/proc/meminfo (?!(MemTotal|CommitLimit|VmallocTotal)$).*",
        "what tasks and caches use, which is not known",
    ),
    Named(always, r"/proc/vmstat (?!nr_memmap).*", "what tasks and caches use and did, which is not known"),
    Named(always, r"/proc/buddyinfo .*", "which pages are free depends on what tasks use"),
    Named(
        partly_unplugged,
        r"/proc/zoneinfo node 0 Normal managed|/proc/meminfo (MemTotal|CommitLimit)",
        "virtio-mem took back sub-blocks of a block that stays, of which no step taken from facts tells",
    ),
    Named(
        sets_lowmem_reserve_anew,
        r"/proc/zoneinfo node 0 \w+ protection",
        "7.2 sets the lowmem reserve whenever managed pages change, by sub-blocks too",
    ),
)

LEFT_BEHIND = Named(
    an_add_failed,
    r"/proc/vmstat nr_memmap_pages|/proc/iomem .* : System RAM",
    "struct pages and a resource that a failed add left behind",
)


def unnamed(observed: Facts, unequal: set[str]) -> tuple[list[str], list[str]]:
    """Facts that differ and should not; and what should differ and does not, by its reason."""
    named = [each for each in UNEQUAL if each.applies(observed)]
    allowed = [*named, *([LEFT_BEHIND] if LEFT_BEHIND.applies(observed) else [])]
    surprising = sorted(fact for fact in unequal if not any(each.covers(fact) for each in allowed))
    idle = [each.reason for each in named if not any(each.covers(fact) for fact in unequal)]
    return surprising, idle
