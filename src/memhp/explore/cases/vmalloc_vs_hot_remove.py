"""vmalloc() finds a page table while hot-remove frees it: the two share upper tables where their areas meet.

vmap makes tables under ``init_mm.page_table_lock``, but looks up those that are there, and writes leaves, without it.
Per-CPU memory takes the highest addresses of the vmalloc area, and on arm64 the vmemmap begins behind it, so that both
may lie under one entry of an upper table. If hot-remove frees the table below that entry because it has emptied it,
vmap may have it in its hands by then.

A table is shared with the first struct pages of the vmemmap only, and it can become empty only if those are not of boot
memory: the linear map has to start below boot RAM, as it may at random until 6.16, and the memory that comes and goes
has to lie there. That is the machine here.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import NamedTuple

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, pfns, reached
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.layout import Layout, layout
from memhp.linux.mm.memory import table_alloc
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.vmalloc import Vmalloc, pcpu_create_chunk
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, align_up

BELOW, ABOVE = GiB, 8 * GiB
"""Where the DIMM is: first in a linear map that starts with it, so that its struct pages are the first of the vmemmap;
behind boot RAM in one that starts with that."""
CHUNK = "percpu"
APART = "vmalloc and vmemmap share no table but the root"


class SharedTable(NamedTuple):
    """The lowest table that translates addresses of both areas."""

    level: str
    """The level of the entry that points to it."""
    span: Span
    """The addresses that it translates."""
    tenants: tuple[str, ...]
    """What else is in it for good, so that hot-remove never finds it empty."""


def shared_table(mine: Layout, ram: Span) -> SharedTable | None:
    """The table that vmalloc and vmemmap share on a machine that booted with `ram` (bytes); None if they share none."""
    config = mine.config
    for height in range(1, config.levels):
        for start in mine.shared_entries(height):
            span = Span(start, start + (1 << config.shift(height)))
            memmap = mine.memmap(ram.start >> config.page_shift, ram.end >> config.page_shift)
            others = (("boot memory's struct pages", memmap), ("fixmap", mine.fixmap.span),
                      ("kernel image", mine.kernel.span))  # fmt: skip
            tenants = tuple(name for name, area in others if area.overlaps(span))
            return SharedTable(config.format.levels[height].name, span, tenants)
    return None


def placed(config: Config) -> tuple[Config, Span]:
    """The configuration with its linear map in place, and boot RAM.

    RAM starts where its struct pages are outside the shared table, if the linear map reaches that far. Otherwise it
    starts at 4 GiB, or with the linear map, where that cannot be elsewhere.
    """
    if not config.port.linear_map_random(config):
        return config, Span(GiB, 3 * GiB)
    first = BELOW - (1 << config.va_bits) + (1 << config.va_bits_actual)
    config = replace(config, bases=replace(config.bases, memstart_addr=first))
    near = Span(4 * GiB, 6 * GiB)
    mine = layout(config, near)
    shared = shared_table(mine, near)
    if shared is None:
        return config, near
    before = (shared.span.end - mine.vmemmap_usable.start) // config.struct_page_size * config.page_size
    start = max(near.start, align_up(BELOW + before, GiB))
    far = Span(start, start + near.size)
    return config, far if far.end <= mine.direct_mapped().end else near


def boot(config: Config, *, added: bool = True) -> Kernel:
    """The machine with what shares tables with the two areas for good, and its DIMM, hot-added and offline or not."""
    config, ram = placed(config)
    half = ram.size // 2
    nodes = Ram(ram.start, half), Ram(ram.start + half, half, nid=1)
    k = start_kernel(MachineSpec("explored", config, nodes, nodes=(0, 1)))
    for address in (k.layout.fixmap.start, k.layout.kernel.start):
        table = k.init_mm
        while table.height:
            table, _ = table_alloc(k, table, k.hw.fmt.index(address, table.height))
    k.hw.plug(pfns(k, dimm(k)), Owner(Use.DEVICE, "dimm"))
    if added:
        hot_add(k)
    return k


def dimm(k: Kernel) -> Span:
    """The bytes of the DIMM."""
    at = BELOW if k.port.linear_map_random(k.config) else ABOVE
    return Span(at, at + k.memory_block_size)


def hot_add(k: Kernel) -> None:
    """``add_memory()`` of the DIMM."""
    add_memory(k, 1, dimm(k).start, k.memory_block_size, MHP_NONE)


def hot_remove(k: Kernel) -> None:
    """``remove_memory()`` of the DIMM, whose block is offline."""
    remove_memory(k, dimm(k).start, k.memory_block_size)


def populate_chunk(k: Kernel) -> None:
    """The first chunk of per-CPU memory that is not there since boot: one page of it."""
    pcpu_create_chunk(k, k.config.page_size, CHUNK)


def chunk_is_mapped(k: Kernel) -> str | None:
    """When all is done: the first law that does not hold, or that the chunk cannot be reached."""
    return laws_hold(k) or reached(k, k.statics(Vmalloc).vmap_areas[CHUNK][0].start)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while per-CPU memory grows."""
    k = boot(variant.config(configuration))
    return KernelProgram(k, (hot_remove, populate_chunk), ("hot-remove", "percpu"), check=chunk_is_mapped)


