"""Page tables of s390x and POWER, which are read and not modelled: guests' own words, drgn, the kernel's format.

Each folder of tests/data/tables is a guest of Debian's kernel: ``pt.elf.xz`` holds the frames of its page tables,
``guest.txt`` what the guest said of itself at that moment.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import lzma
import re
import struct
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from captures import DATA
from drgn_oracle import drgn_walk
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.facts.page_tables import SeenTables, area_uses, events_of, read_tables_of
from memhp.facts.ptdump import parse, render
from memhp.facts.table_source import open_tables
from memhp.hw.walker import End, leaves, translate
from memhp.linux.arch.registry import tables_port
from memhp.report.documents import PagetablesDocument
from memhp.target.guest.memory import pieces
from memhp.units import GiB, KiB, MiB

S390_FOUR = DATA / "tables" / "s390x-7.2.13+deb14-4level"
S390 = DATA / "tables" / "s390x-7.2.13+deb14"
POWER = DATA / "tables" / "ppc64-7.2.13+deb14"
POWER_64K = DATA / "tables" / "ppc64-64k-7.2.13+deb14"
guests = pytest.mark.parametrize("guest", [S390, S390_FOUR, POWER, POWER_64K], ids=lambda guest: guest.name)


@cache
def seen(guest: Path) -> SeenTables:
    return read_tables_of(open_tables(guest / "pt.elf.xz"))


@cache
def told(guest: Path) -> dict[str, list[str]]:
    """What the guest said, by what it is."""
    parts = re.split(r"^# (.*)\n", (guest / "guest.txt").read_text(), flags=re.MULTILINE)[1:]
    return {title: text.splitlines() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def leaf_counts(guest: Path, area: str) -> dict[str, int]:
    (use,) = (use for use in area_uses(seen(guest)) if use.name == area)
    return {each.level: each.count for each in use.leaves}


def dump(guest: Path) -> str:
    return render(events_of(seen(guest)), tables_port(seen(guest).fmt.arch).ptdump_style_of(seen(guest).fmt))


def plain(guest: Path) -> bytes:
    return lzma.decompress((guest / "pt.elf.xz").read_bytes())


# What guests said of themselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", [S390, S390_FOUR], ids=lambda guest: guest.name)
def test_areas_of_s390_are_where_the_kernels_own_variables_say(guest: Path) -> None:
    said = dict(line.split() for line in told(guest)["variables of the kernel, by /proc/kallsyms"])
    at = {name: int(value, 16) for name, value in said.items()}
    areas = {area.name: (area.start, area.end) for area in seen(guest).areas}
    assert areas["modules"] == (at["MODULES_VADDR"], at["MODULES_END"])
    assert areas["vmalloc"] == (at["VMALLOC_START"], at["VMALLOC_END"])
    assert areas["vmemmap"] == (at["vmemmap"], at["vmemmap"] + at["vmemmap_size"])
    assert areas["kernel"] == (at["_stext"], at.get("_end", areas["kernel"][1]))
    assert areas["direct map"] == (0, at["high_memory"])
    assert areas["lowcore"][0] == at["__abs_lowcore"]
    text = dump(guest)
    for name, where in (("Amode31 Area Start", "__samode31"), ("Real Memory Copy Area Start", "__memcpy_real_area")):
        assert f"---[ {name} ]---\n{at[where]:#018x}-" in text


def test_the_identity_mapping_of_s390_has_the_pages_that_meminfo_counts_and_the_lowcore() -> None:
    direct = dict(line.split(":") for line in told(S390)["DirectMap of /proc/meminfo"])
    pages = int(direct["DirectMap4k"].split()[0]) * KiB // (4 * KiB)
    assert leaf_counts(S390, "direct map") == {"PTE": pages + 2}
    assert told(S390)["/proc/iomem"][0] == f"00000000-{512 * MiB - 1:08x} : System RAM"
    shown = seen(S390).columns()
    inside = shown.va < np.uint64(512 * MiB)
    assert np.array_equal(shown.va[inside], shown.pa[inside])


@pytest.mark.parametrize("guest", [POWER, POWER_64K], ids=lambda guest: guest.name)
def test_the_direct_map_of_power_is_what_the_kernel_logged_that_it_mapped(guest: Path) -> None:
    logged = re.findall(r"Mapped 0x(\w+)-0x(\w+) with 2.00 MiB pages( \(exec\))?", "\n".join(told(guest)["kernel log"]))
    lines = [line for line in dump(guest).splitlines() if line.startswith("0xc0000000")]
    assert len(logged) == 2
    # The kernel took the right to execute from its data later: what it mapped as text ends where data begin.
    assert [line.split()[1] for line in lines] == ["0x0000000000000000", "0x0000000002000000"]
    assert lines[-1].split()[0] == f"{0xC << 60 | 0x2000000:#018x}-{(0xC << 60 | int(logged[1][1], 16)) - 1:#018x}"
    direct = dict(line.split(":") for line in told(guest)["DirectMap of /proc/meminfo"])
    assert leaf_counts(guest, "direct map") == {"PMD": int(direct["DirectMap2M"].split()[0]) * KiB // (2 * MiB)}


def test_vmalloc_of_power_holds_the_pages_that_vmallocinfo_counts_and_ioremap_leads_where_it_says() -> None:
    (pages,) = told(POWER)["pages of /proc/vmallocinfo"]
    assert leaf_counts(POWER, "vmalloc") == {"PTE": int(pages)}
    asked = {int(pa, 16) for pa in re.findall(r"phys=0x(\w+)", "\n".join(told(POWER)["ioremap of /proc/vmallocinfo"]))}
    section = dump(POWER).split("---[ I/O remap start ]---\n")[1].split("---[")[0]
    assert {int(line.split()[1], 16) for line in section.splitlines()} == asked


def test_vmemmap_maps_a_struct_page_for_each_page_there_is() -> None:
    assert leaf_counts(S390, "vmemmap") == {"PTE": 512 * MiB // (4 * KiB) * 64 // (4 * KiB)}
    assert leaf_counts(POWER, "vmemmap") == {"PMD": 256 * MiB // (4 * KiB) * 64 // (2 * MiB)}


@pytest.mark.parametrize(
    ("guest", "little_endian", "ram"),
    [(S390, False, 512 * MiB), (S390_FOUR, False, 512 * MiB), (POWER, True, 256 * MiB), (POWER_64K, True, 512 * MiB)],
)
def test_addresses_translate_as_in_drgn(guest: Path, little_endian: bool, ram: int) -> None:
    reader = ElfCore(guest / "pt.elf.xz")
    root = reader.root()

    def read(pa: int, size: int) -> bytes:
        """Memory; drgn reads 16 KiB where a page table has 2, so that what is not in the core is zero."""
        return b"".join(_part(reader, at, min(pa + size, at // 4096 * 4096 + 4096) - at) for at in _pages(pa, size))

    note = "".join(f"{key}={value}\n" for key, value in reader.info.lines.items()).encode()
    pgd = reader.info.symbol("swapper_pg_dir")
    follow = drgn_walk(reader.arch, note, pgd, [(0, ram)], read, little_endian=little_endian)
    found = leaves(reader, root.fmt, root.pfn, va_start=root.fmt.start)
    random = np.random.default_rng(16)
    mapped = found.va[random.integers(0, found.va.size, 1000)] + random.integers(0, 4096, 1000, dtype=np.uint64)
    low, high = root.fmt.canonical(0), root.fmt.canonical((1 << root.fmt.va_bits) - 1)
    vas = np.concatenate(
        [mapped, found.va[found.va >= found.va[-1] >> 1][:500], random.integers(low, high, 500, np.uint64)]
    )
    ours = translate(reader, root.fmt, root.pfn, vas)
    assert [pa if there else None for pa, there in zip(ours.pa.tolist(), ours.mapped.tolist(), strict=True)] == [
        follow(va) for va in vas.tolist()
    ]
    assert set(ours.end.tolist()) == {End.MAPPED, End.HOLE}


def _pages(pa: int, size: int) -> list[int]:
    return [pa, *range(pa // 4096 * 4096 + 4096, pa + size, 4096)]


def _part(reader: ElfCore, pa: int, size: int) -> bytes:
    try:
        return reader.read(pa, size)
    except KeyError:
        return bytes(size)


# The kernel's format ------------------------------------------------------------------------------------------------


def test_s390_is_printed_as_its_dump_pagetables_prints() -> None:
    """arch/s390/mm/dump_pagetables.c: ``0x%0*lx-0x%0*lx ``, ``%9lu%c ``, the level, RW or RO, NX or X; I alone where
    nothing is mapped; a section's begin and end; the last range ends with the address space.
    """
    text = dump(S390).splitlines()
    assert text[:6] == [
        "---[ Kernel Virtual Address Space ]---",
        "---[ Identity Mapping Start ]---",
        "---[ Lowcore Start ]---",
        "0x0000000000000000-0x0000000000001000         4K PTE RW X",
        "0x0000000000001000-0x0000000000002000         4K PTE RW NX",
        "---[ Lowcore End ]---",
    ]
    assert "0x0000000020000000-0x0000000080000000      1536M PMD I" in text
    assert "0x0000000080000000-0x0000037200000000      3526G PUD I" in text
    assert text[-1].startswith("0x000003ffe") or text[-1].split("-")[1].startswith(f"{1 << 42:#018x}")


def test_power_is_printed_as_its_ptdump_prints() -> None:
    """``0x%016lx-0x%016lx ``, the last address and not the end, `` 0x%016lx ``, ``%9lu%c ``, ``%s ``, two blanks before
    each flag; what maps nothing is left out. Each flag is as long set as clear."""
    lines = dump(POWER).splitlines()
    assert lines[0] == "---[ Start of kernel VM ]---"
    flags = (
        "    ",
        "r",
        " ",
        " X ",
        "pte",
        "valid",
        "present",
        "    ",
        "dirty",
        "accessed",
        " " * 14,
        " " * 8,
        "f_gix:0",
    )
    assert lines[1] == (
        "0xc000000000000000-0xc000000001ffffff  0x0000000000000000        32M PMD "
        + "".join(f"  {flag}" for flag in flags)
    )
    device = (
        "    ",
        "r",
        "w",
        "   ",
        "pte",
        "valid",
        "present",
        "    ",
        "dirty",
        "accessed",
        "non-idempotent",
        " " * 8,
    )
    assert next(line for line in lines if "00060302031a0000" in line) == (
        "0xc00a000080000000-0xc00a00008000ffff  0x00060302031a0000        64K PTE "
        + "".join(f"  {flag}" for flag in (*device, "f_gix:0"))
    )


@guests
def test_a_dump_that_is_read_back_is_the_same(guest: Path) -> None:
    style = tables_port(seen(guest).fmt.arch).ptdump_style_of(seen(guest).fmt)
    assert render(parse(dump(guest), style), style) == dump(guest)


# Sources, and what is refused ----------------------------------------------------------------------------------------


def ram_of(guest: Path, size: int, tmp_path: Path) -> Path:
    """RAM as QEMU has it in a file: the tables in their places, and the kernel's note in a page of its own."""
    core = ElfCore(guest / "pt.elf.xz")
    memory = bytearray(size)
    for load in core.loads:
        memory[load.pa : load.pa + load.size] = core.read(load.pa, load.size)
    order = ">" if guest == S390 else "<"
    text = "".join(f"{key}={value}\n" for key, value in core.info.lines.items()).encode()
    free = next(at for at in range(0, size, 16 * KiB) if not any(memory[at : at + 8 * KiB]))
    note = struct.pack(f"{order}III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text
    memory[free : free + len(note)] = note
    (tmp_path / "ram").write_bytes(memory)
    return tmp_path / "ram"


@pytest.mark.parametrize(("guest", "size"), [(S390, 512 * MiB), (POWER, 256 * MiB)], ids=["s390x", "ppc64"])
def test_ram_in_a_file_is_found_by_the_note_in_it(guest: Path, size: int, tmp_path: Path) -> None:
    assert area_uses(read_tables_of(open_tables(ram_of(guest, size, tmp_path)))) == area_uses(seen(guest))


def test_a_core_without_the_note_is_searched_for_it(tmp_path: Path) -> None:
    """QEMU's s390 and POWER machines have no fw_cfg through which a guest could give it one."""
    data = plain(POWER)
    at = data.index(b"VMCOREINFO\0\0") - 12
    other = data.replace(b"VMCOREINFO\0\0", b"SOMETHING \0\0", 1)
    (tmp_path / "core").write_bytes(other)
    with pytest.raises(BadInput, match="no VMCOREINFO note"):
        ElfCore(tmp_path / "core")
    (tmp_path / "core").write_bytes(other + data[at : at + 8192])
    assert ElfCore(tmp_path / "core").info.release == "7.2.13+deb14-powerpc64le"


@pytest.mark.parametrize(
    ("asce", "name"), [(0x24AC007, "s390x-3level"), (0x24AC00B, "s390x-4level"), (0x24AC000, None), (0x24AC027, None)]
)
def test_the_control_register_says_how_many_levels_there_are(asce: int, name: str | None) -> None:
    """Designation type of the Principles of Operation: 01 a region-third table, 10 a region-second table; a real space
    has no table."""
    root = tables_port("s390x").registers_root({"c13": asce})
    assert (root and (root.fmt.name, root.address)) == (name and (name, 0x24AC000))


def test_registers_find_what_the_note_finds(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pagetables", str(S390 / "pt.elf.xz"), "--register", "c13=0x24ac007", "--leaves"]) == 0
    found = capfd.readouterr().out.splitlines()
    assert found[0] == "---[ other ]---"
    assert any("pa=0xa00000 RO X" in line for line in found)


def test_notes_that_put_the_root_below_physical_memory_are_refused(tmp_path: Path) -> None:
    spoiled = plain(S390).replace(b"KERNELOFFSET=3ffe", b"KERNELOFFSET=fffe")
    (tmp_path / "core").write_bytes(spoiled)
    with pytest.raises(BadInput, match="at no physical address: -0x"):
        open_tables(tmp_path / "core")


def test_the_hash_mmu_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(plain(POWER).replace(b"NUMBER(RADIX_MMU)=1", b"NUMBER(RADIX_MMU)=0"))
    with pytest.raises(BadInput, match="the hash MMU, whose translations are no tree"):
        open_tables(tmp_path / "core")


def test_a_larger_vmalloc_needs_a_fourth_level() -> None:
    assert {guest: seen(guest).fmt.name for guest in (S390, S390_FOUR)} == {
        S390: "s390x-3level",
        S390_FOUR: "s390x-4level",
    }
    holes = {line.split()[-2] for line in dump(S390_FOUR).splitlines() if line.endswith(" I")}
    assert holes == {"PGD", "PUD", "PMD", "PTE"}


def test_an_entry_of_another_kind_of_table_is_reserved() -> None:
    """A translation-specification exception: TT of a region table entry must be that of its table; and on POWER NLS of
    an entry must be the size of the table that it points to."""
    s390, power = tables_port("s390x").formats[0], tables_port("ppc64").formats[0]
    assert s390.is_table(0x1FED4007, 2)
    assert not s390.is_table(0x1FED400B, 2)
    assert s390.is_reserved(0x1FED400B, 2)
    assert s390.is_reserved(0, 2)
    assert s390.is_reserved(0x1FC7E93D, 0)
    assert not s390.is_leaf(0x1FC7E53D, 0)
    assert power.is_table(0x8000_0000_0FFF_A009, 3)
    assert power.is_reserved(0x8000_0000_0FFF_A005, 3)


def test_tables_of_64k_pages_take_256_bytes() -> None:
    """RADIX_PTE_INDEX_SIZE of radix-64k.h is 5; four levels translate 52 bits with either page size (radix.h)."""
    small, large = tables_port("ppc64").formats
    assert [large.table_size(height) for height in range(4)] == [256, 4 * KiB, 4 * KiB, 64 * KiB]
    assert [small.table_size(height) for height in range(4)] == [4 * KiB, 4 * KiB, 4 * KiB, 64 * KiB]
    assert [fmt.levels[1].size for fmt in (small, large)] == [2 * MiB] * 2
    assert [fmt.levels[2].size for fmt in (small, large)] == [GiB] * 2
    assert large.table_pfn(0x8000_0000_0383_C105) << large.table_shift == 0x383_C100


@guests
def test_the_command_shows_sums_compares_and_checks(guest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    core = str(guest / "pt.elf.xz")
    assert main(["pagetables", core, "--json"]) == 0
    document = msgspec.convert(json.loads(capfd.readouterr().out), PagetablesDocument)
    assert document.format == seen(guest).fmt.name
    assert main(["pagetables", core, "--diff", core]) == 0
    assert capfd.readouterr().out == "no difference\n"
    assert main(["pagetables", core, "--check"]) == 0
    assert capfd.readouterr().out.startswith("✓ page-tables")
    assert (
        main(["pagetables", core, "--area", "vmemmap", "--level", "pte" if guest in (S390, S390_FOUR) else "pmd"]) == 0
    )
    assert capfd.readouterr().out.count("\n0x") == 1


def test_where_ram_lies_is_found_where_the_view_of_memory_is_one_region() -> None:
    """``info mtree -f`` of QEMU 11.1's s390-ccw-virtio."""
    mtree = (
        'FlatView #0\n AS "memory", root: system\n AS "cpu-memory-0", root: system\n Root memory region: ram0\n'
        "  0000000000000000-000000001fffffff (prio 0, ram): ram0\n\n"
        'FlatView #1\n AS "I/O", root: io\n Root memory region: io\n  0000000000000000-000000000000ffff '
        "(prio 0, ram): ram0\n"
    )
    assert [(piece.start, piece.end) for piece in pieces(mtree, {"ram0": 3})] == [(0, 512 * MiB)]
