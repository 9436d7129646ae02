"""arm64: what its notifier lets go offline, walking the real tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from memhp.claims.evidence import run
from memhp.hw.memory import Owner, Use
from memhp.linux.arch.arm64.mm.memory_remove import addr_splits_kernel_leaf, can_unmap_without_split
from memhp.linux.config import Config
from memhp.linux.drivers.base.notify import Chains, Refusal
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

HOT = 0x8800_0000
BLOCK = 128 * MiB


def boot(name: str = "linux-7.2", **options: Any) -> Kernel:
    config = Config("arm64", profile(name), options.pop("page_size", 4 * KiB), 48, **options).validate()
    k = start_kernel(MachineSpec("small", config, (Ram(GiB, GiB),)))
    shift = k.config.page_shift
    k.hw.plug(Span(HOT >> shift, (HOT + GiB) >> shift), Owner(Use.DEVICE))
    k.port.arch_add_memory(k, 0, HOT, 2 * BLOCK)
    return k


def notify(k: Kernel, action: str, start: int, size: int) -> list[str | Refusal]:
    shift = k.config.page_shift
    return [notifier(k, action, start >> shift, size >> shift) for notifier in k.statics(Chains).memory]


def said(k: Kernel) -> str:
    return k.hw.log_lines[-1].text


@pytest.mark.parametrize("name", ["linux-5.13", "linux-6.12", "linux-7.2"])
class TestBootMemory:
    def test_it_may_not_go_offline(self, name: str) -> None:
        k = boot(name)
        text = "Boot memory [48000000 50000000] offlining attempted"
        assert notify(k, "MEM_GOING_OFFLINE", 0x4800_0000, BLOCK) == [text]
        assert said(k) == text

    def test_if_it_went_all_the_same_nobody_heeds_the_notifier(self, name: str) -> None:
        k = boot(name)
        assert notify(k, "MEM_OFFLINE", 0x4800_0000, BLOCK) == [""]
        assert said(k) == "Boot memory [48000000 50000000] offlined"

    def test_hot_added_memory_may_and_coming_online_is_not_asked_about(self, name: str) -> None:
        k = boot(name)
        assert notify(k, "MEM_GOING_OFFLINE", HOT, BLOCK) == [""]
        assert notify(k, "MEM_GOING_ONLINE", 0x4800_0000, BLOCK) == [""]


@pytest.mark.parametrize("name", ["arm64-hotremove-v5", "arm64-hotremove-v6", "arm64-hotremove-v7"])
def test_the_series_of_2019_had_no_notifier(name: str) -> None:
    config = Config("arm64", profile(name), 4 * KiB, 48)
    assert not start_kernel(MachineSpec("small", config, (Ram(GiB, GiB),))).statics(Chains).memory


class TestSplit:
    def test_the_start_behind_a_self_hosted_memmap_lies_in_a_leaf_of_the_vmemmap(self) -> None:
        """What a 7.2 guest with memmap_on_memory printed when its DIMM was to go offline."""
        k = boot()
        self_hosted = 2 * MiB
        text = "[88200000 90000000] splits a leaf entry in vmemmap"
        assert notify(k, "MEM_GOING_OFFLINE", HOT + self_hosted, BLOCK - self_hosted) == [text]
        assert said(k) == text

    def test_6_12_does_not_look(self) -> None:
        k = boot("linux-6.12")
        assert notify(k, "MEM_GOING_OFFLINE", HOT + 2 * MiB, BLOCK - 2 * MiB) == [""]

    def test_blocks_in_the_linear_map_are_found_first(self) -> None:
        k = boot(bbml2=True)
        assert can_unmap_without_split(k, (HOT + 4 * KiB) >> 12, BLOCK >> 12) == (
            "[88001000 90001000] splits a leaf entry in linear map"
        )
        assert can_unmap_without_split(k, (HOT + 2 * MiB) >> 12, BLOCK >> 12).endswith("linear map")

    @pytest.mark.parametrize(
        ("offset", "splits"),
        [(0, False), (4 * KiB, True), (2 * MiB, True), (30 * MiB, True), (32 * MiB, False), (96 * MiB, False)],
    )
    def test_a_contiguous_run_of_blocks_counts_as_one_leaf(self, offset: int, splits: bool) -> None:
        k = boot(bbml2=True)
        assert addr_splits_kernel_leaf(k, k.layout.phys_to_virt(HOT + offset)) == splits

    def test_where_nothing_is_mapped_nothing_is_split(self) -> None:
        k = boot()
        assert not addr_splits_kernel_leaf(k, k.layout.phys_to_virt(64 * GiB) + 12)
        assert addr_splits_kernel_leaf(k, k.layout.phys_to_virt(HOT) + 12)

    @pytest.mark.parametrize("page_size", [16 * KiB, 64 * KiB])
    def test_base_pages_of_struct_pages_can_go_one_by_one(self, page_size: int) -> None:
        config = Config("arm64", profile("linux-7.2"), page_size, 48)
        k = start_kernel(MachineSpec("small", config, (Ram(GiB, GiB),)))
        shift, start = k.config.page_shift, 4 * GiB
        k.hw.plug(Span(start >> shift, (start + GiB) >> shift), Owner(Use.DEVICE))
        k.port.arch_add_memory(k, 0, start, GiB)
        pages = page_size // 64
        assert can_unmap_without_split(k, (start >> shift) + pages, (GiB >> shift) - pages) == ""
        assert can_unmap_without_split(k, (start >> shift) + 1, (GiB >> shift) - 1).endswith("vmemmap")


@pytest.mark.parametrize(("page_size", "va_bits"), [("4K", 48), ("16K", 48)])
@pytest.mark.parametrize(("profile", "bbml2", "left"), [("7.2", True, 0), ("7.2", False, 8), ("6.12", True, 8)])
def test_a_dimm_larger_than_a_block_stays_on_cpus_that_split_live_leaves(
    page_size: str, va_bits: int, profile: str, bbml2: bool, left: int
) -> None:
    """linux-7.2 arch/arm64/mm/mmu.c: force_pte_mapping() is false with BBML2_NOABORT though rodata is full by default.

    can_unmap_without_split() asks block by block: of 1 GiB at 4 GiB none of 8 blocks goes.
    """
    cpu = {"bbml2": bbml2}
    machine = {"preset": "arm64-vm", "memory": "2G", "profile": profile, "page_size": page_size, "va_bits": va_bits}
    plug = {"do": "plug", "at": "4G", "size": "1G", "online": "movable"}
    result = run({**machine, "cpu": cpu}, plug, *({"do": "offline", "blocks": [block]} for block in range(32, 40)))
    ends = [step.outcome for step in result.steps[1:]]
    assert [end.result for end in ends] == ["ok"] * left + ["EPERM"] * (8 - left)
    assert all("on this CPU (BBML2) no rodata= makes leaves smaller" in end.advice for end in ends[left:])


@pytest.mark.parametrize(
    ("machine", "results"),
    [
        ({"boot": {"memmap_on_memory": "Y"}}, ["ok", "ok", "ok"]),
        ({"cpu": {"bbml2": True}}, ["ok", "EPERM", "EBUSY"]),
    ],
)
def test_asked_of_whole_blocks_the_check_passes_their_own_struct_pages_and_still_no_leaf_is_split(
    machine: dict[str, Any], results: list[str]
) -> None:
    """128 MiB have 2 MiB of struct pages, one leaf of the vmemmap; a block is part of a leaf of 1 GiB."""
    whole = {"preset": "arm64-vm", "memory": "2G", "profile": "linux-7.2", "choices": {"can_unmap_range": "block"}}
    steps = ({"do": "plug", "size": "1G", "at": "4G", "online": "movable"}, {"do": "offline"}, {"do": "remove"})
    assert [step.outcome.result for step in run({**whole, **machine}, *steps).steps] == results
