"""The machine behind the facts: what a model needs to boot it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import platform
from dataclasses import replace

import pytest

from captures import every_step, facts, guests, open_capture
from memhp.errors import BadInput
from memhp.facts.describe import MachineFacts, describe
from memhp.facts.dmesg import parse as parse_log
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.paging import from_vmalloc_total
from memhp.linux.arch.arm64.include.asm.memory import vmalloc_size
from memhp.linux.release import parse_release
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB


def machine(name: str, step: str) -> MachineFacts:
    return describe(facts(name, step), name=name)


@pytest.mark.parametrize(("name", "step"), every_step())
def test_architecture_and_release_are_those_that_the_capture_is_named_after(name: str, step: str) -> None:
    found = machine(name, step)
    arch, _, rest = name.partition("-")
    assert found.arch == arch
    assert found.release is not None
    if not rest.startswith("custom"):
        assert rest.startswith(found.release)
    assert found.series is not None
    assert found.release.startswith(f"{found.series}.")


QEMU_CPU = {
    "rv64": 57,
    "rv64,sv57=off": 48,
    "rv64,sv57=off,sv48=off": 39,
    "Skylake-Server-v4,la57=off": 48,
    "max,la57=off": 48,
}


def before_6_9(found: MachineFacts) -> bool:
    """Whether the kernel is of the time when ``ARM64_VA_BITS_52`` wanted 64K pages."""
    release = parse_release(found.release or "")
    return release is not None and release.series < (6, 9)


@pytest.mark.parametrize(("name", "step"), every_step())
def test_the_width_of_addresses_is_what_the_cpu_given_to_qemu_allows(name: str, step: str) -> None:
    found = machine(name, step)
    qemu = facts(name, step).qemu
    assert qemu is not None
    cpu = qemu.option("-cpu") or ""
    if found.arch == "arm64" and found.page_size == 4 * KiB and before_6_9(found):
        assert found.va_bits_actual == found.va_bits == 48
    elif found.arch == "arm64":
        narrow = cpu == "cortex-a76" or "lpa2=off" in cpu
        assert found.va_bits == 52
        assert found.va_bits_actual == ({4096: 48, 16384: 47}[found.page_size] if narrow else 52)
        assert narrow == (not any("52-bit Virtual Addressing (" in each for each in found.cpu_features))
    else:
        widest = {"loongarch64": 47}.get(found.arch, 57)
        assert found.va_bits_actual == found.va_bits == QEMU_CPU.get(cpu, widest)


@pytest.mark.parametrize("name", guests())
def test_the_width_in_use_is_the_one_that_the_guest_is_named_after(name: str) -> None:
    found = machine(name, "0-before")
    for word, bits in {"sv39": 39, "sv48": 48, "sv57": 57, "la57": 57, "4level": 48, "52bit": 52, "48bit": 48}.items():
        if name.endswith(word):
            assert found.va_bits_actual == bits


@pytest.mark.parametrize(("name", "step"), every_step())
def test_memory_is_split_by_how_it_came(name: str, step: str) -> None:
    """And while nothing is plugged, zones count the pages that memblock held."""
    found = machine(name, step)
    boot = found.memory_of("boot")
    assert all(any(each.span.overlaps(span) for each in found.boot_memory) for span in boot)
    assert sum(span.size for span in boot) <= sum(each.span.size for each in found.boot_memory) + found.page_size * 4
    qemu = facts(name, step).qemu
    kinds = {device.type.replace("-", "_") for device in qemu.devices} if qemu is not None else set()
    assert {ram.origin for ram in found.memory} <= {"boot", "kmem", "virtio_mem"} | kinds
    assert found.evidence["origin"] == "the kernel log"
    if len(boot) == len(found.memory):
        present = sum(zone.present for zone in found.zones)
        assert present == sum(each.span.size for each in found.boot_memory) // found.page_size


def test_a_dimm_is_told_from_boot_memory_of_the_same_name() -> None:
    found = machine("x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "1-plugged")
    assert found.memory_of("dimm") == (Span(4 * GiB, 4 * GiB + 512 * MiB),)
    assert {ram.resource for ram in found.memory} == {"System RAM"}


def test_without_a_log_and_without_qemu_the_struct_pages_of_boot_tell_a_dimm() -> None:
    facts_only = replace(facts("x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "1-plugged"), boot_log=None, qemu=None)
    found = describe(facts_only, name="bare")
    assert found.memory_of("hotplug") == (Span(4 * GiB, 4 * GiB + 512 * MiB),)
    assert found.evidence["origin"] == "nr_memmap_boot_pages in /proc/vmstat"
    assert [each.span for each in found.boot_memory] == list(found.memory_of("boot"))


def test_firmware_memory_is_boot_memory_that_is_no_system_ram() -> None:
    found = machine("riscv64-7.2.13+deb14-riscv64-kmem-map-ram-momf", "0-pmem-raw")
    assert found.memory_of("boot") == (Span(0x80060000, 0xC0000000),)
    assert [each.span for each in found.boot_memory] == [Span(0x80000000, 0x80060000), Span(0x80060000, 0xC0000000)]


def test_reserved_is_what_zones_have_and_the_buddy_never_got() -> None:
    found = machine("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
    by_zone = {zone.name: zone.reserved for zone in found.zones}
    assert by_zone["DMA32"] == 258016 - 222452
    assert by_zone["Normal"] == 0
    assert found.reserved == sum(by_zone.values()) * 4096


def test_options_parameters_and_orders_are_those_of_the_files() -> None:
    found = machine("arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom1", "0-pmem-raw")
    assert found.options == {"nokaslr": "", "memory_hotplug.memmap_on_memory": "1", "mem": "1G"}
    assert (found.mem_limit, found.nokaslr, found.movable_node) == (GiB, True, False)
    assert found.params.memmap_on_memory == "Y"
    assert found.auto_online == "offline"
    assert (found.max_order, found.pageblock_order) == (11, 11)
    assert found.zone_names == ("DMA", "DMA32", "Normal", "Movable", "Device")
    assert (found.nodes, found.possible_nodes, found.cpus) == ((0,), (0,), 2)
    assert found.block_size == 128 * MiB
    assert found.gbpages is None
    assert found.memmap_pages["nr_memmap_boot_pages"] == GiB // 16384 * 64 // 16384


def test_a_virtio_mem_device_is_known_before_anything_is_plugged() -> None:
    found = machine("riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39", "0-before")
    (device,) = found.virtio_mem
    assert device.span == Span(0xC0000000, 0x100000000)
    assert device.subblock_size == 2 * MiB


def test_a_virtio_mem_device_whose_region_is_free_is_not_there() -> None:
    before = facts("riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39", "0-before")
    unbound = replace(before, iomem=tuple(each for each in before.iomem if each.name != "virtio1"))
    assert unbound.iomem != before.iomem
    assert describe(unbound, name="unbound").virtio_mem == ()


def test_a_kernel_with_1_gib_leaves_says_so() -> None:
    assert machine("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before").gbpages is True
    assert machine("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before").hypervisor is None


def test_without_meminfo_the_release_tells_the_architecture_and_nothing_the_width() -> None:
    bare = replace(facts("riscv64-7.2.13+deb14-riscv64-dump", "at-dump"), meminfo={})
    found = describe(bare, name="bare")
    assert found.arch == "riscv64"
    assert (found.va_bits, found.paging) == (None, None)
    assert found.evidence["arch"] == "the name of the kernel's release"
    nothing = replace(bare, release=None, boot_log=None, qemu=None)
    with pytest.raises(BadInput, match="nothing tells that this machine is riscv64"):
        describe(nothing, name="nothing")


def test_memory_of_a_node_ends_where_the_next_node_begins() -> None:
    plain = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    blocks = tuple(replace(block, nodes=(block.index // 4,)) for block in plain.memory.blocks)
    split = replace(plain, memory=replace(plain.memory, blocks=blocks), boot_log=None)
    found = describe(split, name="two nodes")
    assert [(ram.span.start, ram.span.end, ram.nid) for ram in found.memory] == [
        (0x1000, 0x9FC00, 0),
        (0x100000, 512 * MiB, 0),
        (512 * MiB, 0x3FFE0000, 1),
    ]


def test_a_node_may_begin_in_the_middle_of_a_block() -> None:
    """The log knows it to the page; the links of a block do not."""
    log = """Early memory node ranges
  node   0: [mem 0x0000000000001000-0x000000000009efff]
  node   0: [mem 0x0000000000100000-0x00000000213fffff]
  node   1: [mem 0x0000000021400000-0x000000003ffdffff]
