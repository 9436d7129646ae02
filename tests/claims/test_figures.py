"""Figures of claims that are known from elsewhere: from the mails, kernel sources, configurations and captures."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.claims import arm64_two_passes, memmap_design, riscv_hotplug, riscv_machine, riscv_series
from memhp.claims.kconfig import BUILDS, RULES, option
from memhp.units import MiB


def test_what_removal_loses_under_a_folded_level_is_struct_pages_and_their_tables() -> None:
    """512 MiB have 8 MiB of struct pages, by base pages 4 tables; Sv48 has a PMD table for the direct map besides."""
    figure = riscv_hotplug.frames_conserved().figure
    tables = 4 * 4096
    assert f"riscv-hotplug-v1: Sv39 loses {8 * MiB + tables} bytes and breaks 4 laws" in figure
    assert f"Sv48 loses {8 * MiB + tables + 4096} bytes and breaks 4 laws" in figure
    assert "linux-7.2: nothing lost in any mode" in figure


def test_v1_maps_memory_beyond_the_direct_map_where_the_shadow_of_kasan_begins() -> None:
    """Sv39 of 6.4: PAGE_OFFSET is 0xffffffd800000000, RAM begins at 2 GiB, KASAN_SHADOW_START is 0xfffffff700000000."""
    va = 0xFFFFFFD800000000 + riscv_machine.FAR - (2 << 30)
    assert va == 0xFFFFFFF700000000
    figure = riscv_machine.pluggable_range().figure
    assert f"a plug at 0x1f80000000 beyond the direct map: ok, mapped at {va:#x}" in figure
    assert figure.count("E2BIG") == 2


def test_a_gib_of_arm64_takes_an_invalidation_for_each_page_and_each_table() -> None:
    """V6, 4K pages: 262144 PTEs, 8 PMDs of 512 PTEs' range each, 512 PTE tables, a PMD table. One for all since."""
    figure = arm64_two_passes.two_passes().figure
    assert f"arm64-hotremove-v7: 2 passes; 4 KiB {262144 + 8 * 512 + 512 + 1}, " in figure
    assert f"linux-7.2: 2 passes; 4 KiB {1 + 8 + 512 + 1}, " in figure
    assert "arm64-hotremove-v5: 1 pass, under the lock" in figure


def test_synchronisation_stores_each_new_root_entry_into_each_process() -> None:
    """16 GiB have 16 root entries under Sv39."""
    assert "16 GiB under Sv39: 16 stores for each process" in riscv_series.sync_cost().figure


def test_7_2_of_arm64_refuses_a_block_only_behind_its_struct_pages() -> None:
    parts = memmap_design.interface().figure.split("; ")
    assert parts[1] == "linux-7.2: from the first page let go, behind 512 pages of struct pages refused"


@pytest.mark.parametrize("kernel", ["linux-6.12", "linux-7.2"])
def test_debians_riscv64_kernels_have_what_the_rules_say(kernel: str) -> None:
    """/boot/config of 6.12.107+deb13-riscv64 and 7.2.13+deb14-riscv64."""
    for name in ("MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "ZONE_DEVICE", "MHP_MEMMAP_ON_MEMORY"):
        assert option(kernel, name, BUILDS["as distributions build it"]), name


def test_a_kernel_without_migration_only_adds_until_7_2() -> None:
    has = {name: option(name, "MEMORY_HOTREMOVE", BUILDS["without MIGRATION"]) for name in RULES}
    assert has == {"riscv-hotplug-v1": False, "linux-6.12": False, "linux-7.2": True}
    assert all(option(name, "MEMORY_HOTPLUG", BUILDS["without MIGRATION"]) for name in RULES)


def test_a_kernel_that_is_asked_to_leave_the_vmemmap_out_has_it_all_the_same_in_7_2() -> None:
    """mm/Kconfig: a question until 6.17, def_bool y since; as posted nothing of hotplug asks for it."""
    has = {name: option(name, "MEMORY_HOTPLUG", BUILDS["without SPARSEMEM_VMEMMAP"]) for name in RULES}
    assert has == {"riscv-hotplug-v1": True, "linux-6.12": False, "linux-7.2": True}
    assert not any(option(name, "MEMORY_HOTPLUG", BUILDS["32-bit"]) for name in RULES)
