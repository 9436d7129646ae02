"""Root tables of processes: which kernel mappings those see that come after them, under each policy."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import pgd
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, TiB
from steppers import Failing

EARLY = {"riscv64": 2 * GiB, "arm64": GiB, "x86_64": MiB}


def boot(name: Arch, va_bits: int = 48, profile_name: str = "linux-6.12", **choices: Any) -> Kernel:
    record = profile(profile_name).choosing(name, choices)
    config = Config(name, record, 4 * KiB, va_bits).validate()
    return start_kernel(MachineSpec("small", config, (Ram(EARLY[name], GiB),)))


def far(k: Kernel) -> int:
    """A physical address whose direct map lies under a root entry that boot memory does not use."""
    return k.layout.phys_offset + max(k.hw.fmt.levels[-1].size, 16 * GiB)


def add(k: Kernel, at: int) -> tuple[int, int]:
    """Hot-add a section: its first address in the direct map and that of its first struct page."""
    k.hw.plug(Span(at >> 12, (at + 128 * MiB) >> 12), Owner(Use.DEVICE))
    k.port.arch_add_memory(k, 0, at, 128 * MiB)
    return k.layout.phys_to_virt(at), k.layout.pfn_to_page(at >> 12)


class TestPolicies:
    """A process is there, then memory is added where no root entry was used before; another process comes after."""

    @pytest.mark.parametrize(
        ("name", "va_bits"),
        [("riscv64", 39), ("riscv64", 48), ("riscv64", 57), ("x86_64", 48), ("arm64", 39), ("arm64", 48)],
    )
    def test_as_they_are_every_process_sees_hot_added_memory(self, name: Arch, va_bits: int) -> None:
        k = boot(name, va_bits)
        ops = k.port
        ops.copy_pgd(k, "early")
        added = add(k, far(k))
        ops.copy_pgd(k, "late")
        for mm in ("early", "late", "init_mm"):
            for va in added:
                assert ops.kernel_access(k, mm, va) == "ok"

    @pytest.mark.parametrize(("name", "va_bits"), [("riscv64", 39), ("riscv64", 48), ("x86_64", 48)])
    def test_with_neither_copies_nor_tables_in_advance_an_older_process_oopses(self, name: Arch, va_bits: int) -> None:
        k = boot(name, va_bits, pgd_policy="none", pgd_preallocated=())
        ops = k.port
        ops.copy_pgd(k, "early")
        va, _ = add(k, far(k))
        ops.copy_pgd(k, "late")
        assert ops.kernel_access(k, "late", va) == "ok"
        with pytest.raises(KernelBug, match="lacks entry"):
            ops.kernel_access(k, "early", va)
        assert f"{va:016x}" in k.hw.log_lines[-1].text

    def test_riscv_could_copy_entries_instead(self) -> None:
        k = boot("riscv64", 48, pgd_policy="sync", pgd_preallocated=())
        k.port.copy_pgd(k, "early")
        for va in add(k, far(k)):
            assert k.port.kernel_access(k, "early", va) == "ok"

    def test_a_fault_in_the_vmalloc_area_could_supply_the_entry(self) -> None:
        k = boot("riscv64", 48, pgd_policy="none", pgd_preallocated=(), vmalloc_fault=True)
        ops = k.port
        ops.copy_pgd(k, "early")
        va = k.layout.vmalloc.start
        table = Table(pgd.alloc_root(k, "x", "test").frame, 2, va)
        k.hw.store(table, 0, k.hw.fmt.leaf_entry(0x80000, 2, 0xE7))
        k.hw.store(k.init_mm, k.hw.fmt.index(va, 3), k.hw.fmt.table_entry(table.frame))
        assert ops.kernel_access(k, "early", va) == "vmalloc_fault fixed"
        assert ops.kernel_access(k, "early", va) == "ok"

    @pytest.mark.parametrize("name", ["riscv64", "arm64", "x86_64"])
    def test_what_nothing_maps_oopses_in_every_process(self, name: Arch) -> None:
        k = boot(name)
        with pytest.raises(KernelBug, match="nothing is mapped there"):
            k.port.kernel_access(k, "init_mm", k.layout.phys_to_virt(16 * GiB))

    def test_arm64_has_one_kernel_half_for_all(self) -> None:
        k = boot("arm64")
        k.port.copy_pgd(k, "process")
        assert k.pgd["process"].frame == k.init_mm.frame


class TestSync:
    def test_each_process_gets_the_entry_once_under_pgd_lock(self) -> None:
        k = boot("x86_64")
        ops = k.port
        for mm in ("a", "b"):
            ops.copy_pgd(k, mm)
        add(k, TiB)
        roots = [k.hw.load_run(k.pgd[mm], 256, 256).tolist() for mm in ("init_mm", "a", "b")]
        assert roots[0] == roots[1] == roots[2]

    def test_another_table_in_a_process_is_a_bug(self) -> None:
        k = boot("x86_64")
        k.port.copy_pgd(k, "a")
        va = k.layout.phys_to_virt(TiB)
        k.hw.store(k.pgd["a"], k.hw.fmt.index(va, 3), k.hw.fmt.table_entry(0x1234))
        with pytest.raises(KernelBug, match="another table"):
            add(k, TiB)

    def test_a_process_copies_the_kernels_half_and_nothing_below(self) -> None:
        k = boot("riscv64")
        k.port.copy_pgd(k, "a")
        assert not k.hw.load_run(k.pgd["a"], 0, 256).any()
        np.testing.assert_array_equal(k.hw.load_run(k.pgd["a"], 256, 256), k.hw.load_run(k.init_mm, 256, 256))


class Exhausted(Failing):
    """Faults by which all allocations after the first few fail."""

    def __init__(self, granted: int) -> None:
        super().__init__(None, granted)

    def fails(self, site: str) -> bool:
        self.left -= 1
        return self.left < 0


class TestVmemmapOfX86:
    """arch/x86/mm/init_64.c:vmemmap_populate, include/linux/pgalloc.h: how root entries of the vmemmap get around."""

    @pytest.mark.parametrize(("release", "reaches"), [("6.12.47", False), ("6.12.48", True), ("6.16", False)])
    def test_a_section_that_fails_is_not_brought_to_others_unless_each_entry_is(
        self, release: str, reaches: bool
    ) -> None:
        k = boot("x86_64", profile_name=release)
        k.port.copy_pgd(k, "early")
        pfn = 0x2000_0000_0000 >> 12
        k.hw.plug(Span(pfn, pfn + (128 * MiB >> 12)), Owner(Use.DEVICE))
        where = k.layout.memmap(pfn, pfn + (128 * MiB >> 12))
        k.hw.faults = Failing("mm/sparse-vmemmap.c:vmemmap_alloc_block", 2)
        with pytest.raises(KernelError, match="ENOMEM"):
            k.port.vmemmap_populate(k, where.start, where.end, 0, None)
        index = k.hw.fmt.index(where.start, k.init_mm.height)
        assert k.hw.load(k.init_mm, index)
        assert bool(k.hw.load(k.pgd["early"], index)) == reaches

    def test_sections_before_the_one_that_fails_have_been(self) -> None:
        k = boot("x86_64", profile_name="6.12.47")
        k.port.copy_pgd(k, "early")
        pfn = 0x2000_0000_0000 >> 12
        k.hw.plug(Span(pfn, pfn + (256 * MiB >> 12)), Owner(Use.DEVICE))
        where = k.layout.memmap(pfn, pfn + (256 * MiB >> 12))
        k.hw.faults = Exhausted(3)
        with pytest.raises(KernelError, match="ENOMEM"):
            k.port.vmemmap_populate(k, where.start, where.end, 0, None)
        assert k.port.kernel_access(k, "early", where.start) == "ok"

    @pytest.mark.parametrize("release", ["5.13", "6.12.47", "6.12.48"])
    def test_a_section_that_is_whole_is_there_for_processes_that_were_before(self, release: str) -> None:
        k = boot("x86_64", profile_name=release)
        k.port.copy_pgd(k, "early")
        pfn = 0x2000_0000_0000 >> 12
        k.hw.plug(Span(pfn, pfn + (128 * MiB >> 12)), Owner(Use.DEVICE))
        where = k.layout.memmap(pfn, pfn + (128 * MiB >> 12))
        k.port.vmemmap_populate(k, where.start, where.end, 0, None)
        assert k.port.kernel_access(k, "early", where.end - 1) == "ok"

    @pytest.mark.parametrize(("release", "sees"), [("6.12.47", False), ("6.12.48", True)])
    def test_struct_pages_of_compound_pages_are_seen_by_older_processes_since_each_entry_is(
        self, release: str, sees: bool
    ) -> None:
        """A 2 GiB device-dax with ``align = "2M"`` far away: vmemmap_populate_compound_pages() synchronises nothing."""
        k = boot("x86_64", profile_name=release)
        k.port.copy_pgd(k, "early")
        at = 0x2000_0000_0000
        k.hw.plug(Span(at >> 12, (at + 2 * GiB) >> 12), Owner(Use.DEVICE))
        memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(at, at + 2 * GiB),), vmemmap_shift=9), 0)
        page = k.layout.pfn_to_page(at >> 12)
        if sees:
            assert k.port.kernel_access(k, "early", page) == "ok"
            return
        with pytest.raises(KernelBug, match="lacks entry"):
            k.port.kernel_access(k, "early", page)

    def test_the_struct_page_that_is_written_at_once_oopses_before_the_section_is_synchronised(self) -> None:
        """vmemmap_use_new_sub_pmd() writes into a leaf that sections share, as with a struct page of 80 bytes."""
        span = Span(0x2000_0000_0000, 0x2000_0800_0000)
        for release, oops in (("6.12.47", True), ("6.12.48", False)):
            record = profile(release)
            config = Config("x86_64", record, 4 * KiB, 48, struct_page_size=80).validate()
            k = start_kernel(MachineSpec("small", config, (Ram(MiB, GiB),)))
            k.port.copy_pgd(k, "early")
            k.hw.plug(Span(span.start >> 12, span.end >> 12), Owner(Use.DEVICE))
            with pytest.raises(KernelBug, match="lacks entry") if oops else nullcontext():
                k.port.arch_add_memory(k, 0, span.start, span.size)


class TestPreallocation:
    @pytest.mark.parametrize(
        ("va_bits", "expected"),
        # vmemmap, vmalloc, the direct map up to where KASAN's shadow would be, modules (which lie across 1 GiB)
        [(39, 4 + 64 + 132 + 2), (48, 4 + 64 + 128 + 1), (57, 4 + 64 + 127 + 1)],
    )
    def test_riscv_keeps_a_table_for_every_root_entry_of_its_areas(self, va_bits: int, expected: int) -> None:
        k = boot("riscv64", va_bits)
        assert int(np.count_nonzero(k.hw.load_run(k.init_mm, 0, 512))) == expected

    @pytest.mark.parametrize(("va_bits", "areas"), [(48, 32 * TiB), (57, 12800 * TiB)])
    def test_x86_does_so_for_vmalloc(self, va_bits: int, areas: int) -> None:
        k = boot("x86_64", va_bits)
        entries = pgd.root_entries(k, k.layout.vmalloc.span)
        assert entries.size == areas // k.hw.fmt.levels[-1].size
        assert k.hw.load_run(k.init_mm, entries.start, entries.size).all()

    @pytest.mark.parametrize(
        ("name", "va_bits", "text"),
        [
            ("riscv64", 39, "Failed to pre-allocate pmd pages for vmalloc area"),
            ("riscv64", 57, "Failed to pre-allocate p4d pages for vmalloc area"),
            ("x86_64", 48, "Failed to pre-allocate pud pages for vmalloc area"),
        ],
    )
    def test_failing_to_is_a_panic(self, name: Arch, va_bits: int, text: str) -> None:
        k = boot(name, va_bits, pgd_preallocated=())
        starve(k)
        areas = k.config.profile.choosing(name, {"pgd_preallocated": ("vmalloc",)})
        k.config = replace(k.config, profile=areas)
        with pytest.raises(KernelPanic, match=text):
            k.port.mem_init(k)

    def test_frames_that_come_a_few_at_a_time_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        k = boot("riscv64", 48, pgd_preallocated=())
        few = alloc_tables
        monkeypatch.setattr(pgd, "alloc_tables", lambda k, height, count, where: few(k, height, min(count, 3), where))
        pgd.preallocate_pgd_pages_range(k, k.layout.vmalloc, k.hw.fmt.table_bits, "test")
        entries = k.hw.load_run(k.init_mm, *root_entries(k, "vmalloc"))
        assert len(entries) == len(set(entries.tolist())) == 64 and entries.all()

    @pytest.mark.parametrize("name", ["riscv64", "x86_64"])
    def test_entries_that_have_a_table_keep_it_wherever_they_lie(self, name: Arch) -> None:
        k = boot(name, 48, pgd_preallocated=())
        first, count = root_entries(k, "vmalloc")
        for place in (first + 3, first + 5):
            k.hw.store(k.init_mm, place, k.hw.fmt.table_entry(0x1234 + place))
        pgd.preallocate_pgd_pages_range(k, k.layout.vmalloc, k.hw.fmt.table_bits, "test")
        tables = k.hw.fmt.table_pfn(k.hw.load_run(k.init_mm, first, count)).tolist()
        assert (tables[3], tables[5]) == (0x1234 + first + 3, 0x1234 + first + 5)
        assert len(set(tables)) == count and all(tables)

    @pytest.mark.parametrize("name", ["riscv64", "x86_64"])
    def test_a_process_without_a_root_table_is_not_made(self, name: Arch) -> None:
        k = boot(name)
        starve(k)
        with pytest.raises(KernelError, match="ENOMEM"):
            k.port.copy_pgd(k, "a")
        assert "a" not in k.pgd


def root_entries(k: Kernel, area: str) -> tuple[int, int]:
    """The first root entry of an area of the layout, and how many there are."""
    span = pgd.root_entries(k, getattr(k.layout, area).span)
    return span.start, span.size


def starve(k: Kernel) -> None:
    """Leave no free page."""
    for zone in k.zones():
        for span in list(zone.free):
            k.hw.claim(span, Owner(Use.KERNEL), "test")
            zone.free.remove(*span)
