"""Page tables are the same whatever they are read from: ELF core, compressed dump, RAM in files, /proc/kcore."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import random
import struct
import sys
from pathlib import Path

import pytest

from captures import DATA
from cores import (
    END_MARK,
    LZO,
    ZLIB,
    elf,
    elf_note,
    flattened,
    kdump,
    memory_of_s390,
    notes_of,
    s390_header,
    s390_segments,
    table_frames,
)
from memhp.errors import BadInput
from memhp.facts import table_source
from memhp.facts.elfcore import ElfCore
from memhp.facts.kcore import Kcore
from memhp.facts.ptwalk import ptwalk, ptwalk_lines
from memhp.facts.ram_image import Piece
from memhp.facts.table_source import TableSource, open_tables
from memhp.hw.walker import tables

X86 = DATA / "ptcores" / "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level" / "0-before" / "pt.elf.xz"
RISCV = DATA / "ptcores" / "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39" / "0-before" / "pt.elf.xz"
ARM64 = DATA / "ptcores" / "arm64-7.2.13+deb14-arm64-virtio-mem-48bit" / "0-before" / "pt.elf.xz"
LOONGARCH = DATA / "ptcores" / "loongarch64-7.2.13+deb14-loong64-dimm-pt" / "0-before" / "pt.elf.xz"
S390 = DATA / "tables" / "s390x-7.2.13+deb14" / "pt.elf.xz"
S390_FOUR = DATA / "tables" / "s390x-7.2.13+deb14-4level" / "pt.elf.xz"
POWER_4K = DATA / "tables" / "ppc64-7.2.13+deb14" / "pt.elf.xz"
POWER_64K = DATA / "tables" / "ppc64-64k-7.2.13+deb14" / "pt.elf.xz"
SPOILED = int(os.environ.get("MEMHP_FUZZ_DUMPS", "60"))
MACHINE = {"x86_64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "ppc64": "ppc64le"}


def note_in_ram(core: ElfCore) -> bytes:
    """VMCOREINFO as it lies in a guest's memory."""
    return elf_note(notes_of(core))


def same(source: TableSource, path: Path) -> bool:
    """Whether a source shows what the core at `path` does; an assertion would show their difference for minutes."""
    return lines(source) == lines(open_tables(path))


def lines(source: TableSource) -> list[str]:
    return list(ptwalk_lines(ptwalk(source.reader, source.root)))


def ram_file(core: ElfCore, path: Path, *, note: bool = True) -> int:
    """Write a sparse file of a guest's RAM from its first byte on; its size."""
    base = min(MACHINE_RAM[core.arch], *table_frames(core))
    with path.open("wb") as file:
        for pa, data in table_frames(core).items():
            file.seek(pa - base)
            file.write(data)
        if note:
            file.seek(0x10_0000)
            file.write(note_in_ram(core))
        return file.truncate((max(table_frames(core)) - base | 0xFFFFF) + 1)


MACHINE_RAM = {"x86_64": 0, "riscv64": 0x8000_0000, "arm64": 0x4000_0000}


EVERYWHERE = {"x86_64": X86, "arm64": ARM64, "riscv64": RISCV, "loongarch64": LOONGARCH, "ppc64le 4K": POWER_4K,
              "ppc64le 64K": POWER_64K}  # fmt: skip


def compressed(path: Path, tmp_path: Path, *, status: int, flat: bool = False) -> Path:
    """The tables of a core as a compressed dump."""
    core = ElfCore(path)
    s390 = core.arch == "s390x"
    frames = memory_of_s390(core) if s390 else table_frames(core)
    order = ">" if s390 else "<"
    machine = MACHINE.get(core.arch, core.arch)
    data = kdump(frames, notes_of(core), machine, page_size=core.page_size, order=order, status=status)
    (tmp_path / "vmcore").write_bytes(flattened(data) if flat else data)
    return tmp_path / "vmcore"


@pytest.mark.parametrize("flat", [False, True], ids=["plain", "flattened"])
@pytest.mark.parametrize("path", [*EVERYWHERE.values(), S390, S390_FOUR], ids=[*EVERYWHERE, "s390x", "s390x 4 levels"])
def test_a_compressed_dump_says_what_the_elf_core_says(path: Path, flat: bool, tmp_path: Path) -> None:
    source = open_tables(compressed(path, tmp_path, status=ZLIB, flat=flat))
    assert source.kind == "compressed dump"
    assert same(source, path)


