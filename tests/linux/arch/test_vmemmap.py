"""Struct pages of each architecture: leaves, storage that goes back, tables that stay, leaves that sections share."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from typing import Any

import pytest

from memhp.hw.memory import Owner, Use
from memhp.hw.walker import leaves, tables
from memhp.linux.arch.x86.mm.vmemmap_sub_pmd import (
    SharedLeaves,
    vmemmap_flush_unused_pmd,
    vmemmap_pmd_is_unused,
    vmemmap_use_new_sub_pmds,
    vmemmap_use_sub_pmd,
)
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.pgalloc import by_reserved
from memhp.linux.mmzone import PageFlags
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import GiB, KiB, MiB, align_up

EARLY = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}
HOT = 16 * GiB


def boot(name: Arch, profile_name: str = "linux-6.12", va_bits: int = 48, **options: Any) -> Kernel:
    config = Config(name, profile(profile_name), options.pop("page_size", 4 * KiB), va_bits, **options).validate()
    k = start_kernel(MachineSpec("small", config, (Ram(EARLY[name], GiB),)))
    shift = k.config.page_shift
    k.hw.plug(Span(HOT >> shift, (HOT + 2 * GiB) >> shift), Owner(Use.DEVICE))
    return k


def memmap(k: Kernel, start: int, size: int) -> Span:
    shift = k.config.page_shift
    return k.layout.memmap(start >> shift, (start + size) >> shift)


def heights(k: Kernel, span: Span) -> Counter[int]:
    found = leaves(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=span.start, va_end=span.end)
    return Counter(found.height.tolist())


class TestLeaves:
    """A section of 128 MiB."""

    @pytest.mark.parametrize(
        ("name", "profile_name", "page_size", "expected"),
        [
            ("riscv64", "linux-6.12", 4 * KiB, {1: 1}),
            ("riscv64", "riscv-hotplug-v1", 4 * KiB, {0: 512}),
            ("x86_64", "linux-7.2", 4 * KiB, {1: 1}),
            ("arm64", "linux-6.12", 4 * KiB, {1: 1}),
            ("arm64", "linux-6.12", 16 * KiB, {0: 32}),
        ],
    )
    def test_a_whole_one(self, name: Arch, profile_name: str, page_size: int, expected: dict[int, int]) -> None:
        k = boot(name, profile_name, page_size=page_size)
        k.port.arch_add_memory(k, 0, HOT, 128 * MiB)
        assert heights(k, memmap(k, HOT, 128 * MiB)) == expected

    @pytest.mark.parametrize(("name", "expected"), [("riscv64", {1: 1}), ("arm64", {0: 8}), ("x86_64", {0: 8})])
    def test_two_mebibytes_of_one(self, name: Arch, expected: dict[int, int]) -> None:
        k = boot(name)
        k.port.arch_add_memory(k, 0, HOT, 2 * MiB)
        assert heights(k, memmap(k, HOT, 128 * MiB)) == expected

    def test_base_pages_fill_what_is_missing_between_those_that_are_there(self) -> None:
        """With 16K pages a table has the struct pages of 8 GiB: of the second of four some are there."""
        k = boot("arm64", va_bits=47, page_size=16 * KiB)
        start = align_up(memmap(k, HOT, GiB).start, k.config.pmd_size)
        whole, there = Span(start, start + 4 * k.config.pmd_size), start + k.config.pmd_size + MiB
        k.port.vmemmap_populate(k, there, there + MiB, 0, None)
        k.port.vmemmap_populate(k, whole.start, whole.end, 0, None)
        assert heights(k, whole) == {0: whole.size // (16 * KiB)}

    def test_riscv_takes_the_whole_leaf_away_with_part_of_it(self) -> None:
        k = boot("riscv64")
        whole = memmap(k, HOT, 128 * MiB)
        k.port.vmemmap_populate(k, whole.start, whole.end, 0, None)
        part = memmap(k, HOT, 2 * MiB)
        k.port.vmemmap_free(k, part.start, part.end, None)
        assert heights(k, whole) == {}

    @pytest.mark.parametrize(("profile_name", "found"), [("linux-6.12", 8), ("linux-7.2", 16)])
    def test_what_is_populated_beside_base_pages(self, profile_name: str, found: int) -> None:
        """riscv 6.12 takes a table, whatever is in it, for struct pages that are there."""
        k = boot("riscv64", profile_name)
        first, second = memmap(k, HOT, 2 * MiB), memmap(k, HOT + 2 * MiB, 2 * MiB)
        take_large_chunks(k)
        k.port.vmemmap_populate(k, first.start, first.end, 0, None)
        k.port.vmemmap_populate(k, second.start, second.end, 0, None)
        assert heights(k, memmap(k, HOT, 128 * MiB)) == {0: found}


def take_large_chunks(k: Kernel) -> None:
    """Leave no free chunk of 2 MiB."""
    for zone in k.zones():
        for span in list(zone.free):
            for start in range(span.start, span.end, 256):
                part = Span(start, min(start + 1, span.end))
                k.hw.claim(part, Owner(Use.KERNEL), "test")
                zone.free.remove(*part)


@pytest.mark.parametrize("name", ["riscv64", "arm64", "x86_64"])
class TestStorage:
    def test_it_goes_back_to_the_buddy(self, name: Arch) -> None:
        k = boot(name)
        free = k.hw.memory.used(Use.FREE)
        k.port.arch_add_memory(k, 0, HOT, 256 * MiB)
        assert k.hw.memory.used(Use.FREE) <= free - 2 * 512
        k.port.arch_remove_memory(k, HOT, 256 * MiB)
        kept = k.hw.ledger.tables_allocated.total() - k.hw.ledger.tables_freed.total()
        kept_before = len(k.hw.memory.arena) - 1 - kept
        assert k.hw.memory.used(Use.FREE) == free - kept_before == free

    def test_of_an_altmap_only_its_account_changes(self, name: Arch) -> None:
        k = boot(name)
        free = k.hw.memory.used(Use.FREE)
        altmap = VmemAltmap(base_pfn=HOT >> 12, end_pfn=((HOT + GiB) >> 12) - 1, free=4096)
        k.port.arch_add_memory(k, 0, HOT, 256 * MiB, altmap)
        assert altmap.alloc == 2 * 512
        assert k.hw.memory.used(Use.MEMMAP, HOT >> 12) == 2 * 512
        k.port.arch_remove_memory(k, HOT, 256 * MiB, altmap)
        assert altmap.alloc == 0
        assert k.hw.memory.used(Use.MEMMAP, HOT >> 12) == 0
        assert k.hw.memory.used(Use.FREE) == free


class TestEmptyTables:
    """Which emptied tables of struct pages stay: what the revisions of the arm64 series differ in."""

    @pytest.mark.parametrize(
        ("name", "va_bits", "stay"),
        [
            ("arm64-hotremove-v5", 48, 0),
            ("arm64-hotremove-v6", 48, 8),
            ("arm64-hotremove-v7", 48, 8),
            ("arm64-hotremove-v6", 39, 8),
            ("arm64-hotremove-v7", 39, 0),
            ("linux-5.13", 48, 0),
            ("linux-6.12", 48, 0),
        ],
    )
    def test_base_pages_of_a_gib_with_4k_pages(self, name: str, va_bits: int, stay: int) -> None:
        k = boot("arm64", name, va_bits)
        take_large_chunks(k)
        span = memmap(k, HOT, GiB)
        before = table_set(k, span)
        if k.config.choices.vmemmap_fallback == "none":
            populate_base_pages(k, span)
        else:
            k.port.vmemmap_populate(k, span.start, span.end, 0, None)
        assert len(table_set(k, span) - before) == 8
        k.port.vmemmap_free(k, span.start, span.end, None)
        left = table_set(k, span) - before
        assert len(left) == stay
        assert all(empty for _, _, empty in left)


def populate_base_pages(k: Kernel, span: Span) -> None:
    """Struct pages in base pages, in a kernel that would make blocks or none."""
    from memhp.linux.arch.arm64.include.asm.pgtable_prot import page_kernel, table_bits
    from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder, vmemmap_populate_basepages

    how = VmemmapBuilder(page_kernel(k.config), 0, table_bits(k.config), lambda *_: False)
    vmemmap_populate_basepages(k, span.start, span.end, 0, None, how)


def table_set(k: Kernel, span: Span) -> set[tuple[int, int, bool]]:
    """The tables that translate a range: (height, first address, empty)."""
    found = tables(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=span.start, va_end=span.end)
    return set(zip(found.height.tolist(), found.va.tolist(), found.empty.tolist(), strict=True))


def unmarked() -> Kernel:
    """A kernel whose boot memory has left no part of a leaf unused."""
    k = boot("x86_64", struct_page_size=80)
    own = k.statics(SharedLeaves)
    own.unused, own.unused_pmd_start = SpanSet(), 0
    return k


def test_frames_are_parted_by_whether_boot_reserved_them() -> None:
    """free_vmemmap_storage(), free_pagetable(): reserved frames go by free_reserved_page(), the others to the buddy."""
    k = boot("x86_64")
    at = HOT >> 12
    k.page_flags.set(at + 3, at + 5, PageFlags.RESERVED)
    k.page_flags.set(at + 6, at + 7, PageFlags.OFFLINE)
    parts = [(span.start - at, span.end - at, reserved) for span, reserved in by_reserved(k, Span(at, at + 10))]
    assert parts == [(0, 3, False), (3, 5, True), (5, 10, False)]


class TestSharedLeaves:
    """x86: sections whose struct pages share a PMD leaf, as with a struct page of 80 bytes."""

    def test_a_leaf_goes_with_the_last_section_in_it(self) -> None:
        k = boot("x86_64", struct_page_size=80)
        sections = [memmap(k, HOT + n * 128 * MiB, 128 * MiB) for n in range(4)]
        whole = Span(sections[0].start, sections[-1].end)
        assert whole.size == 5 * 2 * MiB
        for part in sections:
            k.port.vmemmap_populate(k, part.start, part.end, 0, None)
        assert heights(k, whole) == {1: 5}
        left = []
        for i in (1, 0, 3, 2):
            k.port.vmemmap_free(k, sections[i].start, sections[i].end, None)
            left.append(heights(k, whole)[1])
        assert left == [5, 3, 2, 0]

    def test_in_one_go_they_go_as_one_by_one(self) -> None:
        one, all_at_once = (boot("x86_64", struct_page_size=80) for _ in range(2))
        put_off = one.statics(SharedLeaves).unused_pmd_start
        marked = [Span(put_off, align_up(put_off, 2 * MiB))]
        sections = [memmap(one, HOT + n * 128 * MiB, 128 * MiB) for n in range(4)]
        for part in sections:
            one.port.vmemmap_populate(one, part.start, part.end, 0, None)
        all_at_once.port.vmemmap_populate(all_at_once, sections[0].start, sections[-1].end, 0, None)
        assert one.hw.ledger == all_at_once.hw.ledger
        for part in sections:
            one.port.vmemmap_free(one, part.start, part.end, None)
        all_at_once.port.vmemmap_free(all_at_once, sections[0].start, sections[-1].end, None)
        assert one.hw.ledger == all_at_once.hw.ledger
        for k in (one, all_at_once):
            vmemmap_flush_unused_pmd(k)
            assert list(k.statics(SharedLeaves).unused) == marked

    def test_marks(self) -> None:
        k = unmarked()
        base, half = 0xFFFF_EA10_0000_0000, MiB
        vmemmap_use_new_sub_pmds(k, Span(base, base + half))
        assert k.statics(SharedLeaves).unused_pmd_start == base + half and not k.statics(SharedLeaves).unused
        vmemmap_use_sub_pmd(k, Span(base + half, base + 2 * half))
        assert k.statics(SharedLeaves).unused_pmd_start == 0
        assert not vmemmap_pmd_is_unused(k, Span(base, base + half))
        vmemmap_use_sub_pmd(k, Span(base, base + half))
        assert list(k.statics(SharedLeaves).unused) == [Span(base + 80, base + half)]
        assert not vmemmap_pmd_is_unused(k, Span(base + half, base + 2 * half))
        assert vmemmap_pmd_is_unused(k, Span(base, base + half))
        assert not k.statics(SharedLeaves).unused

    def test_a_part_that_does_not_follow_the_last_one_is_in_use_though_what_is_before_it_goes(self) -> None:
        """vmemmap_use_sub_pmd(): the mark behind the last part is made first, so that it spares what comes now."""
        k = unmarked()
        base, part = 0xFFFF_EA10_0000_0000, MiB // 2
        vmemmap_use_new_sub_pmds(k, Span(base, base + part))
        vmemmap_use_sub_pmd(k, Span(base + 2 * part, base + 3 * part))
        assert not vmemmap_pmd_is_unused(k, Span(base, base + part))
        assert vmemmap_pmd_is_unused(k, Span(base + 2 * part, base + 3 * part))

    def test_a_mark_that_was_put_off_is_made_before_another_leaf_is_begun(self) -> None:
        k = unmarked()
        base = 0xFFFF_EA10_0000_0000
        vmemmap_use_new_sub_pmds(k, Span(base, base + MiB))
        vmemmap_use_new_sub_pmds(k, Span(base + 5 * MiB, base + 6 * MiB))
        own = k.statics(SharedLeaves)
        assert list(own.unused) == [Span(base + MiB, base + 2 * MiB), Span(base + 4 * MiB, base + 5 * MiB)]
        assert own.unused_pmd_start == 0

    def test_without_pse_an_altmap_cannot_be_used(self) -> None:
        k = boot("x86_64", pse=False)
        altmap = VmemAltmap(base_pfn=HOT >> 12, end_pfn=((HOT + GiB) >> 12) - 1, free=4096)
        span = memmap(k, HOT, 128 * MiB)
        with pytest.raises(Exception, match="ENOMEM"):
            k.port.vmemmap_populate(k, span.start, span.end, 0, altmap)
        assert k.hw.log_lines[-1].text == "vmemmap_populate: no cpu support for altmap allocations"
        k.port.vmemmap_populate(k, span.start, span.end, 0, None)
        assert heights(k, span) == {0: 512}
