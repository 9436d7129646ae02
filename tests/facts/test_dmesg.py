"""What kernel logs of real machines tell of memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import every_step, facts
from memhp.facts import dmesg
from memhp.facts.dmesg import Altmap, BootZone, Dmesg, NodeRange, VirtioMem
from memhp.spans import Span


def log(name: str, step: str) -> Dmesg:
    found = facts(name, step).log
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "step"), every_step())
def test_every_boot_tells_its_release_its_zones_and_its_memory(name: str, step: str) -> None:
    machine = facts(name, step)
    boot = machine.boot_log
    assert boot is not None
    assert boot.release == machine.release
    assert machine.cmdline is not None
    assert boot.command_line is not None
    assert boot.command_line.strip() == machine.cmdline.text.strip()
    assert {zone.name for zone in boot.zone_ranges} == {zone.name for zone in machine.zones} - {"Movable"}
    spanned = sum(each.span.size for each in boot.initmem)
    assert spanned >= sum(each.span.size for each in boot.early_node_ranges) > 0


def test_boot_ranges_are_the_ones_that_the_log_shows() -> None:
    boot = log("riscv64-7.2.13+deb14-riscv64-dump", "at-dump")
    assert boot.release == "7.2.13+deb14-riscv64"
    assert boot.zone_ranges == (
        BootZone("DMA32", Span(0x80000000, 0xC0000000)),
        BootZone("Normal", None),
        BootZone("Device", None),
    )
    assert boot.early_node_ranges == (
        NodeRange(0, Span(0x80000000, 0x80060000)),
        NodeRange(0, Span(0x80060000, 0xC0000000)),
    )
    assert boot.initmem == (NodeRange(0, Span(0x80000000, 0xC0000000)),)


def test_the_memory_line_is_read_with_its_parts() -> None:
    available = log("riscv64-7.2.13+deb14-riscv64-dump", "at-dump").available
    assert available is not None
    assert (available.free, available.present) == (798760 << 10, 1048576 << 10)
    assert available.parts["reserved"] == 114436 << 10
    assert available.parts["cma-reserved"] == 131072 << 10
    assert available.free + available.parts["reserved"] + available.parts["cma-reserved"] <= available.present + (
        4 << 20
    )


def test_offline_failures_tell_range_and_reason() -> None:
    failures = log("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "5-unplugged").offline_failures
    assert (Span(0x38000000, 0x40000000), "memory holes") in [(each.span, each.reason) for each in failures]


def test_pages_gone_offline_are_a_block_less_its_own_memory_map() -> None:
    with_map = log("x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "5-unplugged").offlined
    without = log("arm64-7.2.13+deb14-cloud-arm64-pc-dimm-nomemmap-movable", "5-unplugged").offlined
    block = (128 << 20) >> 12
    assert set(with_map) == {block - block * 64 // 4096}
    assert set(without) == {block}


def test_a_memory_map_taken_from_the_device_is_told_page_by_page() -> None:
    altmaps = log("arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom1", "5-removed").altmaps
    assert Altmap(pfn=0x300F9, alloc=249, align=0, nr=1) in altmaps
    device_pages, page = (1 << 30) >> 14, 1 << 14
    assert sum(each.nr for each in altmaps) == device_pages * 64 // page


def test_a_virtio_mem_device_tells_its_region_and_its_blocks() -> None:
    boot = log("riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39", "1-plugged-512M")
    assert boot.virtio_mem == (VirtioMem("virtio1", 0xC0000000, 1 << 30, 2 << 20, 0, 128 << 20, subblock_size=2 << 20),)
    assert boot.virtio_mem_sizes[:2] == (("virtio1", "plugged", 0), ("virtio1", "requested", 0))
    assert ("virtio1", "requested", 512 << 20) in boot.virtio_mem_sizes


def test_cpu_features_of_arm64_are_read_in_the_kernels_words() -> None:
    lpa2 = log("arm64-7.2.13+deb14-arm64-16k-dump", "at-dump").cpu_features
    plain = log("arm64-6.12.107+deb13-cloud-arm64-dumpcortex-a76", "at-dump").cpu_features
    assert "52-bit Virtual Addressing (LPA2)" in lpa2
    assert not any("52-bit Virtual Addressing" in feature for feature in plain)


def test_ranges_of_srat_say_which_may_be_plugged() -> None:
    ranges = log("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "5-unplugged").srat
    assert [(each.nid, each.hotplug) for each in ranges] == [(0, False), (0, False), (0, True)]
    assert ranges[-1].span.start == 0x100000000


def test_a_log_without_stamps_or_without_its_beginning_still_tells_the_rest() -> None:
    bare = dmesg.parse("Offlined Pages 32768\n<6>[   12.500000][  T1] Offlined Pages 8192\n")
    assert bare.offlined == (32768, 8192)
    assert [line.time for line in bare.lines] == [None, 12.5]
    assert bare.release is None
    assert bare.early_node_ranges == ()
    assert bare.available is None


def test_a_command_line_printed_in_pieces_is_put_together() -> None:
    """As the comment on ``print_kernel_cmdline()`` of 7.2 shows it."""
    text = "Kernel command line: loglevel=7 \\\nKernel command line: rootwait \\\nKernel command line: ro\n"
    assert dmesg.parse(text).command_line == "loglevel=7 rootwait ro"


def test_holes_that_got_struct_pages_are_added_up_by_zone() -> None:
    holes = log("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "5-unplugged").unavailable
    assert holes[0, "DMA"] == 1 + 97


def test_areas_are_read_where_a_kernel_prints_them() -> None:
    """The form of riscv's ``print_vm_layout()``, which the kernels captured here were built without."""
    text = "Virtual kernel memory layout:\n      fixmap : 0xff1bfffffea00000 - 0xff1bffffff000000   (6144 kB)\n"
    assert dmesg.parse(text).layout == {"fixmap": Span(0xFF1BFFFFFEA00000, 0xFF1BFFFFFF000000)}


def test_what_firmware_mirrors_stands_in_the_memory_map_of_efi() -> None:
    """As arm64 (7.2.13) printed it under ``efi=debug``, and as ``efi_print_memmap()`` of x86 does."""
    arm64 = """\
[    0.000000] efi:   0x000040000000-0x000077ffffff [Conventional|   |  |MR|  |  |  |  |  |  |  |   |WB|  |  |  ]
[    0.000000] efi:   0x000078000000-0x00007800ffff [Loader Data |   |  |MR|  |  |  |  |  |  |  |   |WB|  |  |  ]
[    0.000000] efi:   0x000140000000-0x0001bfffffff [Conventional|   |  |  |  |  |  |  |  |  |  |   |WB|  |  |  ]
[    0.000000] efi: Memory: 896M/6144M mirrored memory
"""
    x86 = (
        "efi: mem06: [Conventional|   |  |MR|  |  |  |  |  |  |  |UC|WB|WT|WC] "
        "range=[0x0000000100000000-0x000000017fffffff] (2048MB)\n"
    )
    told = dmesg.parse(arm64)
    assert told.mirrored == (Span(0x40000000, 0x78010000),) and told.some_mirrored
    told = dmesg.parse(x86)
    assert told.mirrored == (Span(0x100000000, 0x180000000),) and not told.some_mirrored