@pytest.mark.parametrize("path", [X86, ARM64, RISCV, POWER_64K, S390_FOUR], ids=lambda path: path.parent.parent.name)
def test_a_dump_of_another_packer_is_read_through_drgn(path: Path, tmp_path: Path) -> None:
    assert same(open_tables(compressed(path, tmp_path, status=LZO)), path)


@pytest.mark.parametrize(
    ("path", "says"),
    [(LOONGARCH, "does not know its architecture"), (POWER_4K, "cannot read it: Unsupported page shift: 12")],
    ids=["loongarch64", "ppc64le 4K"],
)
def test_what_the_library_does_not_know_is_refused_and_what_to_do_said(path: Path, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"{says}[^\n]*makedumpfile -c"):
        lines(open_tables(compressed(path, tmp_path, status=LZO)))


def test_a_dump_without_notes_is_read_by_registers(tmp_path: Path) -> None:
    """QEMU writes such, where it was started without ``-device vmcoreinfo``."""
    core = ElfCore(RISCV)
    (tmp_path / "vmcore").write_bytes(kdump(table_frames(core), b"", ""))
    with pytest.raises(BadInput, match="no VMCOREINFO note in it"):
        open_tables(tmp_path / "vmcore")
    source = open_tables(tmp_path / "vmcore", registers={"satp": core.info.number("satp")})
    assert same(source, RISCV)


def header_of(dump: bytes, at: int, layout: str, value: int) -> bytes:
    """A dump with another value in its header or sub-header."""
    return dump[:at] + struct.pack(layout, value) + dump[at + struct.calcsize(layout) :]


@pytest.mark.parametrize(
    ("at", "layout", "value", "says"),
    [
        (428, "<i", 4097, "no block size that there is"),
        (432, "<i", 1 << 30, "truncated: bitmap is not in it"),
        (436, "<I", 0xFFFF_FFFF, "truncated: bitmap is not in it"),
        (4096 + 12, "<i", 1, "makedumpfile --reassemble"),
        (4096 + 32, "<Q", 1 << 62, "truncated: VMCOREINFO is not in it"),
        (4096 + 40, "<Q", 1 << 40, "VMCOREINFO of 1099511627776 bytes"),
    ],
)
def test_a_header_that_lies_is_refused_in_one_line(at: int, layout: str, value: int, says: str, tmp_path: Path) -> None:
    core = ElfCore(X86)
    dump = header_of(kdump(table_frames(core), notes_of(core), "x86_64"), at, layout, value)
    for data in (dump, flattened(dump)):
        (tmp_path / "vmcore").write_bytes(data)
        with pytest.raises(BadInput, match=says) as caught:
            open_tables(tmp_path / "vmcore")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (b"", "truncated: the record that ends it"),
        (struct.pack(">qq", 0, 1 << 60), "truncated: the record that ends it"),
        (struct.pack(">qq", 0, 0), "a record of 0 bytes"),
        (struct.pack(">qq", 1 << 62, 8) + bytes(8) + struct.pack(">qq", -1, -1), "another signature"),
    ],
)
def test_a_flattened_dump_whose_records_lie_is_refused_in_one_line(records: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(b"makedumpfile".ljust(4096, b"\0") + records)
    with pytest.raises(BadInput, match=says):
        open_tables(tmp_path / "vmcore")


def test_a_dump_of_the_stand_alone_tools_of_s390_is_memory_behind_a_header(tmp_path: Path) -> None:
    memory = memory_of_s390(ElfCore(S390))
    size = max(memory) + 4096
    with (tmp_path / "dump").open("wb") as file:
        file.write(s390_header(0xA8190173618F23FD, size))
        for pa, page in memory.items():
            file.seek(4096 + pa)
            file.write(page)
        file.write(END_MARK)
    source = open_tables(tmp_path / "dump")
    assert source.kind == "s390 dump"
    assert same(source, S390)


def test_an_extended_dump_of_s390_has_memory_in_segments(tmp_path: Path) -> None:
    memory = memory_of_s390(ElfCore(S390_FOUR))
    header = s390_header(0xA8190173618F23FE, max(memory) + 4096)
    (tmp_path / "dump").write_bytes(header + s390_segments(memory) + END_MARK)
    assert same(open_tables(tmp_path / "dump"), S390_FOUR)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (s390_header(0xA8190173618F23FD, 1 << 30), "truncated: memory lies in it up to 0x40001000, and it ends at"),
        (s390_header(0xA8190173618F23FE, 1 << 30), "truncated: memory lies in it up to 0x2000"),
        (s390_header(0xA8190173618F23FE, 1 << 30) + struct.pack(">QQQI", 0, 1 << 60, 1, 0).ljust(4096, b"\0"), "trunc"),
        (s390_header(0xA8190173618F23FE, 8192) + s390_segments({0: bytes(4096)}, compressed=1), "zgetdump -f elf"),
        (s390_header(0xA8190173618F23FD, 0, several=1), "several volumes"),
        (s390_header(0xA8190173618F23FD, 0, arch=1), "31-bit kernel"),
        (s390_header(0xA8190173618F23FD, 0)[:100], "the header is cut off"),
        (s390_header(0xA8190173618F23FD, 4096) + bytes(4096), "no VMCOREINFO note"),
    ],
)
def test_a_dump_of_s390_that_is_not_whole_or_of_another_kind_is_refused_in_one_line(
    data: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / "dump").write_bytes(data)
    with pytest.raises(BadInput, match=says) as caught:
        open_tables(tmp_path / "dump")
    assert "\n" not in str(caught.value)


