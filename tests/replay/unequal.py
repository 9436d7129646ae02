"""The facts of captures that the model cannot have equal, each with its reason. Every other fact is compared.

Not facts of Linux, and so not compared: what QEMU said, the list of dax devices, which the model is told.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from fnmatch import fnmatch
from typing import NamedTuple


class Named(NamedTuple):
    """Facts that differ: at which moments (``capture/step``, with wildcards), which (whole names), and why."""

    moments: tuple[str, ...]
    facts: str
    reason: str

    def applies(self, moment: str) -> bool:
        """Whether the facts are expected to differ at a moment."""
        return any(fnmatch(moment, pattern) for pattern in self.moments)

    def covers(self, fact: str) -> bool:
        """Whether a fact is one of them."""
        return re.fullmatch(self.facts, fact) is not None


ALWAYS = ("*",)

BEFORE_ONLINING = (
    # The builds of riscv64 and arm64 with 4 KiB pages are not among them: what khugepaged wants is the same for any
    # amount of memory there.
    "arm64-*-16k-*/0-*",
    "arm64-*-16k-kmem-*/1-*",
    "arm64-*-16k-kmem-map-pmem-mom1/2-kmem-added",
    "arm64-*-16k-kmem-map-pmem-mom0/2-devdax",
    "arm64-*-16k-kmem-map-pmem-mom0/3-kmem-added",
    "arm64-*-16k-virtio-mem-default/1-plugged",
    "arm64-custom-*/0-before",
    "arm64-custom-*/1-plugged",
    "x86_64-*-dax-nvdimm/1",
    "x86_64-*/0-*",
    "x86_64-*-kmem-*/1-devdax",
    "x86_64-*-virtio-mem-offline-state/1-plugged",
)

PARTLY_UNPLUGGED = (
    "*+deb*-virtio-mem-default/5-unplugged",
    "*-virtio-mem-movable/5-unplugged",
    "*-virtio-mem-movable-memmap/5-unplugged",
    "*-virtio-mem-offline-state/5-unplugged",
    "arm64-custom-arm64-64k-virtio-mem-default/4-unplug-to-128M",
)

UNEQUAL = (
    Named(ALWAYS, r"/proc/meminfo (?!MemTotal$).*", "what tasks and caches use, which is not known"),
    Named(ALWAYS, r"/proc/vmstat (?!nr_memmap).*", "what tasks and caches use and did, which is not known"),
    Named(ALWAYS, r"/proc/buddyinfo .*", "which pages are free depends on what tasks use"),
    Named(
        BEFORE_ONLINING,
        r"/proc/zoneinfo node \d \w+ (min|low|high|promo|protection)",
        "boot set them while memory of __init code was not yet managed; they are set anew as memory goes online",
    ),
    Named(
        PARTLY_UNPLUGGED,
        r"/proc/zoneinfo node 0 Normal managed|/proc/meminfo MemTotal",
        "virtio-mem took back sub-blocks of a block that stays, of which no step taken from facts tells",
    ),
    Named(
        ("*-7.2.*-virtio-mem-default/5-unplugged",),
        r"/proc/zoneinfo node 0 \w+ protection",
        "7.2 sets the lowmem reserve whenever managed pages change, by sub-blocks too",
    ),
)


def unnamed(moment: str, unequal: set[str]) -> tuple[list[str], list[str]]:
    """Facts that differ at a moment and should not; and what should differ and does not, by its reason."""
    named = [each for each in UNEQUAL if each.applies(moment)]
    surprising = sorted(fact for fact in unequal if not any(each.covers(fact) for each in named))
    idle = [each.reason for each in named if not any(each.covers(fact) for fact in unequal)]
    return surprising, idle
