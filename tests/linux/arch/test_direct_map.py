"""Which leaves the direct map gets, what removal takes with it, and what a failure leaves behind."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.memory import Owner, Use
from memhp.hw.walker import leaves
from memhp.linux.arch.riscv.mm.init import best_map_sizes
from memhp.linux.arch.x86.mm.init import MapRange, split_mem_range
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB
from steppers import Failing

EARLY = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}


def boot(name: Arch, va_bits: int = 48, profile_name: str = "linux-6.12", *, ram: int = GiB, **options: Any) -> Kernel:
    page_size = options.pop("page_size", 4 * KiB)
    choices = options.pop("choices", {})
    record = profile(profile_name).choosing(name, choices)
    config = Config(name, record, page_size, va_bits, **options).validate()
    return start_kernel(MachineSpec("small", config, (Ram(EARLY[name], ram),)))


def plug(k: Kernel, start: int, size: int) -> None:
    shift = k.config.page_shift
    k.hw.plug(Span(start >> shift, (start + size) >> shift), Owner(Use.DEVICE))


def heights(k: Kernel, start: int, size: int) -> Counter[int]:
    """How many leaves of each height map a physical range in the direct map."""
    va = k.layout.phys_to_virt(start)
    found = leaves(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=va, va_end=va + size)
    return Counter(found.height.tolist())


class TestRiscvMapSizes:
    """arch/riscv/mm/init.c:best_map_size."""

    @pytest.mark.parametrize(
        ("va_bits", "start", "size", "expected"),
        [
            (39, 4 * GiB, 2 * GiB, {1: 1024}),
            (48, 4 * GiB, 2 * GiB, {2: 2}),
            (48, 4 * GiB, 2 * GiB + 128 * MiB, {2: 2, 1: 64}),
            (48, 4 * GiB + 128 * MiB, 2 * GiB, {1: 512, 2: 1}),
            (48, TiB, TiB, {2: 1024}),
            (57, TiB, TiB, {2: 1024}),
        ],
    )
    def test_the_largest_leaf_below_the_root_that_fits(
        self, va_bits: int, start: int, size: int, expected: dict[int, int]
    ) -> None:
        k = boot("riscv64", va_bits, ram=32 * GiB if size == TiB else GiB)
        plug(k, start, size)
        k.port.arch_add_memory(k, 0, start, size)
        assert heights(k, start, size) == expected

    def test_512_gib_leaves_need_ram_that_starts_at_such_a_boundary(self) -> None:
        for first, expected in ((2 * GiB, {2: 1024}), (0, {3: 2})):
            config = Config("riscv64", profile("linux-6.12"), 4 * KiB, 57)
            k = start_kernel(MachineSpec("small", config, (Ram(first, 32 * GiB),)))
            plug(k, TiB, TiB)
            k.port.arch_add_memory(k, 0, TiB, TiB)
            assert heights(k, TiB, TiB) == expected

    @settings(max_examples=60)
    @given(st.integers(0, 2048), st.integers(1, 2048), st.sampled_from((39, 48, 57)), st.booleans())
    def test_stretches_are_the_loop_over_best_map_size(self, first: int, count: int, va_bits: int, old: bool) -> None:
        k = KERNELS[va_bits, "riscv-hotplug-v1" if old else "linux-6.12"]
        start, end = 8 * GiB + first * 2 * MiB, 8 * GiB + (first + count) * 2 * MiB
        sizes = [4 * KiB << 9 * h for h in range(k.hw.fmt.root_height + (1 if old else 0))]
        wanted, pa = [], start
        while pa < end:
            va = pa - k.layout.phys_offset + k.layout.page_offset
            size = max(s for s in sizes if end - pa >= s and pa % s == 0 and (old or va % s == 0))
            wanted.append((pa, size))
            pa += size
        got = [
            (stretch.pa + i * sizes[stretch.height], sizes[stretch.height])
            for stretch in best_map_sizes(k, start, end)
            for i in range(stretch.leaves)
        ]
        assert got == wanted


KERNELS = {
    (bits, name): boot("riscv64", bits, name) for bits in (39, 48, 57) for name in ("linux-6.12", "riscv-hotplug-v1")
}


class TestRiscvAsPosted:
    """The series of May 2023."""

    def test_an_aligned_gib_under_sv39_finds_its_root_entry_taken_and_is_not_mapped(self) -> None:
        k = boot("riscv64", 39, "riscv-hotplug-v1")
        plug(k, 4 * GiB, GiB)
        k.port.arch_add_memory(k, 0, 4 * GiB, GiB)
        assert heights(k, 4 * GiB, GiB) == {}

    @pytest.mark.parametrize(("va_bits", "left"), [(39, 64), (48, 64), (57, 0)])
    def test_removal_finds_nothing_where_levels_are_folded(self, va_bits: int, left: int) -> None:
        k = boot("riscv64", va_bits, "riscv-hotplug-v1")
        plug(k, 4 * GiB, 128 * MiB)
        k.port.arch_add_memory(k, 0, 4 * GiB, 128 * MiB)
        k.port.arch_remove_memory(k, 4 * GiB, 128 * MiB)
        assert heights(k, 4 * GiB, 128 * MiB)[1] == left
        assert {violation.law for violation in k.hw.violations} == ({"page-tables"} if left else set())


class TestX86MapRanges:
    """arch/x86/mm/init.c:split_mem_range."""

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (4 * GiB, 5 * GiB, [(4 * GiB, 5 * GiB, {1, 2})]),
            (4 * GiB, 4 * GiB + 128 * MiB, [(4 * GiB, 4 * GiB + 128 * MiB, {1})]),
            (
                4 * GiB + 128 * MiB,
                6 * GiB + 256 * MiB,
                [
                    (4 * GiB + 128 * MiB, 5 * GiB, {1}),
                    (5 * GiB, 6 * GiB, {1, 2}),
                    (6 * GiB, 6 * GiB + 256 * MiB, {1}),
                ],
            ),
            (
                4 * GiB + 4 * KiB,
                4 * GiB + 6 * MiB + 8 * KiB,
                [
                    (4 * GiB + 4 * KiB, 4 * GiB + 2 * MiB, set()),
                    (4 * GiB + 2 * MiB, 4 * GiB + 6 * MiB, {1}),
                    (4 * GiB + 6 * MiB, 4 * GiB + 6 * MiB + 8 * KiB, set()),
                ],
            ),
            (4 * GiB + 4 * KiB, 4 * GiB + 8 * KiB, [(4 * GiB + 4 * KiB, 4 * GiB + 8 * KiB, set())]),
        ],
    )
    def test_pieces_have_the_leaves_that_their_alignment_allows(
        self, start: int, end: int, expected: list[tuple[int, int, set[int]]]
    ) -> None:
        k = boot("x86_64")
        assert split_mem_range(k, start, end) == [MapRange(a, b, frozenset(large)) for a, b, large in expected]
        small = boot("x86_64", gbpages=False)
        assert all(2 not in piece.large for piece in split_mem_range(small, start, end))
        tiny = boot("x86_64", debug_pagealloc=True)
        assert [piece.large for piece in split_mem_range(tiny, start, end)] == [frozenset()]

    def test_it_tells_the_pieces_as_the_kernel_does(self) -> None:
        k = boot("x86_64")
        k.hw.log_lines.clear()
        plug(k, 4 * GiB, GiB + 128 * MiB)
        k.port.arch_add_memory(k, 0, 4 * GiB, GiB + 128 * MiB)
        assert [line.text for line in k.hw.log_lines[:3]] == [
            "init_memory_mapping: [mem 0x100000000-0x147ffffff]",
            " [mem 0x100000000-0x13fffffff] page 1G",
            " [mem 0x140000000-0x147ffffff] page 2M",
        ]

    def test_boot_maps_the_first_megabyte_and_its_pmd_with_base_pages(self) -> None:
        k = boot("x86_64")
        assert heights(k, 0, 2 * MiB) == {0: 512}
        assert heights(k, 2 * MiB, 512 * MiB) == {1: 256}

    def test_a_leaf_left_behind_makes_way_for_the_smaller_ones_of_a_smaller_addition(self) -> None:
        """linux-6.12 arch/x86/mm/init_64.c:phys_pud_init: a table in place of a leaf, of which the rest goes."""
        k = boot("x86_64")
        plug(k, 4 * GiB, GiB)
        k.port.arch_add_memory(k, 0, 4 * GiB, GiB)
        with pytest.raises(KernelError, match="EEXIST"):
            k.port.arch_add_memory(k, 0, 4 * GiB + 128 * MiB, 128 * MiB)
        assert heights(k, 4 * GiB, GiB) == {1: 64}
        assert heights(k, 4 * GiB + 128 * MiB, 128 * MiB) == {1: 64}
        assert "WARNING: at arch/x86/include/asm/pgalloc.h:pud_populate_safe" in [line.text for line in k.hw.log_lines]

    def test_part_of_a_gib_leaf_cannot_go(self) -> None:
        k = boot("x86_64")
        plug(k, 4 * GiB, GiB)
        k.port.arch_add_memory(k, 0, 4 * GiB, GiB)
        assert heights(k, 4 * GiB, GiB) == {2: 1}
        with pytest.raises(KernelBug, match="as if it pointed to a table"):
            k.port.arch_remove_memory(k, 4 * GiB, 128 * MiB)


class TestArm64Leaves:
    """Base pages, unless the kernel can split live blocks or need not change single pages."""

    @pytest.mark.parametrize(
        ("name", "page_size", "options", "expected"),
        [
            ("linux-6.12", 4 * KiB, {}, {0: 512 * 1024}),
            ("linux-6.12", 4 * KiB, {"rodata_full": False}, {2: 2}),
            ("linux-6.12", 16 * KiB, {"rodata_full": False}, {1: 64}),
            ("linux-6.12", 64 * KiB, {"rodata_full": False}, {1: 4}),
            ("linux-7.2", 4 * KiB, {}, {0: 512 * 1024}),
            ("linux-7.2", 4 * KiB, {"bbml2": True}, {2: 2}),
            ("linux-7.2", 4 * KiB, {"bbml2": True, "debug_pagealloc": True}, {0: 512 * 1024}),
        ],
    )
    def test_two_gib(self, name: str, page_size: int, options: dict[str, bool], expected: dict[int, int]) -> None:
        k = boot("arm64", 48, name, page_size=page_size, **options)
        plug(k, 8 * GiB, 2 * GiB)
        k.port.arch_add_memory(k, 0, 8 * GiB, 2 * GiB)
        assert heights(k, 8 * GiB, 2 * GiB) == expected

    def test_blocks_that_span_a_contiguous_group_carry_the_hint(self) -> None:
        k = boot("arm64", rodata_full=False)
        plug(k, 8 * GiB, 128 * MiB)
        k.port.arch_add_memory(k, 0, 8 * GiB, 128 * MiB)
        va = k.layout.phys_to_virt(8 * GiB)
        found = leaves(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=va, va_end=va + 128 * MiB)
        assert len(found.va) == 64
        assert (found.entry & np.uint64(k.hw.fmt.cont_mask) != 0).all()


class TestFailure:
    """No memory for tables or struct pages."""

    def starve(self, k: Kernel) -> None:
        """Leave no free page."""
        for zone in k.zones():
            for span in list(zone.free):
                k.hw.claim(span, Owner(Use.KERNEL), "test")
                zone.free.remove(*span)

    @pytest.mark.parametrize(
        ("name", "release"), [("riscv64", "linux-6.12"), ("arm64", "linux-6.12"), ("arm64", "linux-7.2")]
    )
    def test_a_machine_without_memory_for_tables_ends_with_the_oom_killer(self, name: Arch, release: str) -> None:
        k = boot(name, profile_name=release)
        plug(k, 16 * GiB, 128 * MiB)
        self.starve(k)
        with pytest.raises(KernelPanic, match="System is deadlocked on memory") as panic:
            k.port.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        assert panic.value.place == "mm/oom_kill.c:out_of_memory"

    @pytest.mark.parametrize(
        ("name", "site"),
        [
            ("riscv64", "arch/riscv/mm/init.c:alloc_pmd_late"),
            ("arm64", "arch/arm64/mm/mmu.c:__pgd_pgtable_alloc"),
            ("x86_64", "arch/x86/mm/init_64.c:kernel_physical_mapping_init"),
        ],
    )
    def test_a_table_of_the_direct_map_that_is_refused_is_a_bug(self, name: Arch, site: str) -> None:
        k = boot(name)
        plug(k, 16 * GiB, 128 * MiB)
        k.hw.faults = Failing(None, 1)
        with pytest.raises(KernelBug) as bug:
            k.port.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        assert bug.value.place == site

    def test_arm64_can_report_it_by_7_2(self) -> None:
        k = boot("arm64", profile_name="linux-7.2")
        plug(k, 16 * GiB, 128 * MiB)
        before = k.hw.memory.owners.copy()
        tables = len(k.hw.memory.arena)
        k.hw.faults = Failing(None, 1)
        with pytest.raises(KernelError, match="ENOMEM"):
            k.port.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        assert heights(k, 16 * GiB, 128 * MiB) == {}
        assert len(k.hw.memory.arena) == tables
        assert before.covered(0, 1 << 40) == k.hw.memory.owners.covered(0, 1 << 40)

    @pytest.mark.parametrize(("name", "stays"), [("riscv64", False), ("arm64", False), ("x86_64", True)])
    def test_the_direct_map_goes_again_when_struct_pages_fail_but_on_x86(self, name: Arch, stays: bool) -> None:
        k = boot(name)
        plug(k, 16 * GiB, 256 * MiB)
        ops = k.port
        ops.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        flushes = k.hw.ledger.copy()
        with pytest.raises(KernelError, match="EEXIST"):
            ops.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        assert bool(heights(k, 16 * GiB, 128 * MiB)) == stays
        if name == "riscv64":
            assert k.hw.ledger.since(flushes).flushes.total() == 2
        warned = [line.text for line in k.hw.log_lines if "add_pages" in line.text]
        assert bool(warned) == stays

    def test_x86_adds_no_struct_pages_for_memory_beyond_what_the_direct_map_can_hold(self) -> None:
        """linux-7.2 arch/x86/mm/init_64.c:add_pages: WARN_ON_ONCE() and ERANGE, behind DIRECT_MAP_PHYSMEM_END only."""
        k = boot("x86_64")
        end = (k.layout.physmem_end + 1) >> 12
        k.hw.plug(Span(end - 0x8000, end), Owner(Use.DEVICE))
        k.port.add_pages(k, 0, end - 0x8000, 0x8000)
        with pytest.raises(KernelError, match="ERANGE"):
            k.port.add_pages(k, 0, end, 0x8000)
        assert [line.text for line in k.hw.log_lines if "add_pages" in line.text] == [
            "WARNING: at arch/x86/mm/init_64.c:add_pages"
        ]

    def test_arm64_maps_what_firmware_had_left_out_of_the_direct_map(self) -> None:
        """linux-6.12 arch/arm64/mm/mmu.c:arch_add_memory: memblock_clear_nomap()."""
        k = boot("arm64")
        plug(k, 16 * GiB, 256 * MiB)
        k.memblock.memblock_add_node(16 * GiB, 256 * MiB, 0)
        k.memblock.memblock_mark_nomap(16 * GiB, 256 * MiB)
        k.port.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
        mapped = [k.memblock.memblock_is_map_memory(16 * GiB + offset) for offset in (0, 128 * MiB - 1, 128 * MiB)]
        assert mapped == [True, True, False]

    @pytest.mark.parametrize("name", ["riscv64", "arm64", "x86_64"])
    def test_code_that_was_discarded_after_boot_cannot_be_called(self, name: Arch) -> None:
        k = boot(name, choices={"page_table_section": "__init"})
        plug(k, 16 * GiB, 128 * MiB)
        with pytest.raises(KernelBug, match="discarded"):
            k.port.arch_add_memory(k, 0, 16 * GiB, 128 * MiB)
