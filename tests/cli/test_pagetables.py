"""``memhp pagetables``: what kernels' own dumps, drgn, an independent walk and the arithmetic of hotplug say."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import lzma
import os
import random
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from captures import DATA, open_capture
from cores import END_MARK, elf, memory_of_s390, s390_header, s390_segments
from drgn_oracle import drgn_walk
from memhp.cli.main import main
from memhp.facts.elfcore import ElfCore
from memhp.facts.page_tables import read_tables_of
from memhp.facts.ptdump import parse
from memhp.facts.ptwalk import ptwalk
from memhp.facts.table_source import open_tables
from memhp.hw.format import U64
from memhp.hw.reader import TableReader
from memhp.hw.walker import tables
from memhp.linux.arch.registry import port
from memhp.linux.formats import FORMATS
from memhp.linux.mm.ptdump_style import Line
from memhp.report.documents import PagetablesDocument
from trees import ROOT_PFN, Tree

CORES = DATA / "ptcores"
X86 = CORES / "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
X86_LA57 = CORES / "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-kaslr"
ARM64 = CORES / "arm64-7.2.13+deb14-arm64-virtio-mem-48bit"
ARM64_16K = CORES / "arm64-6.12.107+deb13-arm64-16k-virtio-mem-52bit"
RISCV = CORES / "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39"
RISCV_PMEM = CORES / "riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1"
LOONGARCH = CORES / "loongarch64-7.2.13+deb14-loong64-dimm-pt"
S390 = DATA / "tables" / "s390x-7.2.13+deb14-4level"
POWER = DATA / "tables" / "ppc64-64k-7.2.13+deb14"
SPOILED = int(os.environ.get("MEMHP_FUZZ_DUMPS", "60"))
SEED = os.environ.get("MEMHP_FUZZ_SEED", "1")


def core(guest: Path, step: int = 0) -> str:
    moments = (each / "pt.elf.xz" for each in (*guest.glob(f"{step}-*"), guest))
    return str(next(each for each in moments if each.exists()))


def printed(capfd: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["pagetables", *args]) == code
    return capfd.readouterr().out


def report(capfd: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capfd, *args, "--json", code=code))
    msgspec.convert(found, PagetablesDocument)
    return found


# The kernel's own dump ----------------------------------------------------------------------------------------------

NOTES = {
    "riscv64-custom-riscv64-kmem-map-ram-mom1": (
        "riscv64-sv57",
        b"OSRELEASE=7.2.13\nPAGESIZE=4096\nNUMBER(VA_BITS)=57\nNUMBER(va_kernel_pa_offset)=0x0\n"
        b"SYMBOL(swapper_pg_dir)=80000\nNUMBER(phys_ram_base)=2147483648\n",
    ),
    "arm64-custom-arm64-64k-virtio-mem-default": (
        "arm64-64k-va52-pa52",
        b"OSRELEASE=7.2.13\nPAGESIZE=65536\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)=0xc\n"
        b"NUMBER(MAX_PHYSMEM_BITS)=52\nNUMBER(kimage_voffset)=0x0\nNUMBER(PHYS_OFFSET)=0x40000000\n"
        b"SYMBOL(swapper_pg_dir)=800000\n",
    ),
}
"""Guests that were built with PTDUMP_DEBUGFS: their format, and what VMCOREINFO says on such machines."""


@cache
def kernels_text(name: str) -> str:
    capture = open_capture(name)
    return capture[next(iter(capture))].read("/sys/kernel/debug/kernel_page_tables")


@pytest.mark.parametrize("name", NOTES)
def test_the_dump_is_the_kernels_own(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Page tables with the ranges that the kernel printed, as a core; markers come from the notes alone."""
    fmt, notes = FORMATS[NOTES[name][0]], NOTES[name][1]
    text = kernels_text(name)
    tree = Tree(fmt)
    for event in parse(text, port(fmt.arch).ptdump_style):
        if isinstance(event, Line):
            height = len(fmt.levels) - 1 if event.level == "PGD" else ("PTE", "PMD", "PUD", "P4D").index(event.level)
            size = fmt.levels[height].size
            if event.prot:
                tree.map(event.start, event.end or 1 << 64, height, event.pa or 0x4000_0000, event.prot)
            else:
                for va in range(event.start, event.end or 1 << 64, size * fmt.levels[height].entries):
                    tree.table_at(va, height)
    assert ROOT_PFN << fmt.page_shift in (0x80000, 0x800000)
    frames = sorted(tree.frames)
    loads = [(pfn << fmt.page_shift, tree.frames[pfn].tobytes()) for pfn in frames]
    (tmp_path / "core").write_bytes(elf(loads, notes=notes, machine=port(fmt.arch).elf_machine))
    out = printed(capfd, str(tmp_path / "core"))
    pairs = zip(but_fixmap_start(out), but_fixmap_start(text), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]][:3] == []


