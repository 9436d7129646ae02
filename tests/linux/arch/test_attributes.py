"""The bits of the kernels' entries, spelt out by the manuals' field names for each kernel."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from kernels import kernel
from memhp.linux.arch.arm64.include.asm.pgtable_prot import page_kernel, page_kernel_ram, table_bits, vmemmap_block
from memhp.linux.arch.riscv.include.asm import pgtable_bits
from memhp.linux.arch.x86.include.asm import pgtable_types
from memhp.linux.config import Config
from memhp.linux.profiles import profile
from memhp.units import KiB


def fields(config: Config, bits: int) -> dict[str, int]:
    """The fields that are not zero."""
    return {name: value for name, value in config.format.decode(bits).items() if value}


def arm64(name: str, va_bits: int = 48, **options: Any) -> Config:
    return Config("arm64", profile(name), 4 * KiB, va_bits, **options).validate()


def test_riscv_kernel_leaves_are_global_and_always_accessed_and_dirty() -> None:
    config = Config("riscv64", profile("linux-6.12"), 4 * KiB, 57)
    assert fields(config, pgtable_bits.PAGE_KERNEL) == {"V": 1, "R": 1, "W": 1, "G": 1, "A": 1, "D": 1}
    assert config.format.table_bits == pgtable_bits.PAGE_TABLE


def test_x86_kernel_leaves_are_global_and_not_executable() -> None:
    config = Config("x86_64", profile("linux-6.12"), 4 * KiB, 57)
    assert fields(config, pgtable_types.PAGE_KERNEL) == {"P": 1, "RW": 1, "A": 1, "D": 1, "G": 1, "XD": 1}
    assert config.format.table_bits == pgtable_types.PAGE_TABLE


NORMAL = {"SH": 3, "AF": 1, "PXN": 1, "UXN": 1, "DBM": 1}


@pytest.mark.parametrize(
    ("name", "page", "ram", "block"),
    [
        (
            "arm64-hotremove-v5",
            {**NORMAL, "AttrIndx": 4, "SW": 1},
            {**NORMAL, "AttrIndx": 4, "SW": 1},
            {"SH": 3, "AF": 1, "PXN": 1, "UXN": 1, "AttrIndx": 4},
        ),
        ("linux-5.13", NORMAL, {**NORMAL, "AttrIndx": 1}, {"SH": 3, "AF": 1, "PXN": 1, "UXN": 1}),
        ("linux-6.12", {**NORMAL, "SW": 1}, {**NORMAL, "AttrIndx": 1, "SW": 1}, NORMAL),
        ("linux-7.2", {**NORMAL, "SW": 1}, {**NORMAL, "AttrIndx": 1, "SW": 1}, {**NORMAL, "SW": 1}),
    ],
)
def test_arm64_struct_pages_are_normal_and_ram_normal_tagged(
    name: str, page: dict[str, int], ram: dict[str, int], block: dict[str, int]
) -> None:
    config = arm64(name)
    assert fields(config, page_kernel(config)) == page
    assert fields(config, page_kernel_ram(config)) == ram
    assert fields(config, vmemmap_block(config)) == block


def test_arm64_has_no_shareability_where_lpa2_puts_address_bits() -> None:
    wide, narrow = arm64("linux-6.12", 52), arm64("linux-6.12", 52, lva=False)
    assert page_kernel(narrow) - page_kernel(wide) == 3 << 8
    assert arm64("linux-6.12", 48).format == narrow.format


@pytest.mark.parametrize(
    ("name", "ram", "struct_pages"),
    [
        ("arm64-hotremove-v7", 0x3, 0x3),
        ("linux-5.13", 0x1800_0000_0000_0003, 0x1000_0000_0000_0003),
        ("linux-6.12", 0x1800_0000_0000_0003, 0x1000_0000_0000_0003),
        ("linux-7.2", 0x1800_0000_0000_0403, 0x1000_0000_0000_0403),
    ],
)
def test_arm64_tables_forbid_execution_for_all_below_them(name: str, ram: int, struct_pages: int) -> None:
    config = arm64(name)
    assert table_bits(config, of="direct map") == ram
    assert table_bits(config) == struct_pages


@pytest.mark.parametrize(
    ("name", "page_size", "va_bits", "bits"),
    [
        # Shared with the image, whose table map_range() made without the access flag.
        ("linux-7.2", 16 * KiB, 52, 0x1000_0000_0000_0003),
        ("linux-7.2", 4 * KiB, 52, 0x1000_0000_0000_0003),
        # Shared with the fixmap, whose table early_fixmap_init() made without UXNTable.
        ("linux-7.2", 64 * KiB, 52, 0x0000_0000_0000_0403),
        ("linux-6.12", 64 * KiB, 52, 0x0000_0000_0000_0003),
        # The vmemmap's own.
        ("linux-7.2", 4 * KiB, 48, 0x1000_0000_0000_0403),
        ("linux-6.12", 16 * KiB, 52, 0x1000_0000_0000_0003),
    ],
)
def test_the_root_entry_of_struct_pages_is_that_of_who_came_first(
    name: str, page_size: int, va_bits: int, bits: int
) -> None:
    """Guests of 7.2 with 16K pages have …003, with 64K pages 0x403."""
    k = kernel("arm64", name, page_size=page_size, va_bits=va_bits)
    va = k.layout.pfn_to_page(next(iter(k.boot_memory)).start)
    entry = k.hw.load(k.init_mm, k.hw.fmt.index(va, k.init_mm.height))
    assert entry & ~k.hw.fmt.pfn_mask == bits
