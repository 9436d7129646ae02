"""Facts as a whole: page size, nodes of blocks, differences, growth."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import fields, replace
from typing import cast

import pytest

from captures import every_step, facts, neighbours
from memhp.errors import BadInput
from memhp.facts.changes import ZoneGrowth, growth
from memhp.facts.compare import SECTIONS, Difference, compare, named_facts
from memhp.facts.dmesg import parse as parse_log
from memhp.facts.memory_blocks import MemoryBlock
from memhp.facts.nodes import Nodes
from memhp.facts.observed import Facts, observe
from memhp.facts.open_source import open_source
from memhp.facts.zoneinfo import ZoneInfo


@pytest.mark.parametrize(("name", "step"), every_step())
def test_the_page_size_is_what_makes_memtotal_of_the_managed_pages(name: str, step: str) -> None:
    machine = facts(name, step)
    managed = sum(zone.managed for zone in machine.zones)
    assert machine.page_size is not None
    assert machine.page_size * managed == machine.meminfo["MemTotal"] << 10
    named = {"arm64-16k": 16 << 10, "arm64-64k": 64 << 10, "loong64": 16 << 10}
    assert machine.page_size == next((size for word, size in named.items() if word in name), 4 << 10)


@pytest.mark.parametrize(("name", "step"), every_step())
def test_blocks_belong_to_nodes_that_are_online_and_lie_in_zones_of_theirs(name: str, step: str) -> None:
    """A block of boot memory may be of two nodes; one that was plugged, or is online in one zone, is of one alone."""
    machine = facts(name, step)
    assert machine.page_size is not None
    assert machine.nodes is not None
    online = machine.nodes.states["online"]
    assert {nid for block in machine.memory.blocks for nid in block.nodes} <= set(online)
    for block in machine.memory.blocks:
        assert len(block.nodes) == 1 or block.valid_zones == ("none",)
        span = machine.memory.span(block)
        for zone in [machine.zone(nid, block.zone) for nid in block.nodes] if block.zone is not None else []:
            assert zone is not None
            assert zone.start_pfn is not None
            assert span.start < (zone.start_pfn + zone.spanned) * machine.page_size
            assert span.end > zone.start_pfn * machine.page_size


def two_nodes(log: str = "") -> Facts:
    """A machine that was captured, as it would show itself with a second node that has the plugged memory."""
    machine = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
    zones = tuple(replace(zone, node=1) if zone.name == "Normal" else zone for zone in machine.zones)
    return replace(
        machine, zones=zones, nodes=Nodes({"online": (0, 1)}), boot_log=parse_log(log) if log else None, qemu=None
    )


def nodes_of(machine: Facts) -> dict[int, tuple[int, ...]]:
    """The node of each block as it is found without links."""
    from memhp.facts.observed import link_nodes

    bare = replace(machine.memory, blocks=tuple(replace(block, nodes=()) for block in machine.memory.blocks))
    return {block.index: block.nodes for block in link_nodes(replace(machine, memory=bare)).blocks}


def test_without_links_an_online_block_belongs_to_the_node_of_its_zone() -> None:
    found = nodes_of(two_nodes())
    assert {found[index] for index in range(8)} == {(0,)}
    assert {found[index] for index in range(32, 36)} == {(1,)}


def test_without_links_boot_memory_belongs_to_the_node_that_the_log_names() -> None:
    log = """Early memory node ranges
  node   0: [mem 0x0000000000001000-0x000000001fffffff]
  node   1: [mem 0x0000000020000000-0x000000003ffdffff]