def test_without_drgn_a_dump_of_another_packer_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "drgn", None)
    with pytest.raises(BadInput, match="needs drgn"):
        open_tables(compressed(X86, tmp_path, status=LZO))


@pytest.mark.parametrize("path", [ARM64, RISCV], ids=["arm64", "riscv64"])
def test_ram_of_a_guest_is_placed_by_the_note_that_is_found_in_it(path: Path, tmp_path: Path) -> None:
    ram_file(ElfCore(path), tmp_path / "ram")
    source = open_tables(tmp_path / "ram")
    assert source.kind == "RAM"
    assert same(source, path)


def test_ram_with_a_hole_needs_to_be_told_where_it_lies(tmp_path: Path) -> None:
    size = ram_file(ElfCore(X86), tmp_path / "ram")
    with pytest.raises(BadInput, match="--ram"):
        open_tables(tmp_path / "ram")
    half = 0x200_0000
    ram = [Piece(tmp_path / "ram", 0, 0, half), Piece(tmp_path / "ram", half, half, size - half)]
    assert same(open_tables(tmp_path / "ram", ram=ram), X86)


def test_a_part_of_ram_beyond_the_end_of_the_file_is_refused(tmp_path: Path) -> None:
    size = ram_file(ElfCore(RISCV), tmp_path / "ram")
    with pytest.raises(BadInput, match="not in the file"):
        open_tables(tmp_path / "ram", ram=[Piece(tmp_path / "ram", 0x8000_0000, 4096, size)])


def test_registers_say_where_tables_are_when_no_note_is_found(tmp_path: Path) -> None:
    """The satp of a guest whose CPU was in the kernel, as QEMU's ``info registers`` showed it; and the kernel's own."""
    ram_file(ElfCore(RISCV), tmp_path / "ram", note=False)
    ram = [Piece(tmp_path / "ram", 0x8000_0000, 0, (tmp_path / "ram").stat().st_size)]
    with pytest.raises(BadInput, match="no VMCOREINFO note"):
        open_tables(tmp_path / "ram", ram=ram)
    satp = ElfCore(RISCV).info.number("satp")
    source = open_tables(tmp_path / "ram", ram=ram, registers={"satp": satp})
    assert source.info is None
    assert same(source, RISCV)


@pytest.mark.parametrize(
    ("path", "registers"),
    [
        (X86, {"cr3": 0x322_A000, "cr4": 0x750EF0}),
        (ARM64, {"ttbr1_el1": 0x41D2_4001, "tcr_el1": 2 << 30 | 16 << 16}),
    ],
    ids=["x86_64", "arm64"],
)
def test_registers_of_other_architectures(path: Path, registers: dict[str, int]) -> None:
    noted = ElfCore(path).root()
    if "ttbr1_el1" in registers:
        registers |= {"ttbr1_el1": noted.pfn << noted.fmt.page_shift | 1}
    source = open_tables(path, registers=registers)
    assert (source.root.fmt.va_bits, source.root.pfn) == (noted.fmt.va_bits, noted.pfn)
    assert same(source, path)


