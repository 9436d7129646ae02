"""Page-table formats, held against the manuals' figures worked out by hand."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import BadInput
from memhp.hw.format import Format
from memhp.linux.formats import FORMATS, format_for
from memhp.units import GiB, KiB, MiB

formats = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
any_format = st.sampled_from(list(FORMATS.values()))


def pfns(fmt: Format) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << (fmt.pa_bits - fmt.page_shift)) - 1)


@formats
def test_levels_and_page_offset_make_up_the_virtual_address(fmt: Format) -> None:
    bits = fmt.page_shift
    for level in fmt.levels:
        assert level.shift == bits
        bits += level.entries.bit_length() - 1
    assert bits == fmt.va_bits
    assert all(level.entries * 8 == fmt.page_size for level in fmt.levels[:-1])


@formats
def test_fields_do_not_overlap_and_cover_the_frame_number(fmt: Format) -> None:
    seen = 0
    for field in fmt.fields:
        if field.name not in {"PAT_LARGE", "HG"}:
            assert not seen & field.mask, field
            seen |= field.mask
    assert fmt.pfn_mask & ~seen == 0
    assert sum(piece.width for piece in fmt.pfn_pieces) == fmt.pa_bits - fmt.page_shift


@pytest.mark.parametrize(
    ("page_size", "va_bits", "ptrs_per_pgd", "levels"),
    [
        (4 * KiB, 39, 512, 3),
        (4 * KiB, 48, 512, 4),
        (4 * KiB, 52, 16, 5),
        (16 * KiB, 36, 2048, 2),
        (16 * KiB, 47, 2048, 3),
        (16 * KiB, 48, 2, 4),
        (16 * KiB, 52, 32, 4),
        (64 * KiB, 42, 8192, 2),
        (64 * KiB, 48, 64, 3),
        (64 * KiB, 52, 1024, 3),
    ],
)
def test_arm64_root_tables_have_the_kernels_ptrs_per_pgd(
    page_size: int, va_bits: int, ptrs_per_pgd: int, levels: int
) -> None:
    fmt = format_for("arm64", page_size, va_bits)
    assert fmt.levels[-1].entries == ptrs_per_pgd
    assert len(fmt.levels) == levels


@pytest.mark.parametrize(
    ("page_size", "va_bits", "cont_pte", "cont_pmd"),
    [(4 * KiB, 48, 64 * KiB, 32 * MiB), (16 * KiB, 48, 2 * MiB, GiB), (64 * KiB, 48, 2 * MiB, 16 * GiB)],
)
def test_arm64_contiguous_hint_joins_the_runs_that_the_manual_lists(
    page_size: int, va_bits: int, cont_pte: int, cont_pmd: int
) -> None:
    fmt = format_for("arm64", page_size, va_bits)
    assert [level.size * level.cont for level in fmt.levels[:2]] == [cont_pte, cont_pmd]
    assert all(level.cont == 1 for level in fmt.levels[2:])


@pytest.mark.parametrize(
    ("arch", "page_size", "va_bits", "sizes"),
    [
        ("riscv64", 4 * KiB, 39, [4 * KiB, 2 * MiB, GiB]),
        ("riscv64", 4 * KiB, 48, [4 * KiB, 2 * MiB, GiB, 512 * GiB]),
        ("riscv64", 4 * KiB, 57, [4 * KiB, 2 * MiB, GiB, 512 * GiB, 256 * 1024 * GiB]),
        ("arm64", 4 * KiB, 48, [4 * KiB, 2 * MiB, GiB]),
        ("arm64", 16 * KiB, 47, [16 * KiB, 32 * MiB]),
        ("arm64", 64 * KiB, 52, [64 * KiB, 512 * MiB]),
        ("x86_64", 4 * KiB, 48, [4 * KiB, 2 * MiB, GiB]),
        ("x86_64", 4 * KiB, 57, [4 * KiB, 2 * MiB, GiB]),
    ],
)
def test_leaf_sizes(arch: str, page_size: int, va_bits: int, sizes: list[int]) -> None:
    fmt = format_for(arch, page_size, va_bits)
    assert [level.size for level in fmt.levels if level.leaf] == sizes


@pytest.mark.parametrize(
    ("fmt", "pa", "bits"),
    [
        # 64K LPA: PA[47:16] at [47:16], PA[51:48] at [15:12]
        (format_for("arm64", 64 * KiB, 52), 0xA_1234_5678_0000, 0x1234_5678_A000),
        # LPA2: PA[49:12] in place, PA[51:50] at [9:8]
        (format_for("arm64", 4 * KiB, 52), 0xE_1234_5678_9000, 0x2_1234_5678_9300),
        (format_for("arm64", 16 * KiB, 52), 0x7_1234_5678_C000, 0x3_1234_5678_C100),
        (format_for("arm64", 4 * KiB, 48), 0x1234_5678_9000, 0x1234_5678_9000),
        (format_for("riscv64", 4 * KiB, 48), 0xAB_1234_5678_9000, 0xAB_1234_5678_9000 >> 2),
        (format_for("x86_64", 4 * KiB, 57), 0xA_1234_5678_9000, 0xA_1234_5678_9000),
    ],
)
def test_physical_addresses_lie_where_the_manual_puts_them(fmt: Format, pa: int, bits: int) -> None:
    assert fmt.encode_pfn(pa >> fmt.page_shift) == bits
    assert fmt.table_pfn(bits) == pa >> fmt.page_shift


@given(data=st.data(), fmt=any_format)
def test_a_leaf_gives_back_its_frame_and_attributes(data: st.DataObject, fmt: Format) -> None:
    height = data.draw(st.sampled_from([h for h, level in enumerate(fmt.levels) if level.leaf]))
    pfn = data.draw(pfns(fmt)) & ~(fmt.pages_at(height) - 1)
    fields = {
        "riscv64": {"R": 1, "A": 1},
        "arm64": {"AF": 1, "UXN": 1},
        "x86_64": {"RW": 1, "XD": 1},
        "loongarch64": {"P": 1, "NX": 1},
    }[fmt.arch]
    prot = fmt.bits(**fields) if fmt.arch == "riscv64" or data.draw(st.booleans()) else 0
    entry = fmt.leaf_entry(pfn, height, prot)
    assert fmt.is_leaf(entry, height)
    assert not fmt.is_table(entry, height)
    assert fmt.leaf_pfn(entry, height) == pfn
    assert fmt.attributes(entry, height) == prot | fmt.leaf_bits[height]
    array = np.array([entry, 0], dtype=np.uint64)
    assert fmt.leaf_pfn(array, height).tolist() == [pfn, 0]
    assert np.asarray(fmt.is_leaf(array, height)).tolist() == [True, False]


@given(data=st.data(), fmt=any_format)
def test_a_table_entry_gives_back_its_frame(data: st.DataObject, fmt: Format) -> None:
    height = data.draw(st.integers(1, fmt.root_height))
    pfn = data.draw(pfns(fmt))
    entry = fmt.table_entry(pfn)
    assert fmt.is_table(entry, height)
    assert not fmt.is_leaf(entry, height)
    assert fmt.table_pfn(entry) == pfn
    assert fmt.table_entry(np.array([pfn], dtype=np.uint64)).tolist() == [entry]


@given(data=st.data(), fmt=any_format)
def test_fields_are_named_and_put_together_again(data: st.DataObject, fmt: Format) -> None:
    entry = data.draw(st.integers(0, (1 << 64) - 1)) & sum(
        {1 << b for f in fmt.fields for b in range(64) if f.mask >> b & 1}
    )
    decoded = fmt.decode(entry)
    assert fmt.bits(**decoded) == entry


@given(data=st.data(), fmt=any_format, entry=st.integers(0, (1 << 64) - 1))
def test_scalars_and_arrays_agree_on_any_word(data: st.DataObject, fmt: Format, entry: int) -> None:
    height = data.draw(st.integers(0, fmt.root_height))
    words = np.array([entry], dtype=np.uint64)
    va = data.draw(st.integers(0, (1 << 64) - 1))
    vas = np.array([va], dtype=np.uint64)
    for question in (fmt.is_leaf, fmt.is_table, fmt.is_reserved, fmt.leaf_pfn, fmt.attributes):
        assert np.asarray(question(words, height)).tolist() == [question(entry, height)], question.__name__
    assert fmt.leaf_pa(words, height, vas).tolist() == [fmt.leaf_pa(entry, height, va)]
    assert fmt.canonical(vas).tolist() == [fmt.canonical(va)]
    kinds = [fmt.is_leaf(entry, height), fmt.is_table(entry, height), fmt.is_reserved(entry, height)]
    assert sum(map(bool, kinds)) <= 1
    assert any(kinds) <= bool(fmt.is_valid(entry, height))


def test_canonical_addresses() -> None:
    sv39, x5 = format_for("riscv64", 4 * KiB, 39), format_for("x86_64", 4 * KiB, 57)
    arm = format_for("arm64", 4 * KiB, 52)
    assert sv39.canonical(0x40_0000_0000) == 0xFFFF_FFC0_0000_0000
    assert sv39.canonical(0x3F_FFFF_FFFF) == 0x3F_FFFF_FFFF
    assert not sv39.is_canonical(0x40_0000_0000)
    assert x5.is_canonical(0xFF11_0000_0000_0000)
    assert not x5.is_canonical(0x8000_0000_0000_0000)
    assert arm.canonical(0) == 0xFFF0_0000_0000_0000, "TTBR1 serves the top of the address space only"
    assert not arm.is_canonical(0x1000)


@pytest.mark.parametrize(
    ("fmt", "height", "entry", "why"),
    [
        ("riscv64-sv48", 0, 0b00101, "W=1 with R=0"),
        ("riscv64-sv48", 1, 0b01101, "W=1 with R=0"),
        ("riscv64-sv48", 0, 0b00001, "a pointer at level 0"),
        ("riscv64-sv48", 1, 0b1000_0001, "D of a pointer"),
        ("riscv64-sv48", 1, 1 << 10 | 0b0011, "a 2 MiB leaf at 4 KiB alignment"),
        ("riscv64-sv48", 2, 1 << 19 | 0b1001, "a 1 GiB leaf at 2 MiB alignment"),
        ("riscv64-sv48", 0, 3 << 61 | 0b0011, "PBMT=3"),
        ("riscv64-sv48", 0, 1 << 54 | 0b0011, "bit 54"),
        ("riscv64-sv48", 0, 1 << 63 | 0b0100 << 10 | 0b0011, "N=1 with ppn[3:0]=0100"),
        ("riscv64-sv48", 0, 1 << 63 | 0b1100 << 10 | 0b0011, "N=1 with ppn[3:0]=1100"),
        ("riscv64-sv48", 1, 1 << 63 | 0b0011, "N=1 in a superpage"),
        ("arm64-4k-va48-pa48", 0, 0b01, "type 0 at level 3"),
        ("arm64-4k-va48-pa48", 3, 0b01, "a block at level 0"),
        ("arm64-16k-va47-pa48", 2, 0b01, "a block at level 1 with 16K pages"),
        ("arm64-64k-va52-pa52", 2, 0b01, "a block at level 1 with 64K pages"),
        ("x86_64-5level", 4, 0b1000_0001, "PS in a PML5E"),
        ("x86_64-4level", 3, 0b1000_0001, "PS in a PML4E"),
        ("x86_64-4level", 1, 1 << 13 | 0b1000_0001, "a 2 MiB page at bit 13"),
        ("x86_64-4level", 2, 1 << 29 | 0b1000_0001, "a 1 GiB page at bit 29"),
    ],
)
def test_reserved_encodings_map_nothing(fmt: str, height: int, entry: int, why: str) -> None:
    of = FORMATS[fmt]
    assert of.is_valid(entry, height)
    assert of.is_reserved(entry, height), why
    assert not of.is_leaf(entry, height)
    assert not of.is_table(entry, height)


def test_non_zero_words_without_the_valid_bit_map_nothing() -> None:
    for name, word in (("x86_64-4level", 0x1E2), ("arm64-4k-va48-pa48", 0xF02), ("riscv64-sv39", 0x2E)):
        for height in range(3):
            assert not FORMATS[name].is_leaf(word, height)
            assert not FORMATS[name].is_table(word, height)
            assert not FORMATS[name].is_reserved(word, height)


def test_x86_pat_of_a_large_page_is_no_part_of_its_address() -> None:
    fmt = FORMATS["x86_64-4level"]
    entry = 0x4000_0000 | fmt.bits(P=1, PS=1, PAT_LARGE=1)
    assert fmt.leaf_pfn(entry, 1) == 0x4_0000
    assert fmt.attributes(entry, 1) & fmt.bits(PAT_LARGE=1)
    assert fmt.leaf_pfn(0x4000_1000 | fmt.bits(P=1), 0) == 0x4_0001


def test_x86_bit_7_of_a_pte_is_pat_not_size() -> None:
    fmt = FORMATS["x86_64-4level"]
    assert fmt.is_leaf(fmt.bits(P=1, PS=1), 0)


def test_unknown_configurations_are_named_with_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"arm64 with 4K pages and 47-bit.*arm64-16k-va47-pa48"):
        format_for("arm64", 4 * KiB, 47)
    with pytest.raises(BadInput, match="x86_64-5level"):
        format_for("powerpc", 64 * KiB, 52)


def test_physical_size_is_a_choice_only_with_64k_pages() -> None:
    assert format_for("arm64", 64 * KiB, 48, pa_bits=52).name == "arm64-64k-va48-pa52"
    assert format_for("arm64", 64 * KiB, 48).pa_bits == 48
    assert format_for("arm64", 16 * KiB, 52).pa_bits == 52
    with pytest.raises(BadInput):
        format_for("arm64", 4 * KiB, 48, pa_bits=52)
