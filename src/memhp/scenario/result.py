"""What a run yields: plain structures that print as JSON, from which every view is made. Sizes are bytes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from typing import Literal

import msgspec


class _Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of a result."""


class Outcome(_Frozen, frozen=True, kw_only=True):
    """How a step ended: ``ok``, ``OOM`` if it did so and the kernel killed somebody for it, an errno's name, ``BUG`` or
    ``PANIC``; with the kernel's reason and place.
    """

    result: str
    reason: str = ""
    place: str = ""
    advice: str = ""
    rests_on: list[str] = []
    """Assumptions, by name, that it could be another without."""


class BlockRun(_Frozen, frozen=True, kw_only=True):
    """Neighbouring memory blocks that are alike."""

    first: int
    last: int
    state: str
    zone: str
    node: int | None
    memmap_on_memory: bool
    start: int
    size: int


class BlockUse(_Frozen, frozen=True, kw_only=True):
    """Neighbouring memory blocks whose memory is used alike."""

    first: int
    last: int
    use: dict[str, int]
    """Bytes of each of the blocks by use: ``free``, ``movable``, ``kernel``, ``pinned``, ``memmap``, ``table`` …"""


class ZoneCounters(_Frozen, frozen=True, kw_only=True):
    """One zone, in bytes: where it starts, and what ``/proc/zoneinfo`` counts in pages."""

    node: int
    zone: str
    start: int
    """Physical address."""
    spanned: int
    present: int
    managed: int
    free: int


class Memory(_Frozen, frozen=True, kw_only=True):
    """Where the machine's memory is, in bytes."""

    present: int
    managed: int
    free: int
    memmap: int
    """Struct pages, whether in RAM or self-hosted."""
    memmap_self_hosted: int
    page_tables: int


class Tables(_Frozen, frozen=True, kw_only=True):
    """Page-table frames by the height of the entries that they hold."""

    PTE: int = 0
    PMD: int = 0
    PUD: int = 0
    P4D: int = 0
    PGD: int = 0


class FlushCount(_Frozen, frozen=True, kw_only=True):
    """Invalidations of one kind."""

    function: str
    operation: str
    last_level: bool
    local: bool
    times: int
    pages: int
    """Base pages that ranged flushes named; 0 for flushes of everything."""


def flush_count(flushes: Iterable[FlushCount]) -> int:
    """Invalidations of any kind."""
    return sum(flush.times for flush in flushes)


class LogEntry(_Frozen, frozen=True, kw_only=True):
    """A line of the kernel log."""

    level: str
    text: str


class Breach(_Frozen, frozen=True, kw_only=True):
    """A law that does not hold."""

    law: str
    text: str


class Held(_Frozen, frozen=True, kw_only=True):
    """Pages in use, neighbours of one owner: physical address and bytes."""

    start: int
    size: int
    owner: str


class Refused(_Frozen, frozen=True, kw_only=True):
    """Memory that would not go offline."""

    start: int
    """Physical address."""
    size: int
    reason: str
    """The kernel's word for it."""
    pages: list[Held]
    """The pages that stand in the way, every run; empty where it is not about pages."""


class Stuck(_Frozen, frozen=True, kw_only=True):
    """Plugged memory of a virtio-mem device that is to go and does not: neighbouring sub-blocks, or big blocks."""

    start: int
    """Physical address."""
    size: int
    block: int
    """Number of the memory block that it starts in."""
    zone: str
    """The zone of its first page, "" if that is offline."""
    reason: str
    held: list[Held]
    """Its pages in use, every run."""


class VirtioMemDevice(_Frozen, frozen=True, kw_only=True):
    """A virtio-mem device and how far its driver got."""

    device: str
    start: int
    region_size: int
    block_size: int
    node: int
    mode: Literal["sub-block", "big-block"]
    unit: int
    """Bytes of a sub-block or big block: what is plugged and unplugged at a time."""
    requested: int
    plugged: int
    usable: int
    offline: int
    """Bytes added to Linux and not online."""
    requests: int
    """How many the device has seen."""
    bound: bool
    """Whether a driver is bound to it."""
    broken: bool
    """Whether the driver has given the device up."""
    held: list[Held]
    """What is in use of memory that should be given back and was not."""
    stuck: list[Stuck]
    """The memory that should be given back and was not, range by range."""


