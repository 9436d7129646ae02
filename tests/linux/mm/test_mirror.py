"""``kernelcore=mirror``: zones as real kernels made them, and as the series that brought the option describes them.

Kernels of Debian (cloud-arm64 of 6.12 and 7.2) were started on QEMU's arm64 virt with a device tree that names a memory
map of EFI, some of whose ranges had ``EFI_MEMORY_MORE_RELIABLE``; one of 6.1 (amd64) on a q35, whose firmware mirrors
nothing. What stands here is their /proc/zoneinfo, in pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from memhp.check import check_all
from memhp.errors import BadInput, KernelError
from memhp.facts.derive import derive
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, Build, MachineText, Memory
from memhp.units import GiB, MiB

SECTION = 128 * MiB // 4096
Zones = dict[tuple[int, str], tuple[int, int, int]]


def booted(ranges: str, profile: str, *, arch: str = "arm64", deferred: bool = True, **boot: Any) -> Kernel:
    """A kernel on ranges of RAM, ``start-end`` in MiB, behind a ``|`` those of node 1; ``*`` marks what is mirrored."""
    memory = [
        Memory(start=int(start) * MiB, size=(int(end.rstrip("*")) - int(start)) * MiB, node=nid, mirrored="*" in end)
        for nid, node in enumerate(ranges.split("|"))
        for start, end in (each.split("-") for each in node.split())
    ]
    told = MachineText(
        arch=arch,
        profile=profile,
        memory=memory,
        nodes=1 + ranges.count("|"),
        build=Build(deferred_struct_page_init=deferred),
        boot=Boot(kernelcore="mirror", **boot),
    )
    return start_kernel(machine_spec(told))


def zones(k: Kernel) -> Zones:
    """Start, spanned and present pages of each zone that spans any."""
    return {(each.nid, each.name): (each.start_pfn, each.spanned, each.present) for each in k.zones() if each.spanned}


def said(k: Kernel, words: str) -> bool:
    return any(words in line.text for line in k.hw.log_lines)


DMA = {(0, "DMA"): (0x40000, 786432, 786432)}
MEASURED: list[tuple[str, str, dict[str, Any], Zones]] = [
    (
        "linux-7.2",
        "1024-5120* 5120-7168",
        {},
        {(0, "Normal"): (0x100000, 786432, 262144), (0, "Movable"): (0x140000, 524288, 524288)},
    ),
    (
        "linux-7.2",
        "1024-5120* 5120-6144 6144-6656* 6656-7168",
        {},
        {(0, "Normal"): (0x100000, 786432, 393216), (0, "Movable"): (0x140000, 524288, 393216)},
    ),
    (
        "linux-6.12",
        "1024-5120* 5120-6144 6144-6656* 6656-7168",
        {},
        {(0, "Normal"): (0x100000, 786432, 393216), (0, "Movable"): (0x140000, 524288, 393216)},
    ),
    (
        "linux-7.2",
        "1024-2048 2048-4608* 4608-7168",
        {},
        {(0, "Normal"): (0x100000, 786432, 131072), (0, "Movable"): (0x120000, 655360, 655360)},
    ),
    (
        "linux-7.2",
        "1024-4608* 4608-5120 | 5120-6144* 6144-6400 6400-7168* 7168-9216",
        {"movablecore": "1G"},
        {
            (0, "Normal"): (0x100000, 262144, 131072),
            (0, "Movable"): (0x120000, 131072, 131072),
            (1, "Normal"): (0x140000, 1048576, 458752),
            (1, "Movable"): (0x180000, 786432, 589824),
        },
    ),
    ("linux-7.2", "1024-7168", {}, {(0, "Normal"): (0x100000, 786432, 786432)}),
    ("linux-7.2", "1024-5120* 5120-7168", {"movable_node": True}, {(0, "Normal"): (0x100000, 786432, 786432)}),
]


@pytest.mark.parametrize(("profile", "ranges", "boot", "found"), MEASURED)
@pytest.mark.parametrize("deferred", [True, False])
def test_zones_overlap_and_count_their_own_kind_of_memory(
    profile: str, ranges: str, boot: dict[str, Any], found: Zones, deferred: bool
) -> None:
    assert zones(booted(ranges, profile, deferred=deferred, **boot)) == DMA | found


def test_the_series_that_brought_the_option_says_the_same() -> None:
    """Taku Izumi, "mm: Introduce kernelcore=mirror option", 8 January 2016: two nodes of 64 GiB, first parts of each
    mirrored, and one more within each.
    """
    node_0 = "0-6144* 6144-32768 32768-34816* 34816-68096"
    node_1 = "68096-70144* 70144-96768 96768-98816* 98816-133632"
    k = booted(f"{node_0} | {node_1}", "linux-6.12", arch="x86_64")
    starts = {key: start << 12 for key, (start, *_) in zones(k).items()}
    assert starts[0, "Normal"] == 0x100000000 and starts[0, "Movable"] == 0x180000000
    assert starts[1, "Normal"] == 0x10A0000000 and starts[1, "Movable"] == 0x1120000000
    ends = {key: (start + spanned) << 12 for key, (start, spanned, _) in zones(k).items()}
    assert ends[0, "Normal"] == ends[0, "Movable"] == 0x10A0000000
    assert ends[1, "Normal"] == ends[1, "Movable"] == 0x20A0000000


def test_without_mirrored_memory_kernels_before_6_6_make_all_from_4_gib_on_movable() -> None:
    k = booted("1-2048 4096-8192", "linux-6.1", arch="x86_64")
    assert zones(k)[0, "Movable"] == (0x100000, 1048576, 1048576) and (0, "Normal") not in zones(k)
    assert said(k, "This configuration results in unmirrored kernel memory.")


def test_later_ones_say_that_there_is_none_and_pass_over_the_option() -> None:
    k = booted("1-2048 4096-8192", "linux-7.2", arch="x86_64")
    assert (0, "Movable") not in zones(k)
    assert said(k, "The system has no mirror memory, ignore kernelcore=mirror.")


@pytest.mark.parametrize(("profile", "more"), [("linux-7.2", 1024), ("linux-6.12", 512)])
def test_struct_pages_initialised_in_parallel_leave_normal_one_section(profile: str, more: int) -> None:
    """``deferred_init_memmap()``: what is left goes to the highest zone, in 6.12 what of it that zone spans.

    /proc/zoneinfo of both: Normal manages 32768 pages, Movable 722635 of 393216 present, or 493276.
    """
    k = booted("1024-5120* 5120-6144 6144-6656* 6656-7168", profile)
    normal, movable = (k.nodes[0].zones[kind] for kind in (ZoneType.NORMAL, ZoneType.MOVABLE))
    assert normal.managed == SECTION
    kept = sum(end - start for start, end, _ in k.memblock.reserved if start >= 4 * GiB) // 4096
    lost = 0 if profile == "linux-7.2" else 896 * MiB // 4096
    assert movable.managed > movable.present
    assert movable.managed + kept == 3 * GiB // 4096 - SECTION - lost
    assert {breach.law for breach in check_all(k)} == {"zones", "blocks"}


@pytest.mark.parametrize("ranges", [ranges for profile, ranges, *_ in MEASURED if profile == "linux-7.2"])
def test_without_that_each_page_is_of_its_own_zone_and_every_law_holds(ranges: str) -> None:
    assert check_all(booted(ranges, "linux-7.2", deferred=False)) == []


@pytest.mark.parametrize("deferred", [True, False])
def test_a_block_that_two_zones_span_shows_none_and_does_not_go_offline(deferred: bool) -> None:
    """``early_node_zone_for_memory_block()``; the guest's ``valid_zones`` were Normal below 5 GiB and none from there.

    On x86, which would let boot memory go.
    """
    k = booted("1024-5120* 5120-7168", "linux-7.2", deferred=deferred)
    shown = {block.index: block.valid_zones for block in derive(k).memory.blocks}
    assert all(shown[block] == ("DMA",) for block in range(8, 32))
    assert all(shown[block] == ("Normal",) for block in range(32, 40))
    assert all(shown[block] == ("none",) for block in range(40, 56))
    k = booted("1-3072* 4096-5120* 5120-7168", "linux-7.2", arch="x86_64", deferred=deferred)
    with pytest.raises(KernelError, match="EINVAL"):
        state_store(k, 40, "offline")


def test_mirrored_memory_above_other_memory_of_its_node_is_the_highest_zones_or_nobodys() -> None:
    """The guest's Movable managed 755404 pages of 393216 present; initialised at once, its pages would get no zone."""
    k = booted("1024-4096* 4096-5632 5632-7168*", "linux-7.2")
    assert zones(k) == DMA | {(0, "Movable"): (0x100000, 786432, 393216)}
    assert k.nodes[0].zones[ZoneType.MOVABLE].managed > 393216
    with pytest.raises(BadInput, match="mirrored memory at PFN 0x160000 lies above other memory of node 0"):
        booted("1024-4096* 4096-5632 5632-7168*", "linux-7.2", deferred=False)
