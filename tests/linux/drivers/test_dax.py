"""Regions of dax devices: what a namespace keeps for itself, device-dax, and kmem with what alignment loses."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, EINVAL, ENXIO

import pytest

from architectures import DIRECT_MAPPED
from kernels import PLUG_AT, kernel, log, plug, refused
from memhp.check import check_all
from memhp.errors import KernelBug
from memhp.linux.choices import Arch
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.dax.bus import DevDax, alloc_dax_region, dax_region_unregister
from memhp.linux.drivers.dax.device import dev_dax_probe, dev_dax_remove
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove, string_get_size
from memhp.linux.drivers.nvdimm.pfn_devs import nd_pfn_init, nvdimm_setup_pfn
from memhp.linux.kernel.resource import iter_resources, request_region
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB
from steppers import Failing

AT = PLUG_AT
WHOLE = Span(PLUG_AT, PLUG_AT + 1 * GiB)


def tree(k: Kernel) -> list[tuple[int, str]]:
    return [(depth, res.name) for depth, res in iter_resources(k.iomem_resource) if res.start >= PLUG_AT]


def test_struct_pages_on_the_device_take_64_bytes_a_page_of_the_namespace() -> None:
    # 1 GiB: 8 KiB for the info block and 64 bytes for each of 262142 pages come to a little more than 16 MiB.
    config = kernel("x86_64").config
    info = nd_pfn_init(config, WHOLE, "dev", 2 * MiB)
    assert (info.dataoff, info.end_trunc) == (18 * MiB, 0)
    assert nd_pfn_init(config, WHOLE, "mem", 2 * MiB).dataoff == 2 * MiB
    altmap = nvdimm_setup_pfn(config, WHOLE, info).altmap
    assert altmap is not None
    assert (altmap.base_pfn, altmap.end_pfn) == (WHOLE.start >> 12, (WHOLE.end >> 12) - 1)
    assert (altmap.reserve, altmap.free) == (2, (18 * MiB - 8 * KiB) >> 12)


def test_namespaces_that_are_misaligned_or_too_small_are_refused() -> None:
    config = kernel("x86_64").config
    assert refused(nd_pfn_init, config, Span(MiB, 1 * GiB), "mem", 2 * MiB).errno == EINVAL
    assert refused(nd_pfn_init, config, Span(PLUG_AT, PLUG_AT + 2 * MiB), "mem", 2 * MiB).errno == ENXIO
    odd = Span(PLUG_AT, PLUG_AT + 1 * GiB + 3 * MiB)
    assert nd_pfn_init(config, odd, "mem", 2 * MiB).end_trunc == 1 * MiB


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_device_dax_claims_its_range_and_gives_it_back(arch: Arch) -> None:
    k = kernel(arch)
    plug(k, 1 * GiB)
    dev = DevDax("dax0.0", (WHOLE,), 2 * MiB)
    dev_dax_probe(k, dev)
    assert tree(k) == [(0, "dax0.0")] and check_all(k) == []
    assert refused(dev_dax_probe, k, DevDax("dax1.0", (WHOLE,), 2 * MiB)).errno == EBUSY
    dev_dax_remove(k, dev)
    assert tree(k) == [] and check_all(k) == []


@pytest.mark.parametrize(("release", "tells"), [("linux-6.12", False), ("linux-7.2", True)])
def test_kmem_adds_whole_blocks_and_loses_what_alignment_takes(release: str, tells: bool) -> None:
    k = kernel("riscv64", release)
    plug(k, 1 * GiB)
    dev = DevDax("dax0.0", (Span(PLUG_AT + 2 * MiB, WHOLE.end),), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    assert tree(k) == [(0, "dax0.0"), (1, "System RAM (kmem)")]
    assert sum(last - first for first, last, block in k.memory_blocks if block.state == "offline") == 7
    assert ("kmem dax0.0: DAX region truncated by 126 MiB due to alignment" in log(k)) is tells
    assert check_all(k) == []
    assert dev_dax_kmem_remove(k, dev) == []
    assert tree(k) == [] and not k.memory_groups and check_all(k) == []
    dev_dax_kmem_probe(k, DevDax("dax0.1", (WHOLE,), 2 * MiB))
    assert sum("DAX region truncated" in line for line in log(k)) == tells


def test_kmem_of_less_than_a_block_or_no_node_is_refused() -> None:
    k = kernel("x86_64")
    plug(k, 1 * GiB)
    small = DevDax("dax0.0", (Span(PLUG_AT + 2 * MiB, PLUG_AT + 128 * MiB),), 2 * MiB)
    error = refused(dev_dax_kmem_probe, k, small)
    assert (error.errno, error.reason) == (EINVAL, "rejecting DAX region without any memory after alignment")
    assert any(line.endswith("too small after alignment") for line in log(k))
    error = refused(dev_dax_kmem_probe, k, DevDax("dax0.0", (WHOLE,), 2 * MiB, target_node=-1))
    assert error.reason == "rejecting DAX region with invalid node: -1"
    assert check_all(k) == []


def test_kmem_goes_on_with_other_ranges_only_once_one_is_in() -> None:
    k = kernel("x86_64")
    plug(k, 1 * GiB)
    parts = tuple(Span(PLUG_AT + at * MiB, PLUG_AT + (at + 256) * MiB) for at in (0, 256, 512))
    for taken, expected in ((1, [True, False, True]), (0, None)):
        busy = request_region(k.iomem_resource, parts[taken].start, parts[taken].size, "somebody")
        dev = DevDax("dax0.0", parts, 2 * MiB)
        if expected is None:
            assert refused(dev_dax_kmem_probe, k, dev).errno == EBUSY
            assert not k.memory_groups
        else:
            dev_dax_kmem_probe(k, dev)
            assert dev.kmem is not None and [res is not None for res in dev.kmem.res] == expected
            taken_range = f"{parts[1].start:#x}-{parts[1].end - 1:#x}"
            assert f"kmem dax0.0: mapping1: {taken_range} could not reserve region" in log(k, "warn")
            assert dev_dax_kmem_remove(k, dev) == []
        assert busy.parent is not None
        busy.parent.children.remove(busy)
    assert check_all(k) == []


def test_memory_that_is_online_stays_for_good_when_kmem_is_unbound() -> None:
    k = kernel("x86_64")
    plug(k, 1 * GiB)
    dev = DevDax("dax0.0", (WHOLE,), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    state_store(k, PLUG_AT // k.memory_block_size, "online_movable")
    assert dev_dax_kmem_remove(k, dev) == [WHOLE]
    assert log(k)[-1] == ("kmem dax0.0: mapping0: 0x200000000-0x23fffffff cannot be hotremoved until the next reboot")
    assert tree(k) == [(0, "dax0.0"), (1, "System RAM (kmem)")] and check_all(k) == []


@pytest.mark.parametrize(("memmap", "hosted"), [(True, True), (False, False)])
def test_kmem_asks_for_self_hosted_struct_pages_only_if_the_attribute_says_so(memmap: bool, hosted: bool) -> None:
    k = kernel("x86_64", memmap_on_memory="Y")
    plug(k, 1 * GiB)
    dev_dax_kmem_probe(k, DevDax("dax0.0", (WHOLE,), 2 * MiB, memmap_on_memory=memmap))
    assert bool(k.altmaps) is hosted


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1023, "1023 B"),
        (KiB, "1.00 KiB"),
        (126 * MiB, "126 MiB"),
        (2 * GiB, "2.00 GiB"),
        (1536 * KiB, "1.50 MiB"),
        (63 * TiB, "63.0 TiB"),
        (2043, "2.00 KiB"),
    ],
)
def test_sizes_are_printed_to_three_digits(size: int, text: str) -> None:
    assert string_get_size(size) == text


@pytest.mark.parametrize(("release", "refuses"), [("linux-6.12", False), ("linux-7.2", True)])
def test_regions_that_overlap_are_refused_as_they_are_made_by_7_2(release: str, refuses: bool) -> None:
    """alloc_dax_region(): ``request_resource(&dax_regions, …)``; until then kmem or device-dax found out."""
    k = kernel("x86_64", release)
    alloc_dax_region(k, "hmem.0", Span(AT, AT + GiB))
    alloc_dax_region(k, "hmem.1", Span(AT + GiB, AT + 2 * GiB))
    if refuses:
        error = refused(alloc_dax_region, k, "hmem.2", Span(AT + GiB // 2, AT + 3 * GiB))
        assert (error.name, error.advice) == ("ENOMEM", "hmem.0 has that range")
        assert log(k)[-1] == f"hmem.2: dax_region resource conflict for [mem {AT + GiB // 2:#x}-{AT + 3 * GiB - 1:#x}]"
        for parent in ("hmem.0", "hmem.1"):
            dax_region_unregister(k, parent)
    alloc_dax_region(k, "hmem.2", Span(AT + GiB // 2, AT + 3 * GiB))


@pytest.mark.parametrize("release", ["linux-6.1", "linux-6.12", "linux-7.2"])
def test_a_range_too_small_for_a_block_keeps_the_memory_group_when_kmem_is_unbound(release: str) -> None:
    """dev_dax_kmem_remove() counts ranges that went, and passes over such a one without counting it."""
    k = kernel("x86_64", release)
    plug(k, 1 * GiB)
    small = Span(AT + GiB // 2, AT + GiB // 2 + 64 * MiB)
    dev = DevDax("dax0.0", (Span(AT, AT + GiB // 2), small), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    assert dev_dax_kmem_remove(k, dev) == []
    assert tree(k) == [] and list(k.memory_groups) == [0]
    whole = DevDax("dax0.0", (Span(AT, AT + GiB // 2),), 2 * MiB)
    dev_dax_kmem_probe(k, whole)
    assert dev_dax_kmem_remove(k, whole) == [] and list(k.memory_groups) == [0]


def test_before_6_12_97_a_range_that_was_never_added_is_removed_with_what_is_there() -> None:
    """Linux 6.1: ``remove_resource(data->res[i])`` of a range that failed at probe follows a null pointer."""
    k = kernel("x86_64", "linux-6.1")
    plug(k, 1 * GiB)
    request_region(k.iomem_resource, AT + GiB // 2, GiB // 2, "somebody")
    dev = DevDax("dax0.0", (Span(AT, AT + GiB // 2), Span(AT + GiB // 2, AT + GiB)), 2 * MiB)
    dev_dax_kmem_probe(k, dev)
    with pytest.raises(KernelBug, match="never added"):
        dev_dax_kmem_remove(k, dev)


def test_a_range_whose_memory_cannot_be_added_leaves_no_resource_of_the_device() -> None:
    """dev_dax_kmem_probe(): ``remove_resource(res)`` where add_memory_driver_managed() fails."""
    k = kernel("x86_64")
    plug(k, 1 * GiB)
    k.hw.faults = Failing("drivers/base/memory.c:add_memory_block", 1)
    assert refused(dev_dax_kmem_probe, k, DevDax("dax0.0", (WHOLE,), 2 * MiB)).name == "ENOMEM"
    k.hw.faults = None
    assert tree(k) == [] and not k.memory_groups
    assert log(k)[-1] == "kmem dax0.0: mapping0: 0x200000000-0x23fffffff memory add failed"
