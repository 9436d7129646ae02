"""Pages that DMA holds, found in the struct pages of real guests' memory: tables and notes are theirs, counts are set.

Where a struct page lies in RAM is taken from the walk of another program (ptwalk.txt).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

import drgn
import numpy as np
import pytest

from captures import DATA
from cores import elf, table_frames
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.capture import File
from memhp.facts.elfcore import ElfCore
from memhp.facts.kpageflags import KEPT, of_kinds, parse, summary
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.page_users import PageUsers
from memhp.facts.source import OSRELEASE, FileSource, Source
from memhp.facts.struct_pages import GUP_PIN_COUNTING_BIAS, StructPages
from memhp.facts.sysroot import write_sysroot
from memhp.facts.table_source import open_tables
from memhp.operate.blocks import BlockRange, read_blocks
from memhp.operate.why import why
from memhp.spans import Span, SpanSet

GUESTS = {
    "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39": 243,
    "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level": 62,
    "arm64-7.2.13+deb14-arm64-virtio-mem-48bit": 183,
}
"""Guests, and their machines' numbers in an ELF header."""
LINE = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+) .* pa=0x([0-9a-f]+)")
PAGES = 32768
"""Of a memory block, each with a struct page of 64 bytes."""


def step(name: str) -> Path:
    return next((DATA / "ptcores" / name).glob("1-*"))


@cache
def notes(name: str) -> dict[str, str]:
    info = ElfCore(step(name) / "pt.elf.xz").info
    assert info is not None
    return dict(info.lines)


@cache
def walked(name: str) -> list[str]:
    return lzma.decompress((step(name) / "ptwalk.txt.xz").read_bytes()).decode().splitlines()


def struct_page_at(name: str, va: int) -> int:
    """The physical address behind an address, as the other program's walk has it."""
    for line in walked(name):
        found = LINE.match(line)
        if found and int(found[1], 16) <= va < int(found[2], 16):
            return int(found[3], 16) + va - int(found[1], 16)
    raise AssertionError(f"{va:#x} is not mapped")


def vmemmap(name: str) -> int:
    """Where PFN 0 has its struct page: noted, but on x86-64 the documented VMEMMAP_START."""
    return int(notes(name).get("SYMBOL(vmemmap)", "ffffea0000000000"), 16)


