"""Sizes that hotplug works in: what real guests reported, what the mails say, and counts that follow by hand."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.linux.config import Bases, Config, configs
from memhp.linux.drivers.base.block_size import memory_block_size_bytes
from memhp.linux.geometry import Row, area_span, geometry, preallocation, root_entries, virtio_mem
from memhp.linux.layout import layout
from memhp.linux.profiles import PROFILES, profile
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB, is_aligned

GUESTS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "layout" / "guests.json").read_text())


def kernel(profile: str, arch: str, page_size: int, va_bits: int, **options: Any) -> Config:
    return Config(arch, PROFILES[profile], page_size, va_bits, **options).validate()


def rows(profile: str, arch: str, **options: Any) -> list[Row]:
    return geometry([c for c in configs(PROFILES[profile]) if c.arch == arch], **options)


class TestWhatGuestsReported:
    """``virtio_mem ...: memory block size, subblock size``, ``block_size_bytes`` and pagetypeinfo of real guests."""

    @pytest.mark.parametrize(
        ("arch", "page_size", "va_bits", "block", "subblock"),
        [
            ("riscv64", 4 * KiB, 57, 0x8000000, 0x200000),
            ("arm64", 4 * KiB, 52, 0x8000000, 0x200000),
            ("arm64", 16 * KiB, 52, 0x8000000, 0x2000000),
            ("x86_64", 4 * KiB, 57, 0x8000000, 0x200000),
        ],
    )
    @pytest.mark.parametrize("profile", ["linux-6.12", "linux-7.2"])
    def test_virtio_mem_granularity(
        self, profile: str, arch: str, page_size: int, va_bits: int, block: int, subblock: int
    ) -> None:
        (row,) = geometry([kernel(profile, arch, page_size, va_bits)])
        assert row.virtio_mem is not None
        assert (row.memory_block_size, row.virtio_mem.mode, row.virtio_mem.unit) == (block, "sub-block", subblock)

    def test_64k_pages_with_pageblocks_of_order_10(self) -> None:
        # The guest's kernel was built with CONFIG_PAGE_BLOCK_MAX_ORDER=10: "Page block order: 10".
        (row,) = geometry([kernel("linux-7.2", "arm64", 64 * KiB, 52, page_block_max_order=10)])
        assert row.virtio_mem is not None
        assert (row.memory_block_size, row.virtio_mem.mode, row.virtio_mem.unit) == (0x20000000, "sub-block", 0x4000000)
        assert row.max_page_order == 13

    def test_512_mib_take_4_leaves_of_2_mib_or_128_or_8_base_pages_of_vmemmap(self) -> None:
        found = {}
        for row in geometry(configs(PROFILES["linux-6.12"])):
            blocks = 512 * MiB // row.memory_block_size
            found[row.arch, row.page_size] = (row.memmap_leaves * blocks, row.direct_map_leaves * blocks)
        assert found == {
            ("riscv64", 4 * KiB): (4, 256),
            ("x86_64", 4 * KiB): (4, 256),
            ("arm64", 4 * KiB): (4, 131072),
            ("arm64", 16 * KiB): (128, 32768),
            ("arm64", 64 * KiB): (8, 8192),
            # A struct page of 80 bytes; the leaf of 32 MiB is shared, and there is no direct map.
            ("loongarch64", 4 * KiB): (5, 0),
            ("loongarch64", 16 * KiB): (1, 0),
        }


def with_tables(arch: str) -> list[dict[str, Any]]:
    return [guest for guest in GUESTS if guest["arch"] == arch and "root_entries" in guest]


class TestRootEntriesOfRealGuests:
    @pytest.mark.parametrize("guest", with_tables("riscv64"), ids=lambda guest: guest["name"])
    def test_riscv_has_the_preallocated_ones_and_those_of_fixmap_and_kernel(self, guest: dict[str, Any]) -> None:
        config = kernel(guest["profile"], "riscv64", guest["page_size"], guest["va_bits"])
        mine = layout(config, Span(*guest["ram"]))
        slots = config.entries_per_table
        wanted = set(root_entries(mine, mine.fixmap.span)) | set(root_entries(mine, mine.kernel.span))
        for area in config.choices.areas_filled_at_boot:
            wanted |= set(root_entries(mine, area_span(mine, area)))
        present = set(guest["root_entries"])
        # One entry of the kernel's area may be missing: the image takes the first 1 GiB of two.
        top = {slots - 1} if config.va_bits == 39 else set()
        assert {entry % slots for entry in wanted} - top == present - top

    @pytest.mark.parametrize("guest", with_tables("x86_64"), ids=lambda guest: guest["name"])
    def test_x86_has_all_of_vmalloc_and_only_the_used_ones_of_the_direct_map(self, guest: dict[str, Any]) -> None:
        notes = guest["vmcoreinfo"]
        start, _, phys = guest["direct_map_leaves"]
        bases = Bases(page_offset=start - phys, vmalloc_start=notes["VMALLOC_START"], vmemmap_start=notes["vmemmap"])
        config = kernel(guest["profile"], "x86_64", guest["page_size"], guest["va_bits"], bases=bases)
        mine = layout(config, Span(*guest["ram"]))
        slots = config.entries_per_table
        present = set(guest["root_entries"])
        vmalloc = {entry % slots for entry in root_entries(mine, mine.vmalloc.span)}
        ram = Span(mine.direct_map.start, mine.phys_to_virt(guest["ram"][1]))
        direct = {entry % slots for entry in root_entries(mine, ram)}
        beyond = {
            entry % slots for entry in root_entries(mine, Span(ram.end + mine.config.pgdir_size, mine.vmalloc.start))
        }
        assert vmalloc | direct <= present
        assert not (beyond - vmalloc) & present


class TestPreallocationOnRiscv:
    """The posting of May 2023: "roughly waste ~128 worth of 4K pages" for vmemmap and direct map."""

    def test_v1_fills_128_entries_under_sv39_and_131_or_132_above(self) -> None:
        counted = {
            row.va_bits: sum(each.tables for each in row.preallocated if each.area != "vmalloc")
            for row in rows("riscv-hotplug-v1", "riscv64")
        }
        assert counted == {39: 128, 48: 132, 57: 131}

    def test_patch_7_adds_64_for_vmalloc_in_every_mode(self) -> None:
        for row in rows("riscv-hotplug-v1", "riscv64"):
            (vmalloc,) = [each for each in row.preallocated if each.area == "vmalloc"]
            assert (vmalloc.tables, vmalloc.bytes) == (64, 64 * 4 * KiB)

    def test_a_machine_with_a_terabyte_uses_two_of_them_under_sv57(self) -> None:
        (row,) = [row for row in rows("linux-7.2", "riscv64", ram_size=TiB) if row.va_bits == 57]
        used = {each.area: each.used for each in row.preallocated}
        assert used == {"vmalloc": None, "modules": None, "vmemmap": 1, "direct map": 1}

    def test_under_sv39_every_gibibyte_of_ram_uses_one(self) -> None:
        (row,) = [row for row in rows("linux-6.12", "riscv64", ram_size=100 * GiB) if row.va_bits == 39]
        used = {each.area: each.used for each in row.preallocated}
        assert used["direct map"] == 100

    def test_a_root_entry_of_two_areas_is_paid_once(self) -> None:
        config = kernel("linux-7.2", "riscv64", 4 * KiB, 48, kasan=True)
        mine = layout(config, Span(2 * GiB, 4 * GiB))
        filled = preallocation(mine, Span(2 * GiB, 4 * GiB))
        entries = set().union(*(root_entries(mine, area_span(mine, each.area)) for each in filled))
        assert sum(each.tables for each in filled) == len(entries) < sum(each.entries for each in filled)

    def test_arm64_needs_none(self) -> None:
        assert all(row.preallocated_tables == 0 for row in rows("linux-7.2", "arm64"))


class TestMemoryBlocks:
    def test_everything_but_x86_has_one_section(self) -> None:
        for config in configs():
            if config.arch != "x86_64":
                assert memory_block_size_bytes(config, 8 * TiB) == config.section_size

    @pytest.mark.parametrize(
        ("profile", "guest", "end", "advice", "size"),
        [
            ("linux-6.12", False, 64 * GiB - 1, 0, 128 * MiB),
            ("linux-6.12", False, 64 * GiB, 0, 2 * GiB),
            ("linux-6.12", False, 100 * GiB + 128 * MiB, 0, 2 * GiB),
            ("linux-6.12", True, 100 * GiB + 128 * MiB, 0, 128 * MiB),
            ("linux-6.12", True, 100 * GiB + MiB, 0, 128 * MiB),
            ("linux-6.12", True, 101 * GiB, 0, GiB),
            ("linux-6.12", True, 102 * GiB, 0, 2 * GiB),
            ("linux-7.2", False, 100 * GiB + 128 * MiB, 0, 2 * GiB),
            ("linux-7.2", False, 102 * GiB, 256 * MiB, 256 * MiB),
            ("linux-7.2", False, 100 * GiB + 128 * MiB, 256 * MiB, 128 * MiB),
            ("linux-7.2", True, 102 * GiB, 16 * GiB, 2 * GiB),
            ("linux-6.12", False, 102 * GiB, 256 * MiB, 2 * GiB),
        ],
    )
    def test_x86_looks_at_the_size_and_end_of_ram_and_at_advice(
        self, profile: str, guest: bool, end: int, advice: int, size: int
    ) -> None:
        config = kernel(profile, "x86_64", 4 * KiB, 48, hypervisor=guest, memory_block_advice=advice)
        assert memory_block_size_bytes(config, end) == size

    @given(st.integers(0, 8 * TiB // (128 * MiB)), st.booleans(), st.sampled_from([0, 128 * MiB, GiB, 4 * GiB]))
    def test_an_x86_guest_never_gets_blocks_that_the_end_of_ram_would_cut(
        self, blocks: int, guest: bool, advice: int
    ) -> None:
        config = kernel("linux-7.2", "x86_64", 4 * KiB, 57, hypervisor=guest, memory_block_advice=advice)
        end = blocks * 128 * MiB
        size = memory_block_size_bytes(config, end)
        assert size & (size - 1) == 0
        assert 128 * MiB <= size <= 2 * GiB
        if guest or advice:
            assert is_aligned(end, size)

    def test_arm64_sections_were_1_gib_when_hot_remove_was_posted(self) -> None:
        assert {row.section_size for row in rows("arm64-hotremove-v7", "arm64")} == {GiB}
        assert {row.section_size for row in rows("linux-5.13", "arm64")} == {128 * MiB, 512 * MiB}


class TestAnswersToTheFirstQuestions:
    """David Hildenbrand on the riscv posting: section size, pageblock size, is a known maximum needed?"""

    def test_riscv_has_128_mib_sections(self) -> None:
        for row in rows("riscv-hotplug-v1", "riscv64"):
            assert (row.section_size, row.smallest_dimm) == (128 * MiB, 128 * MiB)

    def test_a_pageblock_is_2_mib_though_the_largest_order_is_10(self) -> None:
        for row in rows("riscv-hotplug-v1", "riscv64"):
            assert (row.pageblock_size, row.max_page_order) == (2 * MiB, 10)

    def test_the_direct_map_is_laid_out_the_same_with_and_without_a_known_maximum(self) -> None:
        for max_possible in (8 * GiB, 64 * TiB):
            unknown = rows("linux-7.2", "riscv64")
            known = rows("linux-7.2", "riscv64", max_possible=max_possible)
            for before, after in zip(unknown, known, strict=True):
                assert before.pluggable_end == after.pluggable_end
                assert before.direct_map_size == after.direct_map_size

    def test_a_known_maximum_tells_which_paging_mode_it_does_not_fit(self) -> None:
        fits = {row.va_bits: row.max_possible_fits for row in rows("linux-7.2", "riscv64", max_possible=TiB)}
        assert fits == {39: False, 48: True, 57: True}

    def test_v1_checked_no_more_than_the_width_of_physical_addresses(self) -> None:
        assert {row.pluggable_end for row in rows("riscv-hotplug-v1", "riscv64")} == {1 << 56}

    def test_arm64_checked_nothing_in_2019(self) -> None:
        assert {row.pluggable_end for row in rows("arm64-hotremove-v7", "arm64")} == {None}


class TestVirtioMem:
    def test_a_device_block_as_large_as_a_memory_block_makes_big_blocks(self) -> None:
        config = kernel("linux-7.2", "x86_64", 4 * KiB, 48)
        found = virtio_mem(config, 128 * MiB, 128 * MiB)
        assert found is not None
        assert (found.mode, found.unit, found.added) == ("big-block", 128 * MiB, 128 * MiB)

    def test_a_larger_device_block_is_the_big_block(self) -> None:
        found = virtio_mem(kernel("linux-7.2", "x86_64", 4 * KiB, 48), 128 * MiB, 512 * MiB)
        assert found is not None
        assert (found.mode, found.unit) == ("big-block", 512 * MiB)

    def test_64k_pages_with_the_default_pageblock_leave_only_big_blocks(self) -> None:
        for row in rows("linux-7.2", "arm64"):
            if row.page_size == 64 * KiB:
                assert row.virtio_mem is not None
                assert (row.virtio_mem.mode, row.virtio_mem.unit) == ("big-block", 512 * MiB)

    def test_there_was_no_driver_for_arm64_in_2019(self) -> None:
        assert all(row.virtio_mem is None for row in rows("arm64-hotremove-v7", "arm64"))

    @pytest.mark.parametrize(("release", "unit"), [("5.18", 4 * MiB), ("5.19", 2 * MiB)])
    def test_sub_blocks_on_x86_were_4_mib_before_5_19(self, release: str, unit: int) -> None:
        """max_t(MAX_ORDER_NR_PAGES, pageblock_nr_pages) pages, since then pageblock_nr_pages."""
        found = virtio_mem(Config("x86_64", profile(release), 4 * KiB, 48), 128 * MiB, 2 * MiB)
        assert found is not None
        assert (found.mode, found.unit) == ("sub-block", unit)


class TestDirectMapLeaves:
    def test_a_cpu_with_bbml2_keeps_large_leaves_in_7_2(self) -> None:
        config = kernel("linux-7.2", "arm64", 4 * KiB, 48)
        small, large = geometry([config, replace(config, bbml2=True)])
        assert (small.direct_map_leaf_size, large.direct_map_leaf_size) == (4 * KiB, 2 * MiB)

    def test_2_gib_blocks_take_gigabyte_leaves_where_the_cpu_has_them(self) -> None:
        config = kernel("linux-6.12", "x86_64", 4 * KiB, 48, hypervisor=False)
        with_gb, without = geometry([config, replace(config, gbpages=False)], ram_size=128 * GiB)
        assert (with_gb.direct_map_leaves, without.direct_map_leaves) == (2, 1024)


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.title)
def test_the_page_table_format_has_the_levels_that_the_configuration_counts(config: Config) -> None:
    assert [level.shift for level in config.format.levels] == [config.shift(h) for h in range(config.levels)]