def but_fixmap_start(text: str) -> list[str]:
    """A dump's lines but the two halves of arm64's hole that the start of the fixmap cuts: where it starts depends on
    what the kernel was built with (GHES, SDEI), which no note tells.
    """
    lines = text.splitlines()
    if "---[ Fixmap start ]---" not in lines or "UXN" not in text:
        return lines
    at = lines.index("---[ Fixmap start ]---")
    assert all(line.rpartition(" ")[2] == "PTE" for line in (lines[at - 1], lines[at + 1]))
    return [*lines[: at - 1], lines[at], *lines[at + 2 :]]


# drgn ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", [X86, X86_LA57, ARM64, ARM64_16K], ids=lambda guest: guest.name)
def test_every_range_begins_and_ends_where_drgn_says(guest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dump = ElfCore(core(guest))
    notes = next(note.desc for note in dump.notes if note.name == "VMCOREINFO")
    spans = [(span.start * dump.page_size, span.size * dump.page_size) for span in dump.frames]
    follow = drgn_walk(dump.arch, notes, dump.info.symbol("swapper_pg_dir"), spans, dump.read)
    ranges = report(capfd, core(guest))["ranges"]
    assert len(ranges) > 100
    wrong = [each for each in ranges if follow(each["va"]) != each["pa"]]
    last = [each for each in ranges if follow(each["va"] + each["size"] - 8) != each["pa"] + each["size"] - 8]
    assert (wrong[:2], last[:2]) == ([], [])
    ends = [each["va"] + each["size"] for each in ranges]
    starts = {each["va"] for each in ranges}
    assert [hex(end) for end in ends if end not in starts and end < 1 << 64 and follow(end) is not None][:2] == []


# What a plug of 512 MiB adds ----------------------------------------------------------------------------------------

PLUGGED = {
    # What a table-by-table difference of the same dumps by another program says: ptdiff.txt of each folder.
    "x86_64": (X86, {("direct map", "PMD"): 256, ("vmemmap", "PMD"): 4}, {("direct map", "PMD"): 1}),
    "arm64": (
        ARM64,
        {("direct map", "PTE"): 131072, ("vmemmap", "PMD"): 4},
        {("direct map", "PTE"): 256, ("direct map", "PMD"): 1},
    ),
    "arm64-16k": (
        ARM64_16K,
        {("direct map", "PTE"): 32768, ("vmemmap", "PTE"): 128},
        {("direct map", "PTE"): 16},
    ),
    "riscv64": (RISCV, {("direct map", "PMD"): 256, ("vmemmap", "PMD"): 4}, {}),
}


@pytest.mark.parametrize("name", PLUGGED)
def test_the_difference_that_a_plug_of_512_mib_makes(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    guest, leaves, tables = PLUGGED[name]
    areas = ["--area", "direct-map", "--area", "vmemmap"]
    found = report(capfd, core(guest), "--diff", core(guest, 1), *areas, code=1)
    assert found["verdict"] == "differs"
    assert {each["kind"] for each in found["differences"]} == {"added"}
    counts: dict[tuple[str, str], int] = {}
    for each in found["differences"]:
        key = each["now"]["area"], each["now"]["level"]
        counts[key] = counts.get(key, 0) + each["now"]["count"]
    assert counts == leaves
    assert {(each["area"], each["level"]): each["more"] for each in found["table_changes"]} == tables
    back = report(capfd, core(guest), "--diff", core(guest, 2), *areas)
    assert (back["verdict"], back["differences"], back["table_changes"]) == ("equal", [], [])


def test_a_leaf_that_became_small_ones_has_changed(capfd: pytest.CaptureFixture[str]) -> None:
    """pmem of 1 GiB is one PUD leaf; as kmem memory its first 896 aligned MiB are 448 PMD leaves."""
    out = printed(capfd, core(RISCV_PMEM, 2), "--diff", core(RISCV_PMEM, 3), "--area", "direct map", code=1)
    assert "~ " in out
    assert "(448 leaves)" in out
    assert "    was PUD " in out


# What is shown ------------------------------------------------------------------------------------------------------


def test_a_tree_says_what_each_area_maps_and_what_its_tables_take(capfd: pytest.CaptureFixture[str]) -> None:
    out = printed(capfd, core(ARM64), "--summary", "--area", "vmemmap", "--area", "direct map")
    assert "7.2.13+deb14-arm64, arm64-4k-" in out
    assert "PMD leaves of 2 MiB" in out
    assert "─ vmalloc" not in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_levels_areas_and_addresses_choose(capfd: pytest.CaptureFixture[str]) -> None:
    lines = printed(capfd, core(X86), "--area", "direct-map", "--level", "pmd").splitlines()
    assert lines[0] == "---[ Low Kernel Mapping ]---"
    assert {line.rpartition(" ")[2] for line in lines[1:]} == {"pmd"}
    (line,) = printed(capfd, core(X86), "--from", "0xffff888010000000", "--to", "ffff888010200000").splitlines()[1:]
    assert line.startswith("0xffff888010000000-0xffff888010200000           2M     RW")
    (line,) = printed(
        capfd, core(X86), "--leaves", "--from", "0xffff888010000000", "--to", "ffff888010200000"
    ).splitlines()[1:]
    assert line.endswith("PMD pa=0x10000000 RW PSE GLB NX")


def test_a_svnapot_leaf_shows_its_own_physical_address_and_its_block(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """VA 0x3000 inside a 64 KiB NAPOT page at PA 0x80010000 is PA 0x80013000 (Svnapot, table of the encodings)."""
    fmt = FORMATS["riscv64-sv39"]
    tree = Tree(fmt)
    va = 0xFFFF_FFC6_0000_0000
    prot = fmt.bits(V=1, R=1, W=1, A=1, D=1, G=1)
    napot = fmt.encode_pfn(0x80018) | prot | fmt.napot_mask
    for i in range(3, 16):
        tree.put(va + i * 4096, 0, napot)
    notes = NOTES["riscv64-custom-riscv64-kmem-map-ram-mom1"][1].replace(b"VA_BITS)=57", b"VA_BITS)=39")
    loads = [(pfn << 12, row.tobytes()) for pfn, row in sorted(tree.frames.items())]
    (tmp_path / "core").write_bytes(elf(loads, notes=notes))
    (found,) = report(capfd, str(tmp_path / "core"))["ranges"]
    assert (found["va"], found["pa"], found["size"]) == (va + 0x3000, 0x8001_3000, 0xD000)
    assert (found["leaf_size"], found["block"], found["count"]) == (4096, 65536, 13)


def test_a_contiguous_run_is_one_block_of_the_tlb(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """16 neighbouring 4K entries with the contiguous hint make 64 KiB (Arm ARM, D8.7, "The Contiguous bit")."""
    fmt = FORMATS["arm64-4k-va48-pa48"]
    tree = Tree(fmt)
    va = 0xFFFF_8000_8000_0000
    tree.map(va, va + 0x10000, 0, 0x4020_0000, fmt.bits(AF=1, SH=3) | fmt.cont_mask)
    tree.map(va + 0x10000, va + 0x12000, 0, 0x4021_0000, fmt.bits(AF=1, SH=3))
    notes = (
        b"OSRELEASE=7.2.13\nPAGESIZE=4096\nNUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10\n"
        b"NUMBER(kimage_voffset)=0x0\nNUMBER(PHYS_OFFSET)=0x40000000\nSYMBOL(swapper_pg_dir)=80000\n"
    )
    loads = [(pfn << 12, row.tobytes()) for pfn, row in sorted(tree.frames.items())]
    (tmp_path / "core").write_bytes(elf(loads, notes=notes, machine=183))
    joined, plain = report(capfd, str(tmp_path / "core"))["ranges"]
    assert (joined["va"], joined["pa"], joined["count"], joined["block"]) == (va, 0x4020_0000, 16, 65536)
    assert (plain["va"], plain["block"]) == (va + 0x10000, 4096)


# The laws -----------------------------------------------------------------------------------------------------------


def iomem(guest: Path, step: int, tmp_path: Path) -> str:
    """The /proc/iomem of the moment that a core was taken."""
    if guest.name.startswith("loongarch64"):
        capture = open_capture(guest.name)
        text = capture[next(name for name in capture if name.startswith(f"{step}-"))].read("/proc/iomem")
    else:
        with tarfile.open(guest / "facts.tar.xz") as tar:
            name = next(each for each in tar.getnames() if each.startswith(f"{step}-") and each.endswith("proc_iomem"))
            member = tar.extractfile(name)
            assert member is not None
            text = member.read().decode()
    (tmp_path / f"iomem-{step}").write_text(text)
    return str(tmp_path / f"iomem-{step}")


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("guest", [X86_LA57, ARM64, RISCV, LOONGARCH], ids=lambda guest: guest.name.split("-")[0])
def test_the_laws_hold_on_real_kernels(
    guest: Path, step: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = report(capfd, core(guest, step), "--check", "--iomem", iomem(guest, step, tmp_path))
    assert found["verdict"] == "expected"
    assert [(law["law"], law["holds"], law["breaches"]) for law in found["laws"]] == [
        ("page-tables", True, []), ("direct-map", True, []), ("vmemmap", True, []),
    ]  # fmt: skip


@pytest.mark.parametrize("guest", [X86, ARM64], ids=lambda guest: guest.name.split("-")[0])
def test_memory_that_is_gone_must_not_be_mapped(guest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = printed(capfd, core(guest, 1), "--check", "--iomem", iomem(guest, 0, tmp_path), code=1)
    assert "✗ direct-map" in out
    assert "512 MiB, but is no memory" in out
    assert "✗ vmemmap" in out
    assert "8 MiB stay taken" in out


@pytest.mark.parametrize("guest", [X86, ARM64], ids=lambda guest: guest.name.split("-")[0])
def test_memory_that_is_there_must_be_mapped(guest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = printed(capfd, core(guest, 0), "--check", "--iomem", iomem(guest, 1, tmp_path), code=1)
    assert "is not mapped at" in out
    assert "the struct pages of PFN" in out


def test_a_law_is_not_checked_without_what_it_needs(capfd: pytest.CaptureFixture[str]) -> None:
    laws = report(capfd, core(X86), "--check")["laws"]
    assert [law["holds"] for law in laws] == [True, None, None]


# What cannot be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere"], "No such file"),
        (["/dev/null"], "no regular file"),
        ([core(X86), "--area", "vmemap"], "did you mean vmemmap?"),
        ([core(X86), "--from", "middle"], "not an address"),
        ([core(X86), "--from", "2000", "--to", "1000"], "not below"),
        ([core(X86), "--register", "cr3"], "not a register"),
        ([core(X86), "--register", "rip=0x1000"], "rip does not say where page tables are"),
        ([core(X86), "--ram", "4G"], "PA:OFFSET:SIZE"),
        ([core(X86), "--diff", core(ARM64)], "page tables of arm64"),
        ([core(X86), "--summary", "--check"], "one of --summary"),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(args: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pagetables", *args]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_a_dump_without_one_of_its_tables_says_which(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dump = ElfCore(core(RISCV))
    notes = next(note.desc for note in dump.notes if note.name == "VMCOREINFO")
    pfns = [pfn for span in dump.frames for pfn in range(*span)]
    gone = next(pfn for pfn in reversed(pfns) if pfn != dump.root().pfn)
    loads = [(pfn << 12, dump.read(pfn << 12, 4096)) for pfn in pfns if pfn != gone]
    (tmp_path / "core").write_bytes(elf(loads, notes=notes))
    assert f"table at pa={gone << 12:#x}" in printed(capfd, str(tmp_path / "core"), "--leaves", code=1)
    assert main(["pagetables", str(tmp_path / "core")]) == 2
    assert f"page table at {gone << 12:#x} is missing" in capfd.readouterr().err


class Counting:
    """A reader that counts the frames that it is asked for."""

    def __init__(self, reader: TableReader) -> None:
        self.reader, self.frames = reader, 0

    def tables(self, pfns: U64) -> U64:
        self.frames += pfns.size
        return self.reader.tables(pfns)


@pytest.mark.parametrize("guest", [X86, ARM64, RISCV_PMEM, LOONGARCH], ids=lambda guest: guest.name)
def test_one_walk_finds_what_a_walk_for_ranges_and_a_walk_for_tables_find(guest: Path) -> None:
    """Every table is read once, whether its ranges, its holes or the table itself are wanted."""
    source = open_tables(Path(core(guest)))
    root, counting = source.root, Counting(source.memory)
    seen = read_tables_of(replace(source, memory=counting))
    assert counting.frames == seen.found.tables == seen.tables.frame.size
    alone = ptwalk(source.reader, root)
    for name in ("va", "size", "pa", "height", "bits", "entry", "rights", "mapped"):
        assert np.array_equal(getattr(alone, name), getattr(seen.found, name)), name
    listed = tables(source.reader, root.fmt, root.pfn, root_index=root.index, va_start=root.fmt.start)
    for name in listed._fields:
        assert np.array_equal(getattr(listed, name), getattr(seen.tables, name)), name


@pytest.mark.parametrize("part", range(4))
def test_a_spoiled_dump_is_shown_or_refused_in_one_line(
    part: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Entries, headers and lengths overwritten, cut off or repeated; MEMHP_FUZZ_DUMPS says how many, MEMHP_FUZZ_SEED
    which.
    """
    chance = random.Random(f"dumps {SEED} {part}")
    dumps = [*(bytearray(_plain(guest)) for guest in (RISCV, LOONGARCH, X86, ARM64, S390, POWER)), _stand_alone()]
    for _ in range(SPOILED // 4):
        data = bytearray(chance.choice(dumps))
        for _ in range(chance.choice((1, 4, 64))):
            at = chance.randrange(0, chance.choice((64, 2048, len(data) - 8)))
            how = chance.randrange(4)
            if how == 0:
                data[at : at + 8] = chance.randbytes(8)
            elif how == 1:
                other = chance.randrange(0, len(data) - 8) & ~7
                data[at & ~7 : (at & ~7) + 8] = data[other : other + 8]
            elif how == 2:
                data[at] ^= 1 << chance.randrange(8)
            else:
                page = chance.randrange(0, len(data) - 4096) & ~4095
                data[page : page + 4096] = data[page : page + 8] * 512
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        (tmp_path / "core").write_bytes(data)
        option = chance.choice(([], ["--leaves"], ["--summary"], ["--check"]))
        code = main(["pagetables", str(tmp_path / "core"), *option])
        err = capfd.readouterr().err
        assert code in (0, 1, 2)
        complaints = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert len(complaints) == (code == 2)
        assert all(line.startswith("memhp: ") for line in complaints)


@cache
def _stand_alone() -> bytes:
    """A dump in s390's own format."""
    memory = memory_of_s390(ElfCore(core(S390)))
    return s390_header(0xA8190173618F23FE, max(memory)) + s390_segments(memory) + END_MARK


@cache
def _plain(guest: Path) -> bytes:
    """A guest's core, not compressed."""
    return lzma.decompress(Path(core(guest)).read_bytes())