def with_counts(
    name: str, first_pfn: int, counts: dict[int, int], path: Path, rest: dict[int, bytes] | None = None
) -> Path:
    """The guest's dump with the struct pages of a memory block, whose pages have these counts, others 1; or what is in
    `rest` from the struct page of a page on.
    """
    frames = table_frames(ElfCore(step(name) / "pt.elf.xz"))
    words = np.zeros((PAGES, 16), dtype=np.int32)
    words[:, int(notes(name)["OFFSET(page._refcount)"]) // 4] = 1
    for page, count in counts.items():
        words[page, int(notes(name)["OFFSET(page._refcount)"]) // 4] = count
    whole = bytearray(words.tobytes())
    for page, text in (rest or {}).items():
        whole[page * 64 : page * 64 + len(text)] = text
    data = bytes(whole)
    for at in range(0, len(data), 4096):
        frames[struct_page_at(name, vmemmap(name) + first_pfn * 64 + at)] = data[at : at + 4096]
    text = "\n".join(f"{key}={value}" for key, value in notes(name).items()).encode()
    path.write_bytes(elf(sorted(frames.items()), notes=text + b"\n", machine=GUESTS[name]))
    return path


def plugged(name: str) -> int:
    """A memory block that the guest got from virtio-mem and has online."""
    source = open_source(DATA / "ptcores" / name / "facts.tar.xz", step=step(name).name)
    (line,) = [each for each in source.read("/proc/iomem").splitlines() if "(virtio_mem)" in each][:1]
    return int(line.strip().partition("-")[0], 16) >> 27


@pytest.mark.parametrize("name", GUESTS)
def test_pages_whose_count_only_pins_reach_are_found_and_no_others(name: str, tmp_path: Path) -> None:
    first = plugged(name) * PAGES
    held = {5: GUP_PIN_COUNTING_BIAS + 1, 6: 2 * GUP_PIN_COUNTING_BIAS + 1, 9: 800, 31000: 1025, 32000: -5}
    pages = StructPages(open_tables(with_counts(name, first, held, tmp_path / "core")))
    assert pages.pinned(Span(first, first + PAGES)) == [
        Span(first + 5, first + 7), Span(first + 31000, first + 31001)
    ]  # fmt: skip
    assert pages.pinned(Span(first + 6, first + 8)) == [Span(first + 6, first + 7)]
    assert pages.reference_counts(Span(first, first + 10)).tolist() == [1, 1, 1, 1, 1, 1025, 2049, 1, 1, 800]


def test_struct_pages_that_the_dump_lacks_show_nothing(tmp_path: Path) -> None:
    name = next(iter(GUESTS))
    first = plugged(name) * PAGES
    pages = StructPages(open_tables(step(name) / "pt.elf.xz"))
    assert pages.pinned(Span(first, first + PAGES)) == []
    assert not pages.reference_counts(Span(first, first + PAGES)).any()


def test_notes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    name = next(iter(GUESTS))
    frames = table_frames(ElfCore(step(name) / "pt.elf.xz"))
    for key, value in (("SIZE(page)", "0"), ("OFFSET(page._refcount)", "4096"), ("SIZE(page)", "many")):
        text = "".join(f"{each}={value if each == key else old}\n" for each, old in notes(name).items()).encode()
        (tmp_path / "core").write_bytes(elf(sorted(frames.items()), notes=text, machine=243))
        with pytest.raises(BadInput):
            StructPages(open_tables(tmp_path / "core"))


def with_pins(machine: str, acquired: int | None) -> Source:
    """The machine with so many pins got, 1000 given back; None: its kernel does not count them."""
    source = open_source(machine)
    assert isinstance(source, FileSource)
    text = source.read("/proc/vmstat").replace("nr_foll_pin_acquired 0\nnr_foll_pin_released 0\n", "")
    counted = "" if acquired is None else f"nr_foll_pin_acquired {acquired}\nnr_foll_pin_released 1000\n"
    return FileSource(source.name, source.kind, {**source._files, "/proc/vmstat": File(text + counted, "vmstat")})


def test_why_names_pages_under_dma_when_the_memory_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
    block = plugged(name)
    core = with_counts(name, block * PAGES, {77: GUP_PIN_COUNTING_BIAS + 1}, tmp_path / "core")
    machine = f"{DATA / 'ptcores' / name / 'facts.tar.xz'}/{step(name).name}"
    asked = why(open_source(machine), str(block), open_tables(core))
    assert [each.reason for each in asked.blocks[0].obstacles][-1:] == ["signal backoff"]
    assert any("pins pages" in text for text in asked.remedies)
    assert not any("pinned" in text for text in asked.unseen)
    assert not any("--memory" in text for text in why(open_source(machine), str(block)).unseen)
    assert any("where the 7 pins are" in text for text in why(with_pins(machine, 1007), str(block)).unseen)
    assert any(text.startswith("pages pinned by") for text in why(with_pins(machine, None), str(block)).unseen)
    assert main(["why", str(block), "--machine", machine, "--memory", str(core)]) == 1
    assert f"1 page held by DMA, from PFN {block * PAGES + 77:#x} on" in capsys.readouterr().out.replace("\n    ", " ")


def test_blocks_tell_pinned_memory_from_what_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
    block = plugged(name)
    held = dict.fromkeys(range(70, 80), GUP_PIN_COUNTING_BIAS + 1)
    core = with_counts(name, block * PAGES, held, tmp_path / "core")
    guest = open_source(DATA / "ptcores" / name / "facts.tar.xz", step=step(name).name)
    write_sysroot(observe(guest), tmp_path / "root")
    lru = 1 << KEPT["LRU"]
    summary = f"memory{block}\t{lru:#x}\t{PAGES}\t{block * PAGES:#x}\t{(block + 1) * PAGES - 1:#x}\n"
    (tmp_path / "root" / "kpageflags.tsv").write_text(summary)
    source = open_source(tmp_path / "root")

    def use(core: Path | None) -> dict[str, int] | None:
        memory = open_tables(core) if core is not None else None
        ranges = read_blocks(source, use=True, kernel_memory=memory).ranges
        return next(each.use for each in ranges if each.first <= block <= each.last)

    assert use(core) == {"movable": (PAGES - 10) * 4096, "pinned": 10 * 4096}
    assert use(None) == {"movable": PAGES * 4096}
    assert main(["blocks", "--sysroot", str(tmp_path / "root"), "--use", "--memory", str(core)]) == 0
    assert "40 KiB pinned" in capsys.readouterr().out


VMEMMAP_LEAF = re.compile(r"0x([0-9a-f]+)-0x[0-9a-f]+ +(\d+)K")
KMEM = "riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1"


def blocks_of(name: str, moment: str) -> list[BlockRange]:
    """The memory blocks of a guest at a moment, with its page tables of then as the kernel's memory."""
    source = open_source(DATA / "ptcores" / name / "facts.tar.xz", step=moment)
    memory = open_tables(DATA / "ptcores" / name / moment / "pt.elf.xz")
    return read_blocks(source, use=True, kernel_memory=memory).ranges


@pytest.mark.parametrize("name", GUESTS)
def test_struct_pages_lie_where_another_program_saw_vmemmap_lead_to(name: str) -> None:
    """Of every frame that vmemmap maps in ptwalk.txt; all of it is memory of boot, as virtio-mem hosts none."""
    ranges = blocks_of(name, step(name).name)
    first = vmemmap(name) + min(each.start for each in ranges) // 4096 * 64
    last = vmemmap(name) + max(each.start + each.size for each in ranges) // 4096 * 64
    leaves = [(int(found[1], 16), int(found[2])) for line in walked(name) if (found := VMEMMAP_LEAF.match(line))]
    mapped = sum(size << 10 for va, size in leaves if first & ~0x1FFFFF <= va < last)
    assert sum((each.use or {}).get("memmap", 0) for each in ranges) == mapped > 0
    assert {each.memmap_on_memory for each in ranges} == {False}
    assert {each.added_by for each in ranges if each.use} == {"boot"}


def test_a_block_that_hosts_its_struct_pages_is_known_by_them() -> None:
    """kmem with memmap_on_memory: 2 MiB of each block of 128 MiB, of those that are offline too; a device in mode raw
    has its struct pages in RAM of boot, a 64th of 1 GiB.
    """
    for moment, count in (("3-kmem-added", 7), ("4-online", 7), ("6-removed", 0)):
        hosting = [each for each in blocks_of(KMEM, moment) if each.memmap_on_memory]
        assert [(each.driver, each.use) for each in hosting] == [("kmem", {"memmap": count << 21})] * bool(count)
    boot = {moment: blocks_of(KMEM, moment)[0].use for moment in ("0-before", "1-pmem-raw", "4-online")}
    assert boot == {"0-before": {"memmap": 1 << 24}, "1-pmem-raw": {"memmap": 1 << 25}, "4-online": {"memmap": 1 << 24}}


@pytest.mark.parametrize("reserved", [0, 1 << KEPT["RESERVED"]])
def test_a_blocks_own_struct_pages_are_told_by_their_flag_and_go_with_it(reserved: int, tmp_path: Path) -> None:
    """``PG_vmemmap_self_hosted`` is shown as OWNER_PRIVATE; until 6.10 such pages were reserved as well."""
    flags = np.full(PAGES, 1 << KEPT["BUDDY"], dtype=np.uint64)
    flags[:512] = reserved | 1 << 37
    flags[600] = 1 << KEPT["LRU"] | 1 << 37
    flags[700] = 1 << 37
    text = summary("memory33", 33 * PAGES, flags, SpanSet([Span(33 * PAGES, 34 * PAGES)]))
    kinds = {run.kind: run.pages for run in parse(text)}
    assert kinds == {"memmap": 512, "movable": 1, "kernel": 1, "free": PAGES - 514}
    assert of_kinds(flags, ["movable"]).sum() == 1
    write_sysroot(observe(open_source(DATA / "ptcores" / KMEM / "facts.tar.xz", step="4-online")), tmp_path / "root")
    (tmp_path / "root" / "kpageflags.tsv").write_text(text)
    source = open_source(tmp_path / "root")
    asked = why(source, "33")
    assert (asked.blocks[0].zones, asked.verdict) == (["Movable"], "goes")
    assert asked.blocks[0].use["memmap"] == 2 << 20
    assert [each.first for each in read_blocks(source, use=True).ranges if each.memmap_on_memory] == [33]


def test_why_names_the_blocks_whose_struct_pages_stand_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
    block = struct_page_at(name, vmemmap(name) + plugged(name) * PAGES * 64) >> 27
    machine = f"{DATA / 'ptcores' / name / 'facts.tar.xz'}/{step(name).name}"
    assert main(["why", str(block), "--machine", machine, "--memory", str(step(name) / "pt.elf.xz")]) == 1
    out = capsys.readouterr().out
    assert "struct pages" in out.splitlines()[1]
    assert f"holds struct pages of 4 other blocks, from {plugged(name)} on" in out
    assert "take away first the memory whose struct pages lie there" in out


def by_hand(program: Any, _: Path | None) -> None:
    """The few types that are asked for, in place of a kernel's debug information (include/linux/mm_types.h, mm/slab.h).

    Where `name` is in a cache, and `host` in a mapping, differs from kernel to kernel.
    """
    member = drgn.TypeMember
    word = program.int_type("unsigned long", 8, False)
    count = program.struct_type("atomic", 4, [member(program.int_type("int", 4, True), "counter")])
    text = program.pointer_type(program.int_type("char", 1, True))
    cache = program.struct_type("kmem_cache", 64, [member(text, "name")])
    slab = program.struct_type("slab", 64, [member(program.pointer_type(cache), "slab_cache", 64)])
    pointer = program.pointer_type(program.void_type())
    page = program.struct_type("page", 64, [
        member(word, "flags"), member(word, "compound_head", 64), member(pointer, "mapping", 192),
        member(count, "_mapcount", 384),
    ])  # fmt: skip
    types = {"page": page, "slab": slab}
    program.register_type_finder("test", lambda _p, kinds, name, file: types.get(name), enable_index=0)
    head = drgn.Object(program, word, 6)
    program.register_object_finder("test", lambda _p, name, flags, file: head if name == "PG_head" else None)
    program.set_enabled_object_finders(["test", *program.enabled_object_finders()])


def test_drgn_names_the_slab_caches_of_pages_on_every_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """drgn walks no page tables of RISC-V: addresses are translated for it."""
    monkeypatch.setattr("memhp.facts.page_users._load", by_hand)
    for name in GUESTS:
        first = plugged(name) * PAGES
        held = int(notes(name)["NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"])
        at = vmemmap(name) + (first + 20000) * 64
        slab = struct.pack("<QQ32xiI", 0, at, held, 1)
        rest = {4: slab, 5: slab, 90: slab, 20000: struct.pack("<Q8x", at + 16) + b"dentry\0"}
        source = open_tables(with_counts(name, first, {70: GUP_PIN_COUNTING_BIAS + 1}, tmp_path / name, rest))
        users = PageUsers(source, StructPages(source).layout, None)
        found = users.of(Span(first, first + 100), [Span(first + 70, first + 71)])
        assert [(each.what, each.name, each.pages) for each in found] == [
            ("slab", "dentry", 3), ("anonymous", "memory of processes", 1)
        ]  # fmt: skip
        assert users.of(Span(first + 5, first + 80), [])[0].pages == 1


@pytest.mark.parametrize(
    ("there", "told"), [(True, "no debug information of 7.2.13+deb14-cloud-amd64"), (False, "drgn is not installed")]
)
def test_why_says_what_keeps_drgn_from_telling(there: bool, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
    if not there:
        monkeypatch.setitem(sys.modules, "drgn", None)
    machine = open_source(DATA / "ptcores" / name / "facts.tar.xz", step=step(name).name)
    block = next(block.index for block in observe(machine).memory.blocks if block.zone == "DMA32")
    asked = why(machine, str(block), open_tables(step(name) / "pt.elf.xz"))
    assert (asked.verdict, asked.blocks[0].users) == ("unclear", [])
    assert any(told in text for text in asked.unseen)
    if there:
        asked = why(machine, str(block), open_tables(step(name) / "pt.elf.xz"), Path(__file__))
        assert any(f"{Path(__file__)}: {told}" in text for text in asked.unseen)


def test_memory_of_another_kernel_is_not_taken_for_the_machines() -> None:
    source = open_source(DATA / "ptcores" / KMEM / "facts.tar.xz", step="4-online")
    assert isinstance(source, FileSource)
    other = FileSource(source.name, source.kind, {**source._files, OSRELEASE: File("6.12.1-amd64\n", "osrelease")})
    memory = open_tables(DATA / "ptcores" / KMEM / "4-online" / "pt.elf.xz")
    assert why(source, "33", memory).verdict == "goes"
    with pytest.raises(BadInput, match=r"memory of Linux 7.2.13\+deb14-riscv64, and the machine runs 6.12.1-amd64"):
        why(other, "33", memory)
