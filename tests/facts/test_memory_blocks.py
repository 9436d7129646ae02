"""Memory blocks, nodes, hotplug parameters, command lines, devices: what sysfs of real machines shows."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import DATA, facts
from memhp.errors import BadInput
from memhp.facts import cmdline, memory_blocks, params
from memhp.facts.capture import File
from memhp.facts.devices import DaxDevice, MemoryDevice
from memhp.facts.lines import id_list, render_id_list
from memhp.facts.open_source import open_source
from memhp.facts.params import HotplugParams
from memhp.facts.source import SYS_MEMORY, FileSource


def sysfs(**files: str) -> FileSource:
    """A sysroot with these files below /sys/devices/system/memory; ``__`` in a name stands for ``/``."""
    paths = {f"{SYS_MEMORY}/{name.replace('__', '/')}": text for name, text in files.items()}
    return FileSource("tree", "sysroot", {path: File(text, f"tree{path}") for path, text in paths.items()})


def test_an_online_block_shows_its_zone_and_an_offline_one_where_it_may_go() -> None:
    memory = facts("arm64-6.12.107+deb13-cloud-arm64-pc-dimm-memmap", "3-one-offline").memory
    assert memory.by_index[18].zone == "Movable"
    assert memory.by_index[19].state == "offline"
    assert memory.by_index[19].valid_zones == ("Normal", "Movable")
    assert memory.by_index[19].zone is None


def test_a_block_in_several_zones_has_none() -> None:
    memory = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before").memory
    assert memory.by_index[0].valid_zones == ("none",)
    assert memory.by_index[0].zone is None


def test_arm64_with_64k_pages_has_blocks_of_512_mib() -> None:
    memory = facts("arm64-custom-arm64-64k-virtio-mem-default", "0-before").memory
    assert memory.block_size == 512 << 20
    assert [memory.span(block) for block in memory.blocks] == [(0x40000000, 0x60000000), (0x60000000, 0x80000000)]


def test_a_tree_of_old_keeps_its_links_and_its_signs() -> None:
    memory = memory_blocks.read(open_source(DATA / "lsmem" / "s390-zvm-6g.tar.bz2"))
    assert memory.block_size == 256 << 20
    assert {block.nodes for block in memory.blocks} == {(0,)}
    assert {block.removable for block in memory.blocks} == {True, False}
    assert memory.by_index[17].valid_zones == ("Normal", "Movable")


@pytest.mark.parametrize(
    ("files", "where", "problem"),
    [
        ({}, "block_size_bytes", "is not there"),
        ({"block_size_bytes": "8000000\n"}, "block_size_bytes", "no memory blocks"),
        ({"block_size_bytes": "big\n"}, "block_size_bytes", "want a hexadecimal number, got 'big'"),
        ({"block_size_bytes": "8000001\n"}, "block_size_bytes", "want a power of two"),
        ({"block_size_bytes": "8000000\n", "memory3__phys_index": "00000003\n"}, "memory3/state", "is not there"),
        ({"block_size_bytes": "8000000\n", "memory3__state": "lost\n"}, "memory3/state", "want one of online"),
        (
            {"block_size_bytes": "8000000\n", "memory3__state": "online\n", "memory3__phys_index": "00000004\n"},
            "memory3/phys_index",
            "want 00000003, as memory3 is block 3",
        ),
        (
            {"block_size_bytes": "8000000\n", "memory3__state": "online\n", "auto_online_blocks": "maybe\n"},
            "auto_online_blocks",
            "want one of offline, online",
        ),
        (
            {"block_size_bytes": "8000000\n", "memory3__state": "online\n", "memory3__removable": "yes\n"},
            "memory3/removable",
            "want a number, got 'yes'",
        ),
    ],
)
def test_what_no_kernel_shows_is_refused_by_its_file(files: dict[str, str], where: str, problem: str) -> None:
    with pytest.raises(BadInput) as refused:
        memory_blocks.read(sysfs(**files))
    assert problem in refused.value.message
    assert refused.value.where == f"tree{SYS_MEMORY}/{where}"


def test_a_block_going_offline_is_neither_on_nor_off() -> None:
    memory = memory_blocks.read(sysfs(block_size_bytes="8000000\n", memory3__state="going-offline\n"))
    (block,) = memory.blocks
    assert block.state == "going-offline"
    assert block.zone is None
    assert block.files()["online"] == "1\n"


def test_parameters_of_a_kernel_that_lacks_them_are_none() -> None:
    assert params.read(sysfs()) == HotplugParams()
    assert HotplugParams().files() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memmap_on_memory", "perhaps"),
        ("online_policy", "any"),
        ("auto_movable_ratio", "many"),
        ("auto_movable_numa_aware", "1"),
    ],
)
def test_a_parameter_of_another_value_is_refused(name: str, value: str) -> None:
    path = f"{params.DIRECTORY}/{name}"
    source = FileSource("tree", "sysroot", {path: File(f"{value}\n", f"tree{path}")})
    with pytest.raises(BadInput, match=f"got '{value}'") as refused:
        params.read(source)
    assert refused.value.where == f"tree{path}"


@pytest.mark.parametrize(
    ("text", "ids"), [("", ()), ("0", (0,)), ("0-3", (0, 1, 2, 3)), ("0-1,4,6-7", (0, 1, 4, 6, 7))]
)
def test_lists_of_numbers_are_read_and_written_as_the_kernel_does(text: str, ids: tuple[int, ...]) -> None:
    assert id_list(text + "\n", "possible") == ids
    assert render_id_list(ids) == text


@pytest.mark.parametrize("text", ["0-", "a", "0,,1", "0--1"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="want a list of numbers"):
        id_list(text, "possible")


def test_options_are_split_at_spaces_outside_quotes() -> None:
    line = cmdline.parse(
        'quiet mem=1G dyndbg="file mm/memory_hotplug.c +p" memory_hotplug.memmap_on_memory=1 -- mem=2G\n'
    )
    assert line.get("quiet") == ""
    assert line.get("mem") == "1G"
    assert line.get("dyndbg") == "file mm/memory_hotplug.c +p"
    assert line.get("movable_node") is None
    assert line.has("memory-hotplug.memmap-on-memory")
    assert line.hotplug() == {"mem": "1G", "memory_hotplug.memmap_on_memory": "1"}


def test_the_last_of_two_options_counts() -> None:
    line = cmdline.parse("memhp_default_state=online memhp_default_state=offline\n")
    assert line.get("memhp_default_state") == "offline"
    assert line.hotplug() == {"memhp_default_state": "offline"}


def test_qemu_tells_its_devices() -> None:
    dimm = facts("x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "1-plugged").qemu
    virtio = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "4-unplug-to-128M").qemu
    assert dimm is not None
    assert virtio is not None
    assert dimm.devices == (MemoryDevice("dimm", "dimm0", 1 << 32, 512 << 20, 0, hotplugged=True),)
    (device,) = virtio.devices
    assert (device.size, device.requested_size, device.max_size, device.block_size) == (
        128 << 20,
        128 << 20,
        2 << 30,
        2 << 20,
    )
    assert device.span == (1 << 32, (1 << 32) + (2 << 30))
    assert virtio.option("-cpu") == "max"
    assert virtio.base_memory == 1 << 30


def test_dax_devices_show_their_range_and_whether_they_hold_their_own_map() -> None:
    kept = facts("riscv64-6.12.107+deb13-riscv64-kmem-map-pmem-mom1", "2-kmem-added").dax
    plain = facts("riscv64-6.12.107+deb13-riscv64-kmem-map-ram-mom0", "2-kmem-added").dax
    assert [(dax.name, dax.memmap_on_memory, dax.target_node) for dax in kept] == [("dax0.0", True, 0)]
    assert [(dax.name, dax.memmap_on_memory, dax.target_node) for dax in plain] == [("dax0.0", False, 0)]
    assert plain[0] == DaxDevice("dax0.0", 0x100200000, 1071644672, 2 << 20, 0, False, mode="ram")
    assert plain[0].span == (0x100200000, 0x140000000)
