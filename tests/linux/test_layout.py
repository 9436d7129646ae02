"""The computed address space is that of real kernels: VMCOREINFO, page tables, ptdump, the kernel's documents."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import BadInput
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.config import Bases, Config, configs
from memhp.linux.layout import Layout, layout
from memhp.linux.profiles import PROFILES
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB

DATA = Path(__file__).parents[1] / "data" / "layout"
GUESTS: list[dict[str, Any]] = json.loads((DATA / "guests.json").read_text())
MARKERS: dict[str, list[dict[str, Any]]] = json.loads((DATA / "ptdump-markers.json").read_text())
RAM = {
    "riscv64": Span(2 * GiB, 4 * GiB),
    "arm64": Span(GiB, 3 * GiB),
    "x86_64": Span(0, 2 * GiB),
    "loongarch64": Span(0, 4 * GiB),
}


def kernel(profile: str, arch: str, page_size: int, va_bits: int, **options: Any) -> Config:
    return Config(arch, PROFILES[profile], page_size, va_bits, **options).validate()


def guest_layout(guest: dict[str, Any]) -> Layout:
    """The layout of a captured guest: of KASLR, only the bases that a user would know from VMCOREINFO."""
    notes, arch = guest["vmcoreinfo"], guest["arch"]
    bases = Bases()
    if "kaslr" in guest["name"]:
        start, _, phys = guest["direct_map_leaves"]
        bases = Bases(page_offset=start - phys, vmalloc_start=notes["VMALLOC_START"], vmemmap_start=notes["vmemmap"])
    if arch == "riscv64":
        bases = Bases(modules_start=notes["MODULES_VADDR"])
    config = kernel(
        guest["profile"], arch, guest["page_size"], guest["va_bits"], lva=guest.get("lva", True), bases=bases
    )
    return layout(config, Span(*guest["ram"]))


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest["name"])
class TestRealKernels:
    def test_vmcoreinfo_notes_the_same_numbers(self, guest: dict[str, Any]) -> None:
        mine, notes = guest_layout(guest), guest["vmcoreinfo"]
        inclusive = 1 if guest["arch"] == "x86_64" else 0
        computed = {
            "vmemmap": mine.vmemmap_base,
            "VMEMMAP_START": mine.vmemmap.start,
            "VMEMMAP_END": mine.vmemmap.end,
            "VMALLOC_START": mine.vmalloc.start,
            "VMALLOC_END": mine.vmalloc.end - inclusive,
            "PAGE_OFFSET": mine.page_offset,
            "MODULES_VADDR": mine.modules.start,
            "MODULES_END": mine.modules.end,
            "PHYS_OFFSET": mine.phys_offset & ADDRESS_MASK,
            "phys_ram_base": mine.phys_offset,
            "MAX_PHYSMEM_BITS": mine.config.max_physmem_bits,
            "SECTION_SIZE_BITS": mine.config.section_size_bits,
            "PAGESIZE": mine.config.page_size,
            "sizeof_page": mine.config.struct_page_size,
            "VA_BITS": mine.config.va_bits,
            "KERNEL_LINK_ADDR": mine.kernel.start,
            "pgtable_l5_enabled": int(mine.config.va_bits == 57),
            "TCR_EL1_T1SZ": 64 - mine.config.va_bits_actual,
        }
        noted = {name: value for name, value in notes.items() if name != "_stext"}
        assert {name: computed[name] for name in noted} == noted

    def test_the_direct_map_translates_as_the_page_tables_do(self, guest: dict[str, Any]) -> None:
        mine = guest_layout(guest)
        start, end, phys = guest["direct_map_leaves"]
        assert mine.phys_to_virt(phys) == start
        assert mine.virt_to_phys(end - 1) == phys + end - 1 - start

    def test_the_first_struct_page_lies_where_the_page_tables_map_it(self, guest: dict[str, Any]) -> None:
        mine = guest_layout(guest)
        first = guest["ram"][0] >> mine.config.page_shift
        assert mine.pfn_to_page(first) == guest["first_memmap_leaf"]
        assert mine.page_to_pfn(guest["first_memmap_leaf"]) == first


class TestPageTableDump:
    def test_arm64_cuts_its_ranges_at_every_marker(self) -> None:
        config = kernel("linux-7.2", "arm64", 64 * KiB, 52, fixmap_slots=0)
        mine = layout(config, Span(GiB, 2 * GiB))
        assert [(m.start, m.name) for m in mine.markers] == [(m["before"], m["name"]) for m in MARKERS["arm64-64k"]]

    def test_riscv_prints_its_markers_between_the_mappings_that_they_part(self) -> None:
        mine = layout(kernel("linux-7.2", "riscv64", 4 * KiB, 57), Span(2 * GiB, 3 * GiB))
        assert [m.name for m in mine.markers] == [m["name"] for m in MARKERS["riscv64"]]
        for marker, seen in zip(mine.markers, MARKERS["riscv64"], strict=True):
            assert (seen["after"] or 0) <= marker.start <= seen["before"], marker

    @pytest.mark.parametrize("config", configs(), ids=lambda config: config.title)
    def test_markers_ascend(self, config: Config) -> None:
        starts = [marker.start for marker in layout(config, RAM[config.arch]).markers]
        assert starts == sorted(starts)


DOCUMENTED = {
    # Documentation/arch/riscv/vm-layout.rst of 6.12
    ("linux-6.12", "riscv64", 4 * KiB, 39): {
        "fixmap": (0xFFFFFFC4FEA00000, 0xFFFFFFC4FEFFFFFF),
        "pci_io": (0xFFFFFFC4FF000000, 0xFFFFFFC4FFFFFFFF),
        "vmemmap": (0xFFFFFFC500000000, 0xFFFFFFC5FFFFFFFF),
        "vmalloc": (0xFFFFFFC600000000, 0xFFFFFFD5FFFFFFFF),
        "kasan": (0xFFFFFFF700000000, 0xFFFFFFFEFFFFFFFF),
    },
    ("linux-6.12", "riscv64", 4 * KiB, 48): {
        "fixmap": (0xFFFF8D7FFEA00000, 0xFFFF8D7FFEFFFFFF),
        "vmemmap": (0xFFFF8D8000000000, 0xFFFF8F7FFFFFFFFF),
        "vmalloc": (0xFFFF8F8000000000, 0xFFFFAF7FFFFFFFFF),
        "direct_map": (0xFFFFAF8000000000, 0xFFFFEF7FFFFFFFFF),
        "kasan": (0xFFFFEF8000000000, 0xFFFFFFFEFFFFFFFF),
    },
    ("linux-6.12", "riscv64", 4 * KiB, 57): {
        "vmemmap": (0xFF1C000000000000, 0xFF1FFFFFFFFFFFFF),
        "vmalloc": (0xFF20000000000000, 0xFF5FFFFFFFFFFFFF),
        "direct_map": (0xFF60000000000000, 0xFFDEFFFFFFFFFFFF),
        "kasan": (0xFFDF000000000000, 0xFFFFFFFEFFFFFFFF),
    },
    # Documentation/arm64/memory.rst of 5.4
    ("arm64-hotremove-v7", "arm64", 4 * KiB, 48): {
        "direct_map": (0xFFFF000000000000, 0xFFFF7FFFFFFFFFFF),
        "kasan": (0xFFFF800000000000, 0xFFFF9FFFFFFFFFFF),
        "modules": (0xFFFFA00008000000, 0xFFFFA0000FFFFFFF),
        "vmalloc": (0xFFFFA00010000000, 0xFFFFFDFFBFFEFFFF),
        "fixmap": (0xFFFFFDFFFE5F9000, 0xFFFFFDFFFE9FFFFF),
        "pci_io": (0xFFFFFDFFFEC00000, 0xFFFFFDFFFFBFFFFF),
        "vmemmap": (0xFFFFFDFFFFE00000, 0xFFFFFFFFFFDFFFFF),
    },
    ("arm64-hotremove-v7", "arm64", 64 * KiB, 42): {
        "direct_map": (0xFFFFFC0000000000, 0xFFFFFDFFFFFFFFFF),
        "kasan": (0xFFFFFE0000000000, 0xFFFFFE7FFFFFFFFF),
        "modules": (0xFFFFFE8008000000, 0xFFFFFE800FFFFFFF),
        "vmalloc": (0xFFFFFE8010000000, 0xFFFFFFFF5FFEFFFF),
        "fixmap": (0xFFFFFFFF7E590000, 0xFFFFFFFF7E9FFFFF),
        "pci_io": (0xFFFFFFFF7EC00000, 0xFFFFFFFF7FBFFFFF),
        "vmemmap": (0xFFFFFFFF7FE00000, 0xFFFFFFFFFFDFFFFF),
    },
    ("arm64-hotremove-v7", "arm64", 64 * KiB, 52): {
        "direct_map": (0xFFF0000000000000, 0xFFF7FFFFFFFFFFFF),
        "kasan": (0xFFFDA00000000000, 0xFFFF9FFFFFFFFFFF),
        "modules": (0xFFFFA00008000000, 0xFFFFA0000FFFFFFF),
        "vmalloc": (0xFFFFA00010000000, 0xFFFFF81FFFFEFFFF),
        "fixmap": (0xFFFFFC1FFE590000, 0xFFFFFC1FFE9FFFFF),
    },
    # Documentation/arm64/memory.rst of 5.11 to 6.4, whose module space and BPF space are one before 5.17
    ("linux-5.13", "arm64", 4 * KiB, 48): {
        "kasan": (0xFFFF600000000000, 0xFFFF7FFFFFFFFFFF),
        "modules": (0xFFFF800008000000, 0xFFFF80000FFFFFFF),
        "vmalloc": (0xFFFF800010000000, 0xFFFFFBFFEFFFFFFF),
        "pci_io": (0xFFFFFBFFFE800000, 0xFFFFFBFFFF7FFFFF),
        "vmemmap": (0xFFFFFC0000000000, 0xFFFFFDFFFFFFFFFF),
    },
    ("linux-5.13", "arm64", 64 * KiB, 52): {
        "kasan": (0xFFFD800000000000, 0xFFFF7FFFFFFFFFFF),
        "vmemmap": (0xFFFFFC0000000000, 0xFFFFFFDFFFFFFFFF),
    },
    # Documentation/arch/x86/x86_64/mm.rst
    ("linux-7.2", "x86_64", 4 * KiB, 48): {
        "direct_map": (0xFFFF888000000000, 0xFFFFC87FFFFFFFFF),
        "vmalloc": (0xFFFFC90000000000, 0xFFFFE8FFFFFFFFFF),
        "vmemmap": (0xFFFFEA0000000000, 0xFFFFEAFFFFFFFFFF),
        "kasan": (0xFFFFEC0000000000, 0xFFFFFBFFFFFFFFFF),
    },
    ("linux-7.2", "x86_64", 4 * KiB, 57): {
        "vmalloc": (0xFFA0000000000000, 0xFFD1FFFFFFFFFFFF),
    },
}


@pytest.mark.parametrize("which", DOCUMENTED, ids=lambda which: "-".join(map(str, which)))
def test_the_areas_are_those_that_the_kernel_documents(which: tuple[str, str, int, int]) -> None:
    # The tables of 5.4 are of a build with GHES and KPTI, without SDEI: four fixmap slots.
    mine = layout(kernel(*which, kasan=True, fixmap_slots=4), RAM[which[1]])
    documented = DOCUMENTED[which]
    computed = {name: getattr(mine, name) for name in documented}
    assert {name: (area.start, area.end - 1) for name, area in computed.items()} == documented


class TestDirectMapReach:
    def test_riscv_sv39_holds_128_gib_and_held_124_when_hotplug_was_posted(self) -> None:
        now = layout(kernel("linux-6.12", "riscv64", 4 * KiB, 39), RAM["riscv64"])
        then = layout(kernel("riscv-hotplug-v1", "riscv64", 4 * KiB, 39), RAM["riscv64"])
        assert now.mappable_range().size == 132 * GiB
        assert then.direct_map.size == 124 * GiB

    def test_riscv_7_2_plugs_no_further_than_its_vmemmap_reaches(self) -> None:
        mine = layout(kernel("linux-7.2", "riscv64", 4 * KiB, 39), RAM["riscv64"])
        last = mine.pluggable_range(need_mapping=False).end >> 12
        assert mine.pfn_to_page(last) == mine.vmemmap.end

    def test_arm64_direct_map_ends_where_physmem_end_says(self) -> None:
        mine = layout(kernel("linux-7.2", "arm64", 4 * KiB, 39), RAM["arm64"])
        assert mine.mappable_range() == Span(GiB, GiB + 256 * GiB)
        assert mine.pluggable_range() == mine.mappable_range()

    def test_memory_too_high_for_an_arm64_direct_map_is_given_up_from_below(self) -> None:
        ram = Span(GiB, GiB + 300 * GiB)
        mine = layout(kernel("linux-6.12", "arm64", 4 * KiB, 39), ram)
        assert mine.direct_mapped() == Span(ram.end - 256 * GiB, ram.end)

    def test_a_52_bit_arm64_kernel_on_a_48_bit_cpu_uses_the_upper_end_of_both_areas(self) -> None:
        wide = layout(kernel("linux-7.2", "arm64", 4 * KiB, 52), RAM["arm64"])
        narrow = layout(kernel("linux-7.2", "arm64", 4 * KiB, 52, lva=False), RAM["arm64"])
        assert narrow.vmemmap == wide.vmemmap
        assert narrow.direct_map.end == wide.direct_map.end
        assert narrow.direct_map.size == 128 * TiB
        assert narrow.phys_to_virt(GiB) == narrow.direct_map.start
        assert narrow.pfn_to_page(GiB >> 12) > narrow.vmalloc.end

    def test_x86_without_a_mapping_check_stops_at_the_widest_physical_address(self) -> None:
        mine = layout(kernel("linux-6.12", "x86_64", 4 * KiB, 48), RAM["x86_64"])
        assert mine.pluggable_range() == Span(0, 64 * TiB)

    def test_the_arm64_series_of_2019_checked_nothing(self) -> None:
        mine = layout(kernel("arm64-hotremove-v7", "arm64", 4 * KiB, 48), RAM["arm64"])
        assert mine.pluggable_range() == Span(0, 1 << 64)


class TestStartOfVmemmap:
    def test_riscv_7_2_without_hvo_offsets_by_the_section_as_6_12_does(self) -> None:
        old = layout(kernel("linux-6.12", "riscv64", 4 * KiB, 57), RAM["riscv64"])
        new = layout(kernel("linux-7.2", "riscv64", 4 * KiB, 57, hvo=False), RAM["riscv64"])
        assert new.vmemmap_base == old.vmemmap_base == old.vmemmap.start - 32 * MiB

    def test_riscv_7_2_with_hvo_offsets_by_whole_16_gib(self) -> None:
        mine = layout(kernel("linux-7.2", "riscv64", 4 * KiB, 57), Span(34 * GiB, 40 * GiB))
        assert mine.vmemmap_start_pfn << 12 == 32 * GiB

    def test_when_riscv_hotplug_was_posted_it_offset_by_nothing(self) -> None:
        mine = layout(kernel("riscv-hotplug-v1", "riscv64", 4 * KiB, 57), RAM["riscv64"])
        assert mine.vmemmap_base == mine.vmemmap.start


class TestVmallocVmemmapOverlap:
    """Claim of the arm64 V7 cover letter: only 4K and 16K pages with 48-bit addresses overlap."""

    @staticmethod
    def overlapping(profile: str) -> set[tuple[int, int]]:
        return {
            (config.page_size // KiB, config.va_bits)
            for config in configs(PROFILES[profile])
            if config.arch == "arm64" and layout(config, RAM["arm64"]).vmalloc_vmemmap_overlap
        }

    def test_holds_in_the_tree_that_v7_was_posted_on(self) -> None:
        assert self.overlapping("arm64-hotremove-v7") == {(4, 48), (16, 48)}

    def test_holds_only_for_16k_in_the_layout_before_the_address_space_was_flipped(self) -> None:
        assert self.overlapping("arm64-hotremove-v5") == {(16, 48)}


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.title)
class TestEveryConfiguration:
    def test_areas_lie_apart(self, config: Config) -> None:
        mine = layout(config, RAM[config.arch])
        spans = [mine.direct_map.span, mine.vmalloc.span, mine.vmemmap_usable, mine.modules.span, mine.fixmap.span]
        # arm64's image lies at the start of vmalloc space, LoongArch's is reached through the direct map.
        if config.arch not in {"arm64", "loongarch64"}:
            spans.append(mine.kernel.span)
        spans.sort()
        assert all(a.end <= b.start for a, b in pairwise(spans))

    def test_every_mappable_page_has_its_struct_page_inside_vmemmap(self, config: Config) -> None:
        mine = layout(config, RAM[config.arch])
        mapped = mine.direct_mapped()
        top = min(mapped.end, 1 << config.max_physmem_bits) >> config.page_shift
        pages = mine.memmap(max(mapped.start, 0) >> config.page_shift, top)
        assert mine.vmemmap_usable.covers(pages)

    def test_with_kasan_the_shadow_overlaps_nothing_that_is_mapped(self, config: Config) -> None:
        mine = layout(replace(config, kasan=True), RAM[config.arch])
        assert mine.kasan is not None
        for span in (mine.direct_map.span, mine.vmalloc.span, mine.vmemmap_usable, mine.modules.span):
            assert not span.overlaps(mine.kasan.span)


@given(st.sampled_from(sorted(configs(), key=lambda config: config.title)), st.integers(0, (1 << 36) - 1))
def test_pages_and_addresses_translate_back(config: Config, offset: int) -> None:
    mine = layout(config, RAM[config.arch])
    mapped = mine.direct_mapped()
    phys = mapped.start + offset % mapped.size
    pfn = phys >> config.page_shift
    assert mine.virt_to_phys(mine.phys_to_virt(phys)) == phys
    assert mine.page_to_pfn(mine.pfn_to_page(pfn)) == pfn
    assert mine.page_to_pfn(mine.pfn_to_page(pfn) + config.struct_page_size - 1) == pfn


def test_a_machine_without_ram_is_refused() -> None:
    with pytest.raises(BadInput, match="needs RAM"):
        layout(kernel("linux-6.12", "x86_64", 4 * KiB, 48), Span(0, 0))


def test_ram_behind_the_physical_addresses_is_refused() -> None:
    with pytest.raises(BadInput, match="46-bit"):
        layout(kernel("linux-6.12", "x86_64", 4 * KiB, 48), Span(1 << 50, (1 << 50) + GiB))


def test_an_address_outside_the_direct_map_has_no_physical_address() -> None:
    mine = layout(kernel("linux-6.12", "x86_64", 4 * KiB, 48), RAM["x86_64"])
    with pytest.raises(ValueError, match="not in the direct map"):
        mine.virt_to_phys(mine.vmalloc.start)