"""
    plain = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    found = describe(replace(plain, boot_log=parse_log(log)), name="two nodes")
    assert [(ram.span.start, ram.span.end, ram.nid) for ram in found.memory] == [
        (0x1000, 0x9FC00, 0),
        (0x100000, 0x21400000, 0),
        (0x21400000, 0x3FFE0000, 1),
    ]


def test_every_step_of_a_capture_has_the_same_boot() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"
    boots = [machine(name, step).boot_memory for step in open_capture(name)]
    assert boots == [boots[0]] * 6
    assert [each.span for each in boots[0]] == [Span(0x1000, 0x9F000), Span(0x100000, 0x3FFE0000)]


def test_a_width_of_48_bits_may_be_a_build_for_52() -> None:
    both = from_vmalloc_total(135288315904)
    assert [(each.va_bits, each.va_bits_actual) for each in both] == [(52, 48), (48, 48)]
    found = machine("arm64-7.2.13+deb14-arm64-virtio-mem-48bit", "0-before")
    assert found.paging == "4K, 52-bit on a 48-bit CPU"
    assert "52 is the default" in found.evidence["va_bits"]


def test_a_layout_of_another_architecture_is_not_known() -> None:
    assert from_vmalloc_total(134217727) == ()


def test_the_vmalloc_area_of_arm64_shrinks_by_the_vmemmap_behind_it() -> None:
    """Without a vmemmap the area would reach from the modules' end to 1 GiB and 8 MiB below the top."""
    bare = (1 << 47) - 2 * GiB - GiB - 8 * MiB
    for page_size, va_bits in ((4096, 48), (65536, 48)):
        assert vmalloc_size(page_size, va_bits, va_bits) == bare - (1 << 47) // page_size * 64


def test_the_live_machine_is_described_as_python_knows_it() -> None:
    source = open_source("/")
    try:
        live = observe(source)
    except BadInput as refused:
        assert "root" in refused.fix
    else:
        found = describe(live, name="live")
        known = {"x86_64": "x86_64", "aarch64": "arm64", "riscv64": "riscv64"}
        assert found.arch == known[platform.machine()]
        assert found.release == platform.release()
