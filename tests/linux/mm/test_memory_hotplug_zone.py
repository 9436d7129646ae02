"""Spans of zones and nodes against a plain reference, and the zone that memory goes to."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import PLUG_AT, OneByOne, blocks, kernel, plug, refused
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_groups import memory_group_register_dynamic, memory_group_register_static
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NID_IS_MGID, add_memory, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.memory_hotplug_zone import move_pfn_range_to_zone, remove_pfn_range_from_zone, zone_for_pfn_range
from memhp.linux.mm.sparse import offline_mem_sections, online_mem_sections, sparse_add_section
from memhp.linux.mmzone import MigrateType, Node, ZoneType
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB

SECTIONS = 24
PER = 32768
"""Pages of a section of 128 MiB."""
SUB = 512
"""Pages of a sub-section of 2 MiB."""


# Growing and shrinking ---------------------------------------------------------------------------------------


@dataclass
class NaiveZone:
    """A zone's span, kept by walking sub-section by sub-section as mm/memory_hotplug.c does."""

    start: int = 0
    spanned: int = 0

    @property
    def end(self) -> int:
        return self.start + self.spanned

    def grow(self, start: int, pages: int) -> None:
        old_end = self.end
        if not self.spanned or start < self.start:
            self.start = start
        self.spanned = max(start + pages, old_end) - self.start

    def shrink(self, start: int, end: int, owner: "Naive", name: str) -> None:
        if self.start == start:
            found = next((pfn for pfn in range(end, self.end, SUB) if owner.online.get(pfn // PER) == name), 0)
            self.spanned = self.end - found if found else 0
            self.start = found
        elif self.end == end:
            found = next(
                (pfn for pfn in range(start - 1, self.start - 1, -SUB) if owner.online.get(pfn // PER) == name), 0
            )
            self.spanned = found - self.start + 1 if found else 0
            self.start = self.start if found else 0


@dataclass
class Naive:
    """Which section is online in which zone, and the spans that follow."""

    online: dict[int, str] = field(default_factory=dict)
    zones: dict[str, NaiveZone] = field(default_factory=lambda: {"Normal": NaiveZone(), "Movable": NaiveZone()})


MOVE = st.tuples(st.integers(0, SECTIONS - 1), st.integers(1, 4), st.sampled_from((ZoneType.NORMAL, ZoneType.MOVABLE)))


def hot_kernel() -> tuple[Kernel, int]:
    """A machine with sections to play with, and the first of their numbers."""
    k = kernel("x86_64")
    span = plug(k, SECTIONS * 128 * MiB)
    sparse_add_section(k, 0, span.start, span.size)
    return k, span.start // PER


@given(st.lists(MOVE, max_size=30))
def test_zones_grow_and_shrink_as_the_kernels_walk_over_sub_sections(moves: list[tuple[int, int, ZoneType]]) -> None:
    """Each move takes a run of sections online in a zone if all are offline, or offline if all are online in it."""
    k, first = hot_kernel()
    boot = [zone for zone in k.zones() if zone.spanned]
    naive = Naive()
    for at, count, kind in moves:
        run = range(first + at, first + min(at + count, SECTIONS))
        zone = k.nodes[0].zone(kind)
        model = naive.zones[zone.name]
        start, end = run.start * PER, run.stop * PER
        states = {naive.online.get(section) for section in run}
        if states == {None}:
            move_pfn_range_to_zone(k, zone, start, end - start, MigrateType.MOVABLE)
            online_mem_sections(k, start, end)
            naive.online.update(dict.fromkeys(run, zone.name))
            model.grow(start, end - start)
        elif states == {zone.name}:
            offline_mem_sections(k, start, end)
            remove_pfn_range_from_zone(k, zone, start, end - start)
            for section in run:
                del naive.online[section]
            model.shrink(start, end, naive, zone.name)
        assert (zone.start_pfn, zone.spanned) == (model.start, model.spanned)
        spans = [(each.start_pfn, each.end_pfn) for each in boot]
        spans += [(each.start, each.end) for each in naive.zones.values() if each.spanned]
        node = k.nodes[0]
        assert (node.start_pfn, node.end_pfn) == (min(s for s, _ in spans), max(e for _, e in spans))


def test_a_hole_in_the_middle_of_a_zone_stays_within_its_span_until_an_end_reaches_it() -> None:
    k, first = hot_kernel()
    zone = k.nodes[0].zone(ZoneType.MOVABLE)
    start = first * PER
    move_pfn_range_to_zone(k, zone, start, 3 * PER, MigrateType.MOVABLE)
    online_mem_sections(k, start, start + 3 * PER)
    assert not zone.contiguous, "its sections were not online when it grew: mm/mm_init.c:set_zone_contiguous"
    for middle_then_end in (1, 2):
        at = start + middle_then_end * PER
        offline_mem_sections(k, at, at + PER)
        remove_pfn_range_from_zone(k, zone, at, PER)
        assert zone.contiguous == (middle_then_end == 2)
        assert zone.spanned == (3 * PER if middle_then_end == 1 else PER)


@pytest.mark.parametrize("foreign", [0, 1, 300, 512, 513])
def test_a_zone_shrinks_in_steps_of_a_sub_section_from_the_range_that_leaves(foreign: int) -> None:
    """The last pages before the range belong to another zone: the walk meets the zone again where a step falls."""
    k, first = hot_kernel()
    normal, movable = k.nodes[0].zone(ZoneType.NORMAL), k.nodes[0].zone(ZoneType.MOVABLE)
    start, middle, end = first * PER, (first + 1) * PER, (first + 2) * PER
    cut = middle - foreign
    for zone, low, high in ((normal, start, cut), (movable, cut, middle), (normal, middle, end)):
        move_pfn_range_to_zone(k, zone, low, high - low, MigrateType.MOVABLE)
    online_mem_sections(k, start, end)
    offline_mem_sections(k, middle, end)
    remove_pfn_range_from_zone(k, normal, middle, PER)
    naive = next(pfn for pfn in range(middle - 1, start - 1, -SUB) if k.zone_of(pfn) is normal)
    assert normal.end_pfn == naive + 1 == middle - (foreign + SUB - 1) // SUB * SUB


@pytest.mark.parametrize("foreign", [0, 1, 300, 512, 513])
def test_a_zone_that_loses_its_start_begins_where_a_step_of_a_sub_section_meets_it_again(foreign: int) -> None:
    k, first = hot_kernel()
    normal, movable = k.nodes[0].zone(ZoneType.NORMAL), k.nodes[0].zone(ZoneType.MOVABLE)
    start, middle, end = first * PER, (first + 1) * PER, (first + 2) * PER
    cut = middle + foreign
    for zone, low, high in ((normal, start, middle), (movable, middle, cut), (normal, cut, end)):
        move_pfn_range_to_zone(k, zone, low, high - low, MigrateType.MOVABLE)
    online_mem_sections(k, start, end)
    offline_mem_sections(k, start, middle)
    remove_pfn_range_from_zone(k, normal, start, PER)
    naive = next(pfn for pfn in range(middle, end, SUB) if k.zone_of(pfn) is normal)
    assert normal.start_pfn == naive == middle + (foreign + SUB - 1) // SUB * SUB


def test_kernels_before_5_5_keep_the_span_when_memory_goes_offline_and_cut_it_on_removal() -> None:
    k = kernel("arm64", "arm64-hotremove-v7")
    size = 2 * k.memory_block_size
    plug(k, size)
    add_memory(k, 0, PLUG_AT, size)
    for block in blocks(k, size):
        state_store(k, block, "online_movable")
    zone = k.nodes[0].zone(ZoneType.MOVABLE)
    pages = zone.spanned
    for block in blocks(k, size):
        state_store(k, block, "offline")
    assert (zone.spanned, zone.present) == (pages, 0)
    remove_memory(k, PLUG_AT, k.memory_block_size)
    assert (zone.start_pfn, zone.spanned) == ((PLUG_AT + k.memory_block_size) >> 12, pages // 2)
    remove_memory(k, PLUG_AT + k.memory_block_size, k.memory_block_size)
    assert (zone.start_pfn, zone.spanned) == (0, 0)


# Which zone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("touching", "movable_node", "expected"),
    [
        ((), False, "Normal"),
        ((), True, "Movable"),
        (("Normal",), False, "Normal"),
        (("Normal",), True, "Normal"),
        (("Movable",), False, "Movable"),
        (("Movable",), True, "Movable"),
        (("Normal", "Movable"), False, "Normal"),
        (("Normal", "Movable"), True, "Movable"),
    ],
)
def test_contig_zones_inherits_the_one_zone_that_spans_the_range(
    touching: tuple[str, ...], movable_node: bool, expected: str
) -> None:
    k = kernel("x86_64", movable_node=movable_node)
    for kind in (ZoneType.NORMAL, ZoneType.MOVABLE):
        if kind.title in touching:
            zone = k.nodes[0].zone(kind)
            zone.start_pfn, zone.spanned = PLUG_AT >> 12, PER
    chosen = zone_for_pfn_range(k, "online", 0, None, PLUG_AT >> 12, PER)
    assert chosen.name == expected
    assert zone_for_pfn_range(k, "online_movable", 0, None, PLUG_AT >> 12, PER).name == "Movable"
    assert zone_for_pfn_range(k, "online_kernel", 0, None, PLUG_AT >> 12, PER).name == "Normal"


def test_memory_below_the_end_of_a_lower_zone_goes_there() -> None:
    k = kernel("riscv64")
    zone = k.nodes[0].zone(ZoneType.DMA32)
    assert zone_for_pfn_range(k, "online", 0, None, zone.end_pfn - PER, PER) is zone
    assert zone_for_pfn_range(k, "online_kernel", 0, None, zone.end_pfn, PER).name == "Normal"


# auto-movable ------------------------------------------------------------------------------------------------


def vm(release: str = "linux-6.12", **changes: int) -> Kernel:
    """The VM of the cover letter "mm/memory_hotplug: auto-movable online policy and memory groups" (June 2021).

    4 GiB of RAM, 2 of them below 4 GiB, so that its memory blocks are 0 to 15 and 32 to 47.
    """
    config = Config(
        arch="x86_64",
        profile=profile(release),
        page_size=4 * KiB,
        va_bits=48,
        online_policy="auto-movable",
        memhp_default_state="online",
        **changes,  # type: ignore[arg-type]
    )
    return start_kernel(MachineSpec("vm", config, (Ram(1 * MiB, 2 * GiB - 1 * MiB), Ram(4 * GiB, 2 * GiB))))


def block_zones(k: Kernel) -> list[tuple[int, int, str]]:
    """Runs of blocks and their zone, last block included."""
    runs: list[tuple[int, int, str]] = []
    for first, last, _ in k.memory_blocks:
        for block in range(first, last):
            name = valid_zones(k, block)
            if runs and runs[-1][1] == block - 1 and runs[-1][2] == name:
                runs[-1] = (runs[-1][0], block, name)
            else:
                runs.append((block, block, name))
    return runs


def test_auto_movable_with_dimms_of_4_gib_stops_at_three_times_the_boot_memory() -> None:
    """Memory blocks 48 to 143 become Movable, all further DIMMs Normal, as the cover letter shows."""
    k = vm()
    for dimm in range(6):
        start = 6 * GiB + dimm * 4 * GiB
        group = memory_group_register_static(k, 0, 4 * GiB >> 12)
        plug(k, 4 * GiB, at=start)
        add_memory(k, group, start, 4 * GiB, MHP_NID_IS_MGID)
    assert [run for run in block_zones(k) if run[0] >= 32] == [
        (32, 47, "Normal"),
        (48, 143, "Movable"),
        (144, 239, "Normal"),
    ]


def test_auto_movable_with_virtio_mem_goes_on_with_three_movable_blocks_for_each_kernel_block() -> None:
    """Kernel memory of a dynamic group allows for more Movable memory of the same group: the cover letter's layout."""
    k = vm()
    group = memory_group_register_dynamic(k, 0, 32768)
    for block in range(48, 48 + 96 + 12):
        start = block * 128 * MiB
        plug(k, 128 * MiB, at=start)
        add_memory_driver_managed(k, group, start, 128 * MiB, "System RAM (virtio_mem)", MHP_NID_IS_MGID)
    assert [run for run in block_zones(k) if run[0] >= 48] == [
        (48, 143, "Movable"),
        (144, 144, "Normal"),
        (145, 147, "Movable"),
        (148, 148, "Normal"),
        (149, 151, "Movable"),
        (152, 152, "Normal"),
        (153, 155, "Movable"),
    ]


def test_a_dimm_that_does_not_fit_whole_goes_to_a_kernel_zone_whole() -> None:
    """13 GiB of Movable would be one too many for 4 GiB at 301 %: none of the DIMM becomes Movable."""
    k = vm()
    group = memory_group_register_static(k, 0, 13 * GiB >> 12)
    plug(k, 13 * GiB, at=6 * GiB)
    add_memory(k, group, 6 * GiB, 13 * GiB, MHP_NID_IS_MGID)
    assert block_zones(k)[-1] == (32, 151, "Normal")


def test_a_ratio_of_zero_keeps_memory_out_of_movable() -> None:
    k = vm(auto_movable_ratio=0)
    plug(k, 1 * GiB, at=6 * GiB)
    add_memory(k, 0, 6 * GiB, 1 * GiB)
    assert block_zones(k)[-1] == (32, 55, "Normal")


@pytest.mark.parametrize(("numa_aware", "expected"), [(True, "Normal"), (False, "Movable")])
def test_a_node_without_kernel_memory_of_its_own_gets_movable_memory_only_if_nodes_do_not_count(
    numa_aware: bool, expected: str
) -> None:
    k = kernel("x86_64", online_policy="auto-movable", auto_movable_numa_aware=numa_aware)
    k.nodes.setdefault(1, Node(1, k.hw))
    assert zone_for_pfn_range(k, "online", 1, None, PLUG_AT >> 12, PER).name == expected


@pytest.mark.parametrize(("online", "expected"), [("online_movable", "Movable"), ("online_kernel", "Normal")])
def test_the_rest_of_a_unit_follows_what_is_online_of_it(online: str, expected: str) -> None:
    """Units of two blocks; of one the first block is online."""
    k = kernel("x86_64", online_policy="auto-movable")
    size = k.memory_block_size
    group = memory_group_register_dynamic(k, 0, 2 * k.pages_per_block)
    for start in (PLUG_AT, PLUG_AT + size):
        plug(k, size, at=start)
        add_memory_driver_managed(k, group, start, size, "System RAM (virtio_mem)", MHP_NID_IS_MGID)
    first, second = blocks(k, 2 * size)
    state_store(k, first, online)
    state_store(k, second, "online")
    assert valid_zones(k, second) == expected


@pytest.mark.parametrize("blocks", [0.5, 0, 3])
def test_the_unit_of_a_dynamic_group_is_a_power_of_two_of_at_least_one_block(blocks: float) -> None:
    """drivers/base/memory.c:memory_group_register_dynamic: EINVAL for less, and for 3 blocks."""
    k = kernel("x86_64")
    assert refused(memory_group_register_dynamic, k, 0, int(blocks * k.pages_per_block)).name == "EINVAL"


class Written(OneByOne):
    """A stepper that notes what is written without a step of its own, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        if write:
            self.names.add(name)


def test_what_goes_with_pages_that_leave_their_zone_is_announced_as_written() -> None:
    """``remove_pfn_range_from_zone()`` writes over struct pages, without ``zone->lock``, and leaves the bits of
    pageblocks, which are the section's. Here these go as well: who looks at them meanwhile has to be told apart.
    """
    k = kernel("x86_64")
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)
    state_store(k, PLUG_AT // k.memory_block_size, "online_movable")
    k.hw.stepper = stepper = Written()
    start, end = PLUG_AT >> 12, (PLUG_AT + k.memory_block_size) >> 12
    remove_pfn_range_from_zone(k, k.nodes[0].zones[ZoneType.MOVABLE], start, end - start)
    written = {name for name in stepper.names if name.startswith(("zone0/", "page_"))}
    assert written == {"page_zone", "page_flags", "zone0/Movable.migratetypes", "zone0/Movable.isolated"}
