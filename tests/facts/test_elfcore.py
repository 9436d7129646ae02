"""ELF cores and VMCOREINFO: what they hold, and one clear line for what they do not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captures import DATA
from cores import NOTES, elf
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.facts.vmcoreinfo import parse_vmcoreinfo
from memhp.hw.reader import MissingTables
from memhp.spans import Span

GUESTS = DATA / "ptcores"
SMALL = GUESTS / "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39" / "0-before" / "pt.elf.xz"


def written(tmp_path: Path, data: bytes) -> ElfCore:
    path = tmp_path / "core"
    path.write_bytes(data)
    return ElfCore(path)


def page(word: int) -> bytes:
    return struct.pack("<Q", word) * 512


def test_frames_are_found_by_physical_address_wherever_they_stand_in_the_file(tmp_path: Path) -> None:
    core = written(tmp_path, elf([(0x8000_0000, page(7) + page(8)), (0x1000, page(1)), (0x9000, b"\1" * 10)]))
    assert core.arch == "riscv64"
    assert core.frames == (Span(1, 2), Span(0x80000, 0x80002))
    rows = core.tables(np.array([0x80001, 1, 0x80000, 1], dtype=np.uint64))
    assert rows.shape == (4, 512)
    assert rows[:, 511].tolist() == [8, 1, 7, 1]


def test_what_the_file_does_not_hold_is_missing(tmp_path: Path) -> None:
    core = written(tmp_path, elf([(0x1000, page(1)), (0x3000, page(3))]))
    with pytest.raises(MissingTables) as caught:
        core.tables(np.array([0, 1, 2, 3, 4], dtype=np.uint64))
    assert caught.value.pfns == (0, 2, 4)
    with pytest.raises(MissingTables):
        core.read(0x1FF8, 16)
    assert core.read(0x1FF8, 8) == struct.pack("<Q", 1)


def test_a_segment_that_does_not_start_on_a_page_gives_its_whole_pages(tmp_path: Path) -> None:
    core = written(tmp_path, elf([(0x1800, b"\0" * 0x800 + page(2) + b"\0" * 0x100)]))
    assert core.frames == (Span(2, 3),)
    assert core.tables(np.array([2], dtype=np.uint64))[0, 0] == 2


def test_more_segments_than_the_header_can_count(tmp_path: Path) -> None:
    assert written(tmp_path, elf([(0x1000, page(1))], many=True)).frames == (Span(1, 2),)


def test_registers_of_every_cpu_are_kept() -> None:
    core = ElfCore(SMALL)
    assert len(core.prstatus) == 2
    assert {len(desc) for desc in core.prstatus} == {376}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty file"),
        (b"#!/bin/sh\n" * 20, "not an ELF file"),
        (elf([], ident=b"\x7fELF\x01\x01\x01"), "not a 64-bit ELF core"),
        (elf([], ident=b"\x7fELF\x02\x03\x01"), "not a 64-bit ELF core"),
        (elf([], kind=2), "not a 64-bit ELF core"),
        (elf([], machine=43), "machine 43"),
        (elf([], machine=62), "x86_64 with VMCOREINFO of riscv64"),
        (elf([], notes=b"hello\n"), "no OSRELEASE"),
        (elf([], notes=b"\xff\xfe"), "not text"),
        (elf([], notes=b"OSRELEASE=1\n"), "NUMBER"),
        (elf([(0x1000, page(1))], notes=NOTES.replace(b"4096", b"0")), "PAGESIZE"),
        (elf([]).replace(b"VMCOREINFO\0", b"VMCOREINF0\0"), "no VMCOREINFO note"),
        (elf([(0x1000, page(1))])[:-1], "truncated"),
        (lzma.compress(elf([]))[:-20], "cannot unpack"),
    ],
)
def test_other_files_end_in_one_clear_line(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        written(tmp_path, data)
    assert str(tmp_path / "core") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        ElfCore(tmp_path / "none.elf")


@settings(max_examples=60)
@given(data=st.data())
def test_a_core_cut_off_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = lzma.decompress(SMALL.read_bytes())
    cut = data.draw(st.one_of(st.integers(0, 4000), st.integers(0, len(whole) - 1)))
    with pytest.raises(BadInput):
        written(tmp_path_factory.mktemp("cut"), whole[:cut])


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_core_is_read_or_refused_but_never_more(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(elf([(0x8000_0000, page(7)), (0x1000, page(1))]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 64 + 3 * 56 + 40))] = data.draw(st.integers(0, 255))
    try:
        core = written(tmp_path_factory.mktemp("damaged"), bytes(whole))
        core.root()
        core.tables(np.array([1], dtype=np.uint64))
    except (BadInput, MissingTables):
        pass


def guest(name: str) -> ElfCore:
    return ElfCore(GUESTS / name / "0-before" / "pt.elf.xz")


def test_x86_with_kaslr_has_a_negative_phys_base() -> None:
    core = guest("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-kaslr")
    assert core.info.number("phys_base") == -775946240
    assert core.root().pfn == 0xB022
    assert core.root().fmt.name == "x86_64-5level"


def test_a_52_bit_arm64_kernel_on_a_48_bit_cpu_walks_48_bits() -> None:
    core = guest("arm64-6.12.107+deb13-arm64-virtio-mem-high-48bit")
    assert core.info.number("VA_BITS") == 52
    assert core.root().fmt.name == "arm64-4k-va48-pa48"


def test_riscv_root_is_where_satp_points() -> None:
    for name in (
        "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39",
        "riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1",
    ):
        core = guest(name)
        satp = core.info.number("satp")
        assert core.root().pfn == satp & ((1 << 44) - 1)
        assert core.root().fmt.va_bits == {8: 39, 9: 48, 10: 57}[satp >> 60]


ARM64 = (
    "OSRELEASE=7.2\nPAGESIZE=65536\nSYMBOL(swapper_pg_dir)=ffff800081000000\nNUMBER(kimage_voffset)=0xffff800041000000\n"
    "NUMBER(VA_BITS)=52\nNUMBER(MAX_PHYSMEM_BITS)=52\nNUMBER(TCR_EL1_T1SZ)="
)


def test_arm64_with_64k_pages_and_48_bits_starts_at_the_end_of_the_52_bit_root() -> None:
    small, large = parse_vmcoreinfo(ARM64 + "0x10").root(), parse_vmcoreinfo(ARM64 + "0xc").root()
    assert (small.fmt.name, small.pfn, small.index) == ("arm64-64k-va48-pa52", 0x4000, 1024 - 64)
    assert (large.fmt.name, large.pfn, large.index) == ("arm64-64k-va52-pa52", 0x4000, 0)


def test_arm64_with_16k_pages_falls_back_to_47_bits() -> None:
    text = ARM64.replace("65536", "16384") + "0x11"
    assert parse_vmcoreinfo(text).root().fmt.name == "arm64-16k-va47-pa48"


def test_the_encryption_bit_of_x86_is_no_part_of_an_address() -> None:
    text = (
        "OSRELEASE=7.2\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82000000\nNUMBER(phys_base)=0\n"
        "NUMBER(sme_mask)=2251799813685248\n"
    )
    fmt = parse_vmcoreinfo(text).root().fmt
    entry = 1 << 51 | 0x1234_5000 | fmt.bits(P=1)
    assert fmt.leaf_pfn(entry, 0) == 0x1_2345
    assert fmt.attributes(entry, 0) & 1 << 51


def test_vmcoreinfo_says_what_it_lacks() -> None:
    info = parse_vmcoreinfo("OSRELEASE=7.2\nPAGESIZE=4096\nNUMBER(phys_base)=zero\n", where="notes.txt")
    with pytest.raises(BadInput, match=r"notes.txt: no SYMBOL\(init_top_pgt\)"):
        info.root()
    with pytest.raises(BadInput, match=r"notes.txt: NUMBER\(phys_base\) is not a number: 'zero'"):
        info.number("phys_base")
