"""The kernel log: the lines that tell of memory, at boot and at hotplug, with the code that prints each.

Lines have no fixed place and a log may have lost its beginning, so everything here may be empty.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import NamedTuple

from memhp.spans import Span, SpanSet


class Line(NamedTuple):
    """One line: seconds since boot (None where printk.time is off) and what it says."""

    time: float | None
    text: str


class BootZone(NamedTuple):
    """A line below ``Zone ranges:`` (``mm/mm_init.c:free_area_init``): bytes; an empty zone has no span."""

    name: str
    span: Span | None


class NodeRange(NamedTuple):
    """Memory of a node, in bytes."""

    nid: int
    span: Span


class SratRange(NamedTuple):
    """A memory affinity of ACPI's SRAT (``drivers/acpi/numa/srat.c``), in bytes; hotplug: may be plugged later."""

    nid: int
    pxm: int
    span: Span
    hotplug: bool


class Available(NamedTuple):
    """``Memory: 892608K/1048056K available (...)`` (``mm/mm_init.c:mem_init_print_info``), in bytes.

    `parts` holds what is in parentheses by name: ``kernel code``, ``reserved``, ``cma-reserved`` ...
    """

    free: int
    present: int
    parts: dict[str, int]


class GivenBack(NamedTuple):
    """``Freeing WHAT memory: 1384K`` (``mm/page_alloc.c:free_reserved_area``): what boot kept for a while, bytes."""

    what: str
    size: int


class OfflineFailure(NamedTuple):
    """``memory offlining [mem ...] failed due to REASON`` (``mm/memory_hotplug.c:offline_pages``), in bytes."""

    time: float | None
    span: Span
    reason: str


class Altmap(NamedTuple):
    """``altmap_alloc_block_buf: pfn: ... alloc: ... align: ... nr: ...`` (``mm/sparse-vmemmap.c``), in pages."""

    pfn: int
    alloc: int
    align: int
    nr: int


@dataclass(frozen=True)
class VirtioMem:
    """What the virtio_mem driver said when it found a device (``virtio_mem_init``), in bytes.

    In sub-block mode `subblock_size` is set, in big-block mode `big_block_size`.
    """

    name: str
    start: int
    region_size: int
    device_block_size: int
    nid: int | None = None
    memory_block_size: int | None = None
    subblock_size: int | None = None
    big_block_size: int | None = None

    @property
    def span(self) -> Span:
        """The device's physical addresses."""
        return Span(self.start, self.start + self.region_size)


