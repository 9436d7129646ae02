"""What happened between two steps of a capture is what the capture's own log says was done."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import facts, neighbours
from memhp.facts.hotplug import ORDER, PlugChange, changes
from memhp.units import GiB, MiB


def happened(name: str, earlier: str, later: str) -> tuple[PlugChange, ...]:
    return changes(facts(name, earlier), facts(name, later))


def test_virtio_mem_adds_and_the_kernel_puts_online() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean"
    added, online = happened(name, "0-before", "1-plugged")
    assert added == PlugChange("add", 4 * GiB, 512 * MiB, "System RAM (virtio_mem)", "virtio1", 0)
    assert online == PlugChange("online", 4 * GiB, 512 * MiB, "System RAM (virtio_mem)", "virtio1", 0, "Movable")
    assert online.online_type == "online_movable"


def test_virtio_mem_takes_offline_and_removes() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean"
    offline, removed = happened(name, "1-plugged", "4-unplug-to-128M")
    assert (offline.kind, offline.span, offline.zone) == ("offline", (0x108000000, 0x120000000), "Movable")
    assert (removed.kind, removed.span, removed.zone) == ("remove", (0x108000000, 0x120000000), None)


def test_a_dax_device_loses_what_does_not_fill_a_block() -> None:
    """Of 1 GiB of persistent memory the first 2 MiB are the namespace's own, so seven blocks of 128 MiB are whole."""
    name = "riscv64-6.12.107+deb13-riscv64-kmem-map-ram-mom0"
    (added,) = happened(name, "1-devdax", "2-kmem-added")
    assert added == PlugChange("add", 0x108000000, 896 * MiB, "System RAM (kmem)", "dax0.0", 0)
    (online,) = happened(name, "2-kmem-added", "3-online")
    assert (online.kind, online.size, online.zone) == ("online", 896 * MiB, "Movable")
    (offline,) = happened(name, "3-online", "4-offlined")
    assert (offline.kind, offline.size, offline.zone) == ("offline", 896 * MiB, "Movable")
    (removed,) = happened(name, "4-offlined", "5-removed")
    assert (removed.kind, removed.driver, removed.device) == ("remove", "System RAM (kmem)", "dax0.0")


def test_a_dimm_has_no_resource_of_a_driver_around_it() -> None:
    added, online = happened("x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "0-before", "1-plugged")
    assert added == PlugChange("add", 4 * GiB, 512 * MiB, "System RAM", "", 0)
    assert (online.zone, online.online_type) == ("Normal", "online_kernel")


def test_a_block_that_changed_its_zone_went_offline_in_between() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-memmap"
    found = happened(name, "1-plugged", "2-onoff")
    assert [(each.kind, each.start, each.size, each.zone) for each in found] == [
        ("offline", 0x118000000, 128 * MiB, "Movable"),
        ("online", 0x118000000, 128 * MiB, "Normal"),
    ]


def test_arm64_with_64k_pages_adds_a_whole_512_mib() -> None:
    (added,) = happened("arm64-custom-arm64-64k-virtio-mem-default", "0-before", "1-plugged")
    assert (added.start, added.size) == (0x80000000, 512 * MiB)


@pytest.mark.parametrize(("name", "earlier", "later"), neighbours())
def test_replaying_what_happened_leads_from_one_step_to_the_next(name: str, earlier: str, later: str) -> None:
    before, after = facts(name, earlier), facts(name, later)
    size = before.memory.block_size
    blocks = {block.index: block.zone for block in before.memory.blocks}
    kinds = []
    for change in changes(before, after):
        kinds.append(change.kind)
        for index in range(change.start // size, (change.start + change.size) // size):
            if change.kind == "offline":
                assert blocks[index] == change.zone
                blocks[index] = None
            elif change.kind == "remove":
                assert blocks.pop(index) is None
            elif change.kind == "add":
                assert blocks.setdefault(index, None) is None
            else:
                assert blocks[index] is None
                blocks[index] = change.zone
    assert blocks == {block.index: block.zone for block in after.memory.blocks}
    assert kinds == sorted(kinds, key=ORDER.index)


@pytest.mark.parametrize(("name", "earlier", "later"), neighbours())
def test_what_is_undone_is_what_was_done(name: str, earlier: str, later: str) -> None:
    opposite = {"add": "remove", "remove": "add", "online": "offline", "offline": "online"}
    there = {(change.kind, change.span, change.zone) for change in happened(name, earlier, later)}
    back = {(opposite[change.kind], change.span, change.zone) for change in happened(name, later, earlier)}
    assert there == back