def kcore_of(core: ElfCore, path: Path) -> None:
    """A file as /proc/kcore looks: segments far beyond its headers, of which only RAM has a physical address."""
    frames = table_frames(core)
    note = note_in_ram(core)
    base, end = min(frames), max(frames) + core.page_size
    headers = [
        struct.pack("<IIQQQQQQ", 4, 0, 4096, 0, 0, len(note), len(note), 0),
        struct.pack("<IIQQQQQQ", 1, 7, 1 << 46, 0xFFFF_C900_0000_0000, (1 << 64) - 1, 1 << 45, 1 << 45, 4096),
        struct.pack("<IIQQQQQQ", 1, 7, 1 << 24, 0xFFFF_8880_0000_0000, base, end - base, end - base, 4096),
    ]
    machine = {"x86_64": 62, "riscv64": 243}[core.arch]
    start = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, machine, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0
    )
    with path.open("wb") as file:
        file.write(start + b"".join(headers))
        file.seek(4096)
        file.write(note)
        for pa, data in frames.items():
            file.seek((1 << 24) + pa - base)
            file.write(data)


@pytest.mark.parametrize("path", [X86, RISCV], ids=["x86_64", "riscv64"])
def test_a_live_kernel_is_read_through_the_segments_that_are_ram(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kcore_of(ElfCore(path), tmp_path / "kcore")
    monkeypatch.setattr(table_source, "KCORE", tmp_path / "kcore")
    source = open_tables(tmp_path / "kcore")
    assert source.live
    assert isinstance(source.memory, Kcore)
    assert same(source, path)


def test_the_same_file_is_truncated_when_it_is_no_live_kernel(tmp_path: Path) -> None:
    kcore_of(ElfCore(RISCV), tmp_path / "kcore")
    with pytest.raises(BadInput, match="truncated"):
        open_tables(tmp_path / "kcore")


def test_an_honest_dump_of_nothing_but_tables_may_be_walked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_source, "LEAST_ENTRIES", 0)
    source = open_tables(ARM64)
    assert len({len(ptwalk(source.reader, source.root)) for _ in range(5)}) == 1


def test_tables_that_refer_to_themselves_end_in_one_line(tmp_path: Path) -> None:
    """A root whose entries all point to itself: 512^3 leaf tables, were they all read."""
    entry = struct.pack("<Q", 0x80000 << 10 | 1)
    notes = (
        b"OSRELEASE=7.2.0\nPAGESIZE=4096\nNUMBER(VA_BITS)=57\nNUMBER(va_kernel_pa_offset)=0x0\n"
        b"SYMBOL(swapper_pg_dir)=80000000\n"
    )
    (tmp_path / "core").write_bytes(elf([(0x8000_0000, entry * 512)], notes=notes))
    source = open_tables(tmp_path / "core")
    with pytest.raises(BadInput, match="no sound page tables"):
        tables(source.reader, source.root.fmt, source.root.pfn)


@pytest.mark.parametrize("status", [ZLIB, LZO], ids=["zlib", "another packer"])
@pytest.mark.parametrize("part", range(3))
def test_a_spoiled_compressed_dump_is_read_or_refused_though_the_library_dies_of_it(
    part: int, status: int, tmp_path: Path
) -> None:
    core = ElfCore(X86)
    whole = kdump(table_frames(core), notes_of(core), "x86_64", status=status)
    chance = random.Random(f"kdump {part}")
    for _ in range(SPOILED // 6 if status == ZLIB else 8):
        data = bytearray(chance.choice((whole, flattened(whole))) if status == ZLIB else whole)
        for _ in range(chance.choice((1, 4, 32))):
            at = chance.randrange(chance.choice((480, 8192, len(data) - 8)))
            data[at : at + 8] = chance.randbytes(8)
        if chance.random() < 0.4:
            del data[chance.randrange(16, len(data)) :]
        (tmp_path / "vmcore").write_bytes(data)
        try:
            source = open_tables(tmp_path / "vmcore")
            ptwalk(source.reader, source.root)
        except BadInput as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("status", "says"), [(ZLIB, "truncated: "), (LZO, "truncated or damaged|cannot read|is missing")]
)
def test_a_truncated_compressed_dump_says_so(status: int, says: str, tmp_path: Path) -> None:
    path = compressed(X86, tmp_path, status=status)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=says):
        lines(open_tables(path))