_STAMP = re.compile(r"(?:<\d+>)?\[ *(\d+\.\d+)\](?:\[ *[TC]\d+\])? ?(.*)")
_HEADER = r"(?:\w{3} +\d+ [\d:.]{8,}|\d{4}-\S+T[\d:.]+\S*) \S+ "
_DATED = re.compile(
    rf"(?:\[\w{{3}} \w{{3}} +\d+ [\d:]{{8}} \d{{4}}\]|\d{{4}}-\S+T[\d:]{{8}},\d{{6}}\S*|{_HEADER}kernel:) (.*)"
)
"""As ``dmesg -T`` and ``--time-format iso`` print, and as syslog and ``journalctl -k`` keep it."""
_OTHERS = re.compile(rf"{_HEADER}(?!kernel:)\S+: .*")
"""What other programs than the kernel wrote into the same file."""
_MEM = r"\[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\]"
_VERSION = re.compile(r"Linux version (\S+) .*")
_COMMAND_LINE = re.compile(r"Kernel command line: (.*)")
_BOOT_ZONE = re.compile(rf"  (\w+) +(?:{_MEM}|empty)")
_EARLY = re.compile(rf"  node +(\d+): {_MEM}")
_MOVABLE = re.compile(r"  Node (\d+): (0x[0-9a-f]+)")
_INITMEM = re.compile(rf"Initmem setup node (\d+) {_MEM}")
_UNAVAILABLE = re.compile(r"On node (\d+), zone (\w+): (\d+) pages in unavailable ranges")
_SRAT = re.compile(rf"ACPI: SRAT: Node (\d+) PXM (\d+) {_MEM}(.*)")
_AVAILABLE = re.compile(r"Memory: (\d+)K/(\d+)K available \((.*)\)")
_CMA = re.compile(r"cma: Reserved (\d+) MiB at (0x[0-9a-f]+)(?: on node -?\d+)?")
_MIRRORED = re.compile(
    r"efi: (?: *(0x[0-9a-f]+)-(0x[0-9a-f]+) )?(?:mem\d+: )?\[[^]]*\|MR\|[^]]*\]"
    r"(?: range=\[(0x[0-9a-f]+)-(0x[0-9a-f]+)\].*)?"
)
_SOME_MIRRORED = re.compile(r"efi: Memory: \d+M/\d+M mirrored memory")
_FREEING = re.compile(r"Freeing (initrd|unused .+) memory: (\d+)K")
_FREED = re.compile(r"Freeing .+ memory: (\d+)K")
_RAMDISK = re.compile(rf"RAMDISK: {_MEM}")
_OFFLINED = re.compile(r"Offlined Pages (\d+)")
_FAILED = re.compile(rf"memory offlining {_MEM} failed due to (.+)")
_ALTMAP = re.compile(r"altmap_alloc_block_buf: pfn: (0x[0-9a-f]+) alloc: (\d+) align: (\d+) nr: (0x[0-9a-f]+)")
_VIRTIO_MEM = re.compile(r"virtio_mem (\w+): (.+)")
_MIDR = re.compile(r"(?:Booting Linux on physical CPU|CPU\d+: Booted secondary processor) 0x\w+ \[0x([0-9a-f]{8})\]")
_CPU_FEATURE = re.compile(r"CPU features: detected: (.+)")
_BLOCK_SIZE = re.compile(r"\S+: Memory block size: (\d+)MB")
_BROUGHT_UP = re.compile(r"smp: Brought up \d+ nodes?, (\d+) CPUs?")
_TOTAL_PAGES = re.compile(r"Built \d+ zonelists, .*Total pages: (\d+)")
_LAYOUT = re.compile(r" +(\S.*?) +: (0x[0-9a-f]+) - (0x[0-9a-f]+) +\( *\d+ \w+\)")

_VIRTIO_MEM_FIELDS = {
    "start address": "start",
    "region size": "region_size",
    "device block size": "device_block_size",
    "nid": "nid",
    "memory block size": "memory_block_size",
    "subblock size": "subblock_size",
    "big block size": "big_block_size",
}


def _span(start: str, last: str) -> Span:
    return Span(int(start, 16), int(last, 16) + 1)