"""
    found = nodes_of(two_nodes(log))
    assert [found[index] for index in range(8)] == [(0,)] * 4 + [(1,)] * 4


def test_without_links_an_offline_block_belongs_to_the_node_of_its_srat_range() -> None:
    log = "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x3bfffffff] hotplug\n"
    machine = two_nodes(log)
    blocks = tuple(
        replace(block, state="offline", valid_zones=("Normal", "Movable")) if block.index >= 32 else block
        for block in machine.memory.blocks
    )
    zones = tuple(zone for zone in machine.zones if zone.node == 0)
    found = nodes_of(replace(machine, zones=zones, memory=replace(machine.memory, blocks=blocks)))
    assert {found[index] for index in range(32, 36)} == {(1,)}


def test_a_machine_equals_itself_and_differs_from_its_next_moment() -> None:
    before = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    after = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
    assert compare(before, before, sections=SECTIONS) == []
    found = compare(before, after)
    assert Difference("/proc/iomem 100000000-11fffffff : System RAM (virtio_mem)", None, 1) in found
    assert Difference("/sys/devices/system/memory/memory32/state", None, "online") in found
    assert Difference("/sys/devices/system/memory/memory35/node", None, "0") in found
    assert Difference("/proc/zoneinfo node 0 Normal present", 0, 131072) in found
    assert Difference("/proc/zoneinfo node 0 Normal start_pfn", None, 1048576) in found
    assert len(found) == 1 + 4 * 7 + 4


HELD_ELSEWHERE = {
    "cmdline": "told to the model",
    "release": "told to the model",
    "qemu": "told to the model",
    "hidden": "told to the model",
    "log": "lines, which tests/replay and conform compare as such",
    "boot_log": "tells what a boot found, of which the model is made",
}
"""Facts in no section of what is compared by name, and why not."""


class Watched:
    def __init__(self, machine: Facts) -> None:
        self.machine, self.asked = machine, set[str]()

    def __getattr__(self, name: str) -> object:
        self.asked.add(name)
        return getattr(self.machine, name)


def test_every_fact_is_compared_by_name_or_held_elsewhere() -> None:
    watched = Watched(facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before"))
    named_facts(cast(Facts, watched), SECTIONS)
    assert {each.name for each in fields(Facts) if each.compare} - watched.asked == HELD_ELSEWHERE.keys()


def test_differences_read_as_sentences() -> None:
    difference = Difference("/proc/zoneinfo node 0 Normal present", 0, 131072)
    assert str(difference) == "/proc/zoneinfo node 0 Normal present: expected 0, got 131072"


def test_only_the_wanted_parts_are_compared() -> None:
    before = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    after = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
    assert compare(before, after, sections=["params", "nodes"]) == []
    assert Difference("/proc/vmstat nr_memmap_pages", 0, 2048) in compare(before, after, sections=["vmstat"])
    with pytest.raises(BadInput, match="no section 'moon'"):
        compare(before, after, sections=["moon"])


def test_growth_tells_blocks_zones_resources_and_memory_maps() -> None:
    """512 MiB of virtio-mem: 131072 pages, whose 64-byte struct pages fill 2048 pages of boot memory."""
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean"
    grown = growth(facts(name, "0-before"), facts(name, "1-plugged"))
    assert [block.index for block in grown.added] == [32, 33, 34, 35]
    assert grown.added[0] == MemoryBlock(32, "online", ("Movable",), True, 0, (0,))
    assert grown.removed == ()
    assert grown.zones == {(0, "Movable"): ZoneGrowth(131072, 131072, 131072, (None, 1048576))}
    assert grown.iomem_new == ("  100000000-11fffffff : System RAM (virtio_mem)",)
    assert grown.iomem_gone == ()
    assert grown.mem_total == 512 << 20
    assert grown.memmap == {"nr_memmap_pages": 131072 * 64 // 4096}


def test_memory_that_holds_its_own_map_grows_by_less_than_it_has() -> None:
    name = "arm64-6.12.107+deb13-cloud-arm64-pc-dimm-memmap"
    grown = growth(facts(name, "0-before"), facts(name, "1-plugged"))
    zone = grown.zones[0, "Movable"]
    assert zone.present - zone.managed == 131072 * 64 // 4096
    assert grown.mem_total == zone.managed * 4096


@pytest.mark.parametrize(("name", "earlier", "later"), neighbours())
def test_growth_backwards_is_growth_forwards_undone(name: str, earlier: str, later: str) -> None:
    there, back = growth(facts(name, earlier), facts(name, later)), growth(facts(name, later), facts(name, earlier))
    assert (there.added, there.removed) == (back.removed, back.added)
    assert (there.iomem_new, there.iomem_gone) == (back.iomem_gone, back.iomem_new)
    assert {key: -zone.managed for key, zone in there.zones.items()} == {
        k: zone.managed for k, zone in back.zones.items()
    }
    assert there.mem_total == -(back.mem_total or 0)
    assert there.memmap == {counter: -pages for counter, pages in back.memmap.items()}


@pytest.mark.parametrize(("name", "earlier", "later"), neighbours())
def test_zones_grow_by_the_blocks_that_went_online_in_them(name: str, earlier: str, later: str) -> None:
    before, after = facts(name, earlier), facts(name, later)
    page_size = after.page_size
    assert page_size is not None
    pages = after.memory.block_size // page_size

    def online(machine: Facts, nid: int, zone: str) -> int:
        return sum(block.zone == zone and block.nodes == (nid,) for block in machine.memory.blocks)

    for (nid, zone), grown in growth(before, after).zones.items():
        if zone != "Device":
            assert grown.present == (online(after, nid, zone) - online(before, nid, zone)) * pages


def test_a_zone_that_appears_grows_from_nothing() -> None:
    before = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    new = ZoneInfo(1, "Movable", 5, 10, 10, 10, 4096)
    grown = growth(before, replace(before, zones=(*before.zones, new)))
    assert grown.zones == {(1, "Movable"): ZoneGrowth(10, 10, 10, (None, 4096))}


def test_the_live_machine_can_be_observed() -> None:
    """Where this runs without root or without memory hotplug, the refusal says which of the two."""
    try:
        machine = observe(open_source("/"))
    except BadInput as refused:
        assert "root" in refused.fix
    else:
        assert machine.memory.blocks
        assert machine.page_size is not None
        assert machine.release