OPTIONS = {"rodata_full": False}
"""Blocks in the direct map, so that hot-remove has few entries to clear."""


def _noted(*releases: str) -> tuple[Configuration, ...]:
    """Every configuration of some releases: first those where it can happen, then the others, and why it cannot."""
    each = (replace(one, note=_note(one)) for release in releases for one in configurations(release, "arm64"))
    return tuple(sorted(each, key=lambda one: bool(one.note)))


def _note(configuration: Configuration) -> str:
    config, ram = placed(Variant("", "", "repaired", (), options=OPTIONS).config(configuration))
    shared = shared_table(layout(config, ram), ram)
    if shared is None:
        return APART
    if shared.tenants:
        return f"the table under their {shared.level} entry is never empty: {', '.join(shared.tenants)}"
    return ""


LAYOUTS = _noted("linux-6.12", "linux-5.13", "arm64-hotremove-v7", "arm64-hotremove-v6")
"""Every arm64 configuration in the address-space layouts of 6.9, 5.11, 5.4 and before."""

CASE = Case(
    name="vmalloc-vs-hot-remove",
    actors="per-CPU memory grows at the top of the vmalloc area; hot-remove frees tables of the vmemmap behind it",
    build=build,
    geometry=(
        "real tables; where the linear map may start at random, it starts with the DIMM, and boot RAM is far enough "
        "above for its struct pages to be in other tables; struct pages come from node 1, per-CPU memory from node 0"
    ),
    variants=(
        Variant(
            "V5",
            "frees any table that it finds empty, in one pass under the page-table lock",
            "broken",
            LAYOUTS,
            {"free_empty_tables": "always", "remove_passes": 1, "remove_lock": "whole-range"},
            options=OPTIONS,
        ),
        Variant(
            "V6",
            "never frees a table of the vmemmap",
            "repaired",
            LAYOUTS,
            {"free_empty_tables": "never", "remove_passes": 2, "remove_lock": "none"},
            options=OPTIONS,
        ),
        Variant(
            "V7",
            "frees tables of the vmemmap unless it shares a root entry with vmalloc",
            "repaired",
            LAYOUTS,
            {"free_empty_tables": "if-no-vmalloc-overlap", "remove_passes": 2, "remove_lock": "none"},
            options=OPTIONS,
        ),
        Variant(
            "floor-ceiling",
            "frees a table only if all that it translates is vmemmap",
            "repaired",
            _noted("linux-6.12", "linux-7.2", "linux-5.13"),
            options=OPTIONS,
        ),
    ),
)