@dataclass(frozen=True)
class Dmesg:
    """A kernel log: every line, and what the lines about memory say."""

    lines: tuple[Line, ...]

    def _matches(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        return (match for line in self.lines if (match := pattern.fullmatch(line.text)))

    def _below(self, title: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """The lines that follow a title, as long as they match."""
        texts = [line.text for line in self.lines]
        for text in texts[texts.index(title) + 1 :] if title in texts else ():
            match = pattern.fullmatch(text)
            if match is None:
                return
            yield match

    @cached_property
    def release(self) -> str | None:
        """``uname -r`` (``init/version-timestamp.c``)."""
        return next((match[1] for match in self._matches(_VERSION)), None)

    @cached_property
    def command_line(self) -> str | None:
        """The command line (``init/main.c``); newer kernels print a long one in pieces, each but the last ending in
        a backslash.
        """
        pieces: list[str] = []
        for match in self._matches(_COMMAND_LINE):
            pieces.append(match[1].removesuffix(" \\"))
            if pieces[-1] == match[1]:
                break
        return " ".join(pieces) if pieces else None

    @cached_property
    def zone_ranges(self) -> tuple[BootZone, ...]:
        """The limits of each zone at boot."""
        found = self._below("Zone ranges:", _BOOT_ZONE)
        return tuple(BootZone(match[1], _span(match[2], match[3]) if match[2] else None) for match in found)

    @cached_property
    def early_node_ranges(self) -> tuple[NodeRange, ...]:
        """What memblock held at boot, node by node (``mm/mm_init.c:free_area_init``), firmware's own included."""
        found = self._below("Early memory node ranges", _EARLY)
        return tuple(NodeRange(int(match[1]), _span(match[2], match[3])) for match in found)

    @cached_property
    def movable_start(self) -> dict[int, int]:
        """Where ZONE_MOVABLE begins in each node that has one at boot, in bytes."""
        found = self._below("Movable zone start for each node", _MOVABLE)
        return {int(match[1]): int(match[2], 16) for match in found}

    @cached_property
    def initmem(self) -> tuple[NodeRange, ...]:
        """The span of each node at boot (``mm/mm_init.c:free_area_init_node``)."""
        return tuple(NodeRange(int(match[1]), _span(match[2], match[3])) for match in self._matches(_INITMEM))

    @cached_property
    def unavailable(self) -> dict[tuple[int, str], int]:
        """Pages in holes that got a struct page, by node and zone, summed (``mm/mm_init.c:init_unavailable_range``)."""
        pages: dict[tuple[int, str], int] = {}
        for match in self._matches(_UNAVAILABLE):
            key = (int(match[1]), match[2])
            pages[key] = pages.get(key, 0) + int(match[3])
        return pages

    @cached_property
    def srat(self) -> tuple[SratRange, ...]:
        """The memory affinities that ACPI told at boot."""
        return tuple(
            SratRange(int(match[1]), int(match[2]), _span(match[3], match[4]), "hotplug" in match[5])
            for match in self._matches(_SRAT)
        )

    @cached_property
    def available(self) -> Available | None:
        """Memory free and present when the buddy took over."""
        match = next(self._matches(_AVAILABLE), None)
        if match is None:
            return None
        parts = (part.strip().partition("K ") for part in match[3].split(","))
        return Available(int(match[1]) << 10, int(match[2]) << 10, {name: int(size) << 10 for size, _, name in parts})

    @cached_property
    def page_size(self) -> int | None:
        """Bytes of a page: the same memory is told in pages and in kB (``mm/mm_init.c``, ``mm/page_alloc.c``).

        Before 6.8 the pages are those that are free, so that the nearest size of page counts.
        """
        pages = next((int(match[1]) for match in self._matches(_TOTAL_PAGES)), 0)
        if self.available is None or not pages:
            return None
        return 1 << round(log2(self.available.present / pages))

    @cached_property
    def memory_block_size(self) -> int | None:
        """x86: bytes of a memory block (``arch/x86/mm/init_64.c:memory_block_size_bytes``)."""
        return next((int(match[1]) << 20 for match in self._matches(_BLOCK_SIZE)), None)

    @cached_property
    def cpus(self) -> int | None:
        """How many CPUs came up at boot (``kernel/smp.c:smp_init``)."""
        return next((int(match[1]) for match in self._matches(_BROUGHT_UP)), None)

    @cached_property
    def cma(self) -> tuple[Span, ...]:
        """Memory kept for the contiguous memory allocator at boot (``mm/cma.c:cma_declare_contiguous_nid``), bytes."""
        areas = ((int(match[2], 16), int(match[1]) << 20) for match in self._matches(_CMA))
        return tuple(Span(start, start + size) for start, size in areas)

    @cached_property
    def mirrored(self) -> tuple[Span, ...]:
        """What firmware keeps twice, in bytes (``EFI_MEMORY_MORE_RELIABLE``): its memory map stands in a log under
        ``efi=debug`` (``drivers/firmware/efi/efi-init.c``, ``arch/x86/platform/efi/efi.c:efi_print_memmap``).
        """
        pairs = (match.group(1, 2) if match[1] else match.group(3, 4) for match in self._matches(_MIRRORED))
        return tuple(SpanSet(_span(start, last) for start, last in pairs if start and last))

    @cached_property
    def some_mirrored(self) -> bool:
        """Whether firmware keeps some memory twice (``drivers/firmware/efi/efi.c:efi_find_mirror``)."""
        return next(self._matches(_SOME_MIRRORED), None) is not None

    @cached_property
    def given_back(self) -> tuple[GivenBack, ...]:
        """What boot gave to the buddy after the initcalls that set watermarks: the initial ramdisk, ``__init`` code."""
        return tuple(GivenBack(match[1], int(match[2]) << 10) for match in self._matches(_FREEING))

    @cached_property
    def freed_later(self) -> int:
        """Bytes of reserved memory that the buddy got after ``Memory:`` was printed, whatever they were for."""
        texts = [line.text for line in self.lines]
        at = next((at for at, text in enumerate(texts) if _AVAILABLE.fullmatch(text)), len(texts))
        return sum(int(match[1]) << 10 for text in texts[at:] if (match := _FREED.fullmatch(text)))

    @cached_property
    def ramdisk(self) -> Span | None:
        """x86: where the initial ramdisk lay (``arch/x86/kernel/setup.c:reserve_initrd``)."""
        return next((_span(match[1], match[2]) for match in self._matches(_RAMDISK)), None)

    @cached_property
    def offlined(self) -> tuple[int, ...]:
        """Pages of each range that went offline (``mm/memory_hotplug.c:offline_pages``, printed at debug level)."""
        return tuple(int(match[1]) for match in self._matches(_OFFLINED))

    @cached_property
    def offline_failures(self) -> tuple[OfflineFailure, ...]:
        """Each range that could not go offline, and the kernel's reason (printed at debug level)."""
        found = ((line.time, _FAILED.fullmatch(line.text)) for line in self.lines)
        return tuple(OfflineFailure(time, _span(match[1], match[2]), match[3]) for time, match in found if match)

    @cached_property
    def altmaps(self) -> tuple[Altmap, ...]:
        """Each time that memory map was taken from the added memory itself (printed at debug level)."""
        return tuple(
            Altmap(int(match[1], 16), int(match[2]), int(match[3]), int(match[4], 16))
            for match in self._matches(_ALTMAP)
        )

    @cached_property
    def virtio_mem(self) -> tuple[VirtioMem, ...]:
        """The virtio-mem devices that the driver found."""
        found: dict[str, dict[str, int]] = {}
        for match in self._matches(_VIRTIO_MEM):
            label, _, value = match[2].partition(": ")
            if label in _VIRTIO_MEM_FIELDS:
                found.setdefault(match[1], {}).setdefault(_VIRTIO_MEM_FIELDS[label], int(value, 0))
        return tuple(
            VirtioMem(name=name, **numbers)
            for name, numbers in found.items()
            if {"start", "region_size", "device_block_size"} <= numbers.keys()
        )

    @cached_property
    def virtio_mem_sizes(self) -> tuple[tuple[str, str, int], ...]:
        """Each time the driver read its device's sizes: device, ``plugged`` or ``requested``, bytes."""
        sizes = ((match[1], match[2].partition(" size: ")) for match in self._matches(_VIRTIO_MEM))
        return tuple(
            (name, what, int(value, 16)) for name, (what, _, value) in sizes if what in ("plugged", "requested")
        )

    @cached_property
    def cpu_features(self) -> frozenset[str]:
        """arm64: the CPU features in use (``arch/arm64/kernel/cpufeature.c``)."""
        return frozenset(match[1] for match in self._matches(_CPU_FEATURE))

    @cached_property
    def midrs(self) -> frozenset[int]:
        """arm64: the identities (MIDR_EL1) of the CPUs that came up."""
        return frozenset(int(match[1], 16) for match in self._matches(_MIDR))

    @cached_property
    def layout(self) -> dict[str, Span]:
        """The virtual areas, on kernels that print them (riscv ``print_vm_layout()``, with CONFIG_DEBUG_VM)."""
        found = self._below("Virtual kernel memory layout:", _LAYOUT)
        return {match[1]: Span(int(match[2], 16), int(match[3], 16)) for match in found}

    def after(self, words: str) -> str | None:
        """What follows `words` in the first line that starts with them."""
        return next((line.text.removeprefix(words) for line in self.lines if line.text.startswith(words)), None)


def parse(text: str) -> Dmesg:
    """A kernel log as ``dmesg``, syslog or the journal has it, with or without time stamps, levels and callers.

    Of a file that holds several boots the last one counts, and in it what the kernel said.
    """
    parsed: list[Line] = []
    for line in text.splitlines():
        dated = _DATED.fullmatch(line)
        if dated is None and _OTHERS.fullmatch(line):
            continue
        said = line if dated is None else dated[1]
        match = _STAMP.fullmatch(said)
        read = Line(float(match[1]), match[2]) if match else Line(None, said)
        if _VERSION.fullmatch(read.text):
            parsed = _before_version(parsed)
        parsed.append(read)
    return Dmesg(tuple(parsed))


def _before_version(lines: list[Line]) -> list[Line]:
    """What belongs to a boot though it stands before its ``Linux version``: arm64 names the CPU first."""
    return lines[-1:] if lines and _MIDR.fullmatch(lines[-1].text) else []
