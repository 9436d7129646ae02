"""How many TLB operations a flush comes to and how far it reaches; what hot-remove spends."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import FlushPlan
from memhp.linux.arch.arm64.include.asm import tlbflush as arm64
from memhp.linux.arch.riscv.mm import tlbflush as riscv
from memhp.linux.arch.x86.mm import tlb as x86
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

EARLY = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}
HOT = 16 * GiB


def boot(name: Arch, profile_name: str = "linux-6.12", va_bits: int = 48, **options: Any) -> Kernel:
    config = Config(name, profile(profile_name), options.pop("page_size", 4 * KiB), va_bits, **options).validate()
    k = start_kernel(MachineSpec("small", config, (Ram(EARLY[name], GiB),)))
    shift = k.config.page_shift
    k.hw.plug(Span(HOT >> shift, (HOT + GiB) >> shift), Owner(Use.DEVICE))
    return k


def spent(plan: FlushPlan) -> tuple[str, int, int]:
    return plan.flush.operation, plan.times, plan.pages


class TestRiscv:
    def test_one_hart_flushes_itself_page_by_page_up_to_a_threshold(self) -> None:
        k = boot("riscv64", nr_cpus=1)
        assert spent(riscv.flush_kernel_range(k, 64 * 4 * KiB)) == ("sfence.vma", 64, 64)
        assert spent(riscv.flush_kernel_range(k, 65 * 4 * KiB)) == ("sfence.vma", 1, 0)
        assert spent(riscv.flush_all(k)) == ("sfence.vma", 1, 0)

    def test_several_harts_ask_the_sbi_once(self) -> None:
        k = boot("riscv64")
        assert spent(riscv.flush_kernel_range(k, GiB)) == ("sbi_remote_sfence_vma_asid", 1, GiB // 4096)
        assert spent(riscv.flush_all(k)) == ("sbi_remote_sfence_vma_asid", 1, 0)


class TestX86:
    def test_a_range_is_flushed_page_by_page_up_to_33(self) -> None:
        k = boot("x86_64")
        assert spent(x86.flush_kernel_range(k, 33 * 4 * KiB)) == ("IPI, invlpg", 1, 33)
        assert spent(x86.flush_kernel_range(k, 34 * 4 * KiB)) == ("IPI, __flush_tlb_all", 1, 0)


class TestArm64:
    @pytest.mark.parametrize("page_size", [4 * KiB, 16 * KiB, 64 * KiB])
    def test_more_pages_than_a_table_has_entries_are_flushed_with_everything(self, page_size: int) -> None:
        k = boot("arm64", page_size=page_size)
        entries = page_size // 8
        assert spent(arm64.flush_kernel_range(k, entries * page_size)) == ("tlbi vaale1is", entries, entries)
        assert spent(arm64.flush_kernel_range(k, entries * page_size + 1)) == ("tlbi vmalle1is", 1, 0)

    def test_by_7_2_as_many_are_enough(self) -> None:
        k = boot("arm64", "linux-7.2")
        assert spent(arm64.flush_kernel_range(k, 511 * 4 * KiB)) == ("tlbi vaale1is", 511, 511)
        assert spent(arm64.flush_kernel_range(k, 512 * 4 * KiB)) == ("tlbi vmalle1is", 1, 0)

    @pytest.mark.parametrize(
        ("pages", "operations"), [(1, 1), (2, 1), (3, 2), (64, 1), (65, 2), (66, 2), (64 + 2 + 1, 3), (1 << 21, 1)]
    )
    def test_range_operations_name_even_numbers_of_pages_the_largest_first(self, pages: int, operations: int) -> None:
        k = boot("arm64", "linux-7.2", tlb_range=True)
        assert spent(arm64.flush_kernel_range(k, pages * 4 * KiB)) == ("tlbi rvaale1is", operations, pages)

    def test_more_than_a_range_can_name_is_flushed_with_everything(self) -> None:
        k = boot("arm64", "linux-7.2", tlb_range=True)
        assert spent(arm64.flush_kernel_range(k, ((1 << 21) + 1) * 4 * KiB)) == ("tlbi vmalle1is", 1, 0)

    def test_with_lpa2_ranges_start_at_64_kib(self) -> None:
        k = boot("arm64", "linux-7.2", 52, tlb_range=True)
        assert arm64.flush_kernel_range(k, 64 * 4 * KiB, 0xFFF0_0000_0000_0000).times == 1
        assert arm64.flush_kernel_range(k, (3 + 64) * 4 * KiB, 0xFFF0_0000_0000_D000).times == 3 + 1

    @given(st.integers(1, 1 << 21))
    def test_never_more_operations_than_five_ranges_and_a_page(self, pages: int) -> None:
        assert 1 <= arm64.flush_kernel_range(RANGES, pages * 4 * KiB).times <= 5

    def test_leaf_flushes_leave_table_pointers_and_pgtable_flushes_do_not(self) -> None:
        k = boot("arm64")
        assert arm64.flush_kernel_range(k, 4 * KiB).flush.last_level
        assert not arm64.FLUSH_TLB_KERNEL_PGTABLE.flush.last_level
        assert not arm64.FLUSH_TLB_ALL.last_level


RANGES = boot("arm64", "linux-7.2", tlb_range=True)


def removal(k: Kernel, size: int) -> Counter[tuple[str, str]]:
    """What removing hot-added memory again spends on flushes."""
    ops = k.port
    ops.arch_add_memory(k, 0, HOT, size)
    before = k.hw.ledger.copy()
    ops.arch_remove_memory(k, HOT, size)
    flushes = k.hw.ledger.since(before).flushes
    return Counter({(flush.function, flush.operation): count for flush, count in flushes.items()})


class TestRemoval:
    """256 MiB: two sections, whose struct pages are two PMD leaves with 4K pages, 65536 pages, 128 tables on arm64."""

    def test_riscv_flushes_everything_for_each_section_the_direct_map_and_once_more(self) -> None:
        assert removal(boot("riscv64"), 256 * MiB).total() == 2 + 1 + 1
        assert removal(boot("riscv64", "riscv-hotplug-v1", 57), 256 * MiB).total() == 2 + 1

    def test_x86_flushes_everything_for_each_section_and_the_direct_map(self) -> None:
        assert removal(boot("x86_64"), 256 * MiB).total() == 2 + 1

    def test_x86_flushes_everything_for_each_table_of_base_pages(self) -> None:
        assert removal(boot("x86_64", debug_pagealloc=True), 256 * MiB).total() == 128 + 2 + 1

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            # V5 forgets the two blocks; it flushes all of each PTE table's range
            ("arm64-hotremove-v5", {"vaale1is": 65536, "vaae1is": 128 + 1}),
            # V6 and V7 flush leaf by leaf, all that a leaf maps; 1 GiB is one section there
            ("arm64-hotremove-v6", {"vaale1is": 65536 + 2 * 512, "vaae1is": 128 + 1}),
            ("arm64-hotremove-v7", {"vaale1is": 65536 + 2 * 512, "vaae1is": 128 + 1}),
            ("linux-5.13", {"vaale1is": 65536 + 2, "vaae1is": 128 + 1}),
            ("linux-6.12", {"vaale1is": 2, "vmalle1is": 1, "vaae1is": 128 + 1}),
            ("linux-7.2", {"vaale1is": 2, "vmalle1is": 1, "vaae1is": 128 + 1}),
        ],
    )
    def test_arm64(self, name: str, expected: dict[str, int]) -> None:
        size = 256 * MiB if name.startswith("linux") else GiB
        factor = size // (256 * MiB)
        found: Counter[str] = Counter()
        for (function, operation), count in removal(boot("arm64", name), size).items():
            if function != "clear_fixmap":
                found[operation.removeprefix("tlbi ")] += count
        tables = {"vaae1is": 128 * factor + 1}
        assert (
            found
            == {op: count * factor for op, count in expected.items() if op == "vaale1is"}
            | {op: count for op, count in expected.items() if op == "vmalle1is"}
            | tables
        )

    def test_arm64_flushes_a_fixmap_slot_for_each_table_that_it_fills(self) -> None:
        k = boot("arm64")
        before = k.hw.ledger.copy()
        k.port.arch_add_memory(k, 0, HOT, 256 * MiB)
        assert k.hw.ledger.since(before).flushes == {arm64.CLEAR_FIXMAP.flush: 128 + 1 + 1}


class TestExposure:
    """Which kernels give frames back before the flush that covers them: storage of struct pages and tables."""

    @pytest.mark.parametrize(
        ("name", "profile_name", "exposed"),
        [
            ("riscv64", "linux-6.12", 2 * 512 + 1),
            ("x86_64", "linux-6.12", 2 * 512 + 1),
            ("arm64", "linux-5.13", 0),
            ("arm64", "linux-6.12", 0),
            ("arm64", "linux-7.2", 0),
        ],
    )
    def test_until_the_flush_at_the_end(self, name: Arch, profile_name: str, exposed: int) -> None:
        k = boot(name, profile_name)
        removal(k, 256 * MiB)
        assert k.hw.tlb.exposed_frames == exposed
        assert not k.hw.tlb.exposed and not k.hw.tlb.stale

    def test_v5_never_flushes_the_blocks_of_struct_pages(self) -> None:
        k = boot("arm64", "arm64-hotremove-v5")
        removal(k, GiB)
        assert k.hw.tlb.exposed_set().size == 8 * 512
        later = boot("arm64", "arm64-hotremove-v6")
        removal(later, GiB)
        assert later.hw.tlb.exposed_frames == 0


def test_a_root_entry_of_arm64_is_written_under_its_lock_through_the_fixmap() -> None:
    k = boot("arm64", va_bits=39)
    before = k.hw.ledger.copy()
    k.port.arch_add_memory(k, 0, HOT, 128 * MiB)
    # 64 PTE tables, the PMD table, and the root entry that leads to it
    assert k.hw.ledger.since(before).flushes == {arm64.CLEAR_FIXMAP.flush: 64 + 1 + 1}


def test_so_is_a_root_entry_for_struct_pages() -> None:
    k = boot("arm64")
    assert not k.hw.memory.owners.covered(1 << 36, 1 << 40)
    far = k.layout.direct_mapped().end - 128 * MiB
    k.hw.plug(Span(far >> 12, (far + 128 * MiB) >> 12), Owner(Use.DEVICE))
    span = k.layout.memmap(far >> 12, (far + 128 * MiB) >> 12)
    root = k.hw.load_run(k.init_mm, 0, 512)
    before = k.hw.ledger.copy()
    k.port.vmemmap_populate(k, span.start, span.end, 0, None)
    made = int((k.hw.load_run(k.init_mm, 0, 512) != root).sum())
    assert made == 1
    assert k.hw.ledger.since(before).flushes == {arm64.CLEAR_FIXMAP.flush: made}


def test_flushes_are_choices_that_a_profile_can_be_given() -> None:
    lazy = profile("linux-6.12").choosing("riscv64", {"remove_extra_flush": False, "add_flush": "none"})
    config = Config("riscv64", lazy, 4 * KiB, 48).validate()
    k = start_kernel(MachineSpec("small", config, (Ram(2 * GiB, GiB),)))
    k.hw.plug(Span(HOT >> 12, (HOT + GiB) >> 12), Owner(Use.DEVICE))
    before = k.hw.ledger.copy()
    k.port.arch_add_memory(k, 0, HOT, 128 * MiB)
    assert k.hw.ledger.since(before).flushes.total() == 0
    k.port.arch_remove_memory(k, HOT, 128 * MiB)
    assert k.hw.ledger.since(before).flushes.total() == 2
