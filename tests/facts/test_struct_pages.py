"""Pages that DMA holds, found in the struct pages of real guests' memory: tables and notes are theirs, counts are set.

Where a struct page lies in RAM is taken from the walk of another program (ptwalk.txt).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from captures import DATA
from cores import elf, table_frames
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.facts.kpageflags import KEPT
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.struct_pages import GUP_PIN_COUNTING_BIAS, StructPages
from memhp.facts.sysroot import write_sysroot
from memhp.facts.table_source import open_tables
from memhp.operate.blocks import read_blocks
from memhp.operate.why import why
from memhp.spans import Span

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


def with_counts(name: str, first_pfn: int, counts: dict[int, int], path: Path) -> Path:
    """The guest's dump with the struct pages of a memory block, whose pages have these counts, others 1."""
    frames = table_frames(ElfCore(step(name) / "pt.elf.xz"))
    words = np.zeros((PAGES, 16), dtype=np.int32)
    words[:, int(notes(name)["OFFSET(page._refcount)"]) // 4] = 1
    for page, count in counts.items():
        words[page, int(notes(name)["OFFSET(page._refcount)"]) // 4] = count
    data = words.tobytes()
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


def test_why_names_pages_under_dma_when_the_memory_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level"
    block = plugged(name)
    core = with_counts(name, block * PAGES, {77: GUP_PIN_COUNTING_BIAS + 1}, tmp_path / "core")
    machine = f"{DATA / 'ptcores' / name / 'facts.tar.xz'}/{step(name).name}"
    asked = why(open_source(machine), str(block), core)
    assert [each.reason for each in asked.blocks[0].obstacles][-1:] == ["signal backoff"]
    assert any("pins pages" in text for text in asked.remedies)
    assert not any("pinned" in text for text in asked.unseen)
    assert any("--memory" in text for text in why(open_source(machine), str(block)).unseen)
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
        ranges = read_blocks(source, use=True, kernel_memory=core).ranges
        return next(each.use for each in ranges if each.first <= block <= each.last)

    assert use(core) == {"movable": (PAGES - 10) * 4096, "pinned": 10 * 4096}
    assert use(None) == {"movable": PAGES * 4096}
    assert main(["blocks", "--sysroot", str(tmp_path / "root"), "--use", "--memory", str(core)]) == 0
    assert "40 KiB pinned" in capsys.readouterr().out