class TableChange(_Frozen, frozen=True, kw_only=True):
    """A run of neighbouring entries of the kernel's page tables that a step set, cleared or changed alike."""

    area: str
    """The part of the kernel's address space: ``direct map``, ``vmemmap``, ``vmalloc`` …"""
    level: str
    """The level of the entries."""
    change: Literal["set", "cleared", "changed"]
    what: Literal["leaf", "table", "other"]
    """Whether they map memory, point to tables, which come or go with them, or do neither."""
    start: int
    end: int
    """Virtual addresses, end exclusive."""
    entries: int
    frame: int
    """The PFN in the first of them, now or, where they were cleared, before."""
    stride: int
    """By how much PFNs grow from each entry to the next."""
    old: int
    new: int
    """The first of them, as it stood in memory before and after."""


class StepResult(_Frozen, frozen=True, kw_only=True):
    """One step: what was asked, how it ended, what it changed and what it cost."""

    index: int
    do: str
    title: str
    expect: str
    outcome: Outcome
    as_expected: bool
    blocks_before: list[BlockRun]
    blocks_after: list[BlockRun]
    zones: list[ZoneCounters]
    memory_before: Memory
    memory_after: Memory
    memmap_from: dict[str, int]
    """Bytes of struct pages that this step added (or, below zero, took away), by where they are kept."""
    tables_allocated: Tables
    tables_freed: Tables
    flushes: list[FlushCount]
    entries_written: int
    log: list[LogEntry]
    breaches: list[Breach]
    notes: list[str]
    devices: list[VirtioMemDevice] = []
    """Virtio-mem devices after the step."""
    block_use: list[BlockUse] = []
    """What the memory of each block is used for after the step."""
    refused: list[Refused] = []
    """What would not go offline, by address."""
    table_changes: list[TableChange] = []
    """What became of the kernel's page tables, from the root down, by address; only when asked for."""


class LawResult(_Frozen, frozen=True, kw_only=True):
    """One law over the whole run."""

    law: str
    sentence: str
    held: bool
    first_broken: int | None
    """Index of the step after which it first did not hold; -1 for the boot."""
    breaches: list[str]
    notes: list[str]
    meant: bool = False
    """Whether the scenario means it to break (``breaks``)."""

    @property
    def as_expected(self) -> bool:
        """Whether it held, or broke and was meant to."""
        return self.held != self.meant


class Assumption(_Frozen, frozen=True, kw_only=True):
    """Something that a run rests on: what, and on which ground it is taken so.

    Told by the machine (`by`: in which file), foretold by computation, or assumed as nobody said (`settle`: what would
    tell).
    """

    what: str
    basis: Literal["told", "foretold", "assumed"]
    text: str
    by: str = ""
    settle: str = ""


class MachineResult(_Frozen, frozen=True, kw_only=True):
    """The machine as it booted."""

    name: str
    arch: str
    profile: str
    page_size: int
    va_bits: int
    levels: int
    cpus: int
    block_size: int
    section_size: int
    pageblock_size: int
    ram: list[tuple[int, int, int]]
    """RAM at boot as (start, end, node), bytes, end exclusive."""
    ram_left: int
    """Bytes of RAM that the kernel leaves, as they lie beyond what it maps."""
    page_offset: int
    vmemmap_start: int
    pluggable_start: int
    pluggable_end: int
    """The range that hot-added memory may lie in, bytes, end exclusive."""


class State(_Frozen, frozen=True, kw_only=True):
    """The machine at the end."""

    blocks: list[BlockRun]
    zones: list[ZoneCounters]
    memory: Memory
    tables: Tables
    iomem: list[str]
    """``/proc/iomem``, a line each."""


class Run(_Frozen, frozen=True, kw_only=True):
    """A whole rehearsal."""

    title: str
    machine: MachineResult
    steps: list[StepResult]
    state: State
    laws: list[LawResult]
    assumptions: list[Assumption] = []

    @property
    def ok(self) -> bool:
        """Whether every step ended as expected and every law held, but for those that were meant to break and did."""
        return all(step.as_expected for step in self.steps) and all(law.as_expected for law in self.laws)


Verdict = Literal["reproduced", "answered", "refuted", "open"]
