"""Machines are read as they are: each of these was read wrongly once, and one page was enough to notice."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from captures import all_captures, captures, facts, open_capture
from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.describe import describe
from memhp.facts.hotplug import changes
from memhp.facts.observed import Facts, observe
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import ZoneType
from memhp.scenario.schema import MachineText
from memhp.spans import Span
from memhp.target.model.replay import catch_up
from memhp.target.model.session import Session
from memhp.target.seen.sources import facts_spec

SMALL = "x86_64-6.12.117+deb13-cloud-amd64-dimm-memoryless-node"
DIMMS = "x86_64-6.12.117+deb13-cloud-amd64-automovable301"
TREE = "arm64-6.12.117+deb13-arm64-vmem-numa2"


def without_blocks(observed: Facts, *blocks: int) -> Facts:
    """The facts of a machine whose blocks of zone DMA32 somebody took offline."""
    pages = len(blocks) * observed.memory.block_size // 4096
    gone = tuple(
        replace(block, state="offline", valid_zones=("DMA32", "Movable")) if block.index in blocks else block
        for block in observed.memory.blocks
    )
    zones = tuple(
        replace(zone, managed=zone.managed - pages, present=zone.present - pages, free=zone.free - pages)
        if zone.name == "DMA32" and zone.node == 0
        else zone
        for zone in observed.zones
    )
    return replace(observed, memory=replace(observed.memory, blocks=gone), zones=zones)


@pytest.mark.parametrize("blocks", [(5,), (5, 6)])
def test_boot_blocks_that_are_offline_were_managed_at_boot(blocks: tuple[int, ...]) -> None:
    observed = facts(SMALL, "0-before")
    told = without_blocks(observed, *blocks)
    spec = facts_spec(told, MachineText(source=SMALL))
    zone = observed.zone(0, "DMA32")
    assert zone is not None
    assert spec.managed[0, ZoneType.DMA32] == zone.managed
    session = Session(start_kernel(spec))
    catch_up(session, told)
    now = derive(session.k)
    assert {block.index for block in now.memory.blocks if block.state == "offline"} == set(blocks)
    mine, real = now.zone(0, "DMA32"), told.zone(0, "DMA32")
    assert mine is not None
    assert real is not None
    assert (mine.managed, mine.present) == (real.managed, real.present)


def test_each_dimm_begins_where_it_was_added() -> None:
    """QEMU's record of the same moment tells where."""
    observed = facts(DIMMS, "5-dimm-2048M")
    assert observed.qemu is not None
    dimms = sorted(device.span for device in observed.qemu.devices if device.type == "dimm")
    added = [change.span for change in changes(facts(DIMMS, "0-before"), observed) if change.kind == "add"]
    assert added == dimms
    assert dimms[1].start == 0x340000000


def test_a_proximity_domain_is_not_a_node() -> None:
    """SRAT has domains 0 and 2: QEMU's node 2 is Linux's 1, and domain 1 is none, so that its DIMM goes to node 0."""
    observed = facts(SMALL, "2-vm0-300M-on-node2")
    nodes = {block.index: block.nodes for block in observed.memory.blocks}
    assert nodes[32] == (1,)
    assert nodes[40] == (0,)
    (device,) = virtio_mem_devices(observed)
    assert device.node == 1


def test_a_device_tree_names_no_domains_and_the_driver_tells_its_node() -> None:
    assert [device.node for device in virtio_mem_devices(facts(TREE, "2-vm1-528M"))] == [1, 1]
    qemu = facts(TREE, "2-vm1-528M").qemu
    assert qemu is not None
    assert {device.node for device in qemu.devices} == {0, 1}


def test_cpus_are_where_the_machine_has_them() -> None:
    session = Session(start_kernel(facts_spec(facts(TREE, "0-before"), MachineText(source=TREE))))
    nodes = derive(session.k).nodes
    assert nodes is not None
    assert nodes.states["has_cpu"] == (0, 1)


def test_a_zone_that_manages_nothing_stays_empty() -> None:
    """Under ``movable_node`` struct pages fill the lowest memory, all of ZONE_DMA."""
    name = "x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr"
    observed = facts(name, "0-before")
    dma = derive(start_kernel(facts_spec(observed, MachineText(source=name)))).zone(0, "DMA")
    assert dma is not None
    assert (dma.managed, dma.present) == (0, 3998)


OTHERS = [name for name in all_captures() if name.split("-")[0] in {"s390x", "ppc64le", "loongarch64"}]


@pytest.mark.parametrize("name", OTHERS)
def test_machines_without_a_port_are_read_and_refused_by_name(name: str) -> None:
    assert len(OTHERS) >= 10
    for source in open_capture(name).values():
        observed = observe(source)
        assert observed.zones
        assert observed.memory.blocks
        if name not in captures():
            with pytest.raises(BadInput, match=name.split("-", maxsplit=1)[0]):
                describe(observed, name=name)


def test_a_dead_add_leaves_a_resource_without_blocks() -> None:
    """The kernel died in ``arch_add_memory()``: the resource had come, blocks would have been last."""
    observed = facts("x86_64-6.12.117+deb13-cloud-amd64-oom-lowpages-612", "1-added")
    ram = [resource.span for resource in observed.iomem if resource.name == "System RAM"]
    assert Span(0x10000000000, 0x50000000000) in ram
    assert 0x10000000000 // observed.memory.block_size not in observed.memory.by_index
