"""``/proc/kpageflags`` of kernels up to 6.12, which say NOPAGE of a page that is not online, and of 7.2, which say
nothing (``fs/proc/page.c:kpageflags_read``, ``kpage_read``): what is read of both is the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import numpy as np
import pytest

from memhp.facts import memory_blocks
from memhp.facts.kpageflags import KEPT, of_file, online_pages, read
from memhp.facts.open_source import open_source
from memhp.facts.source import Source
from memhp.linux.fs.proc.page import KPF_NOPAGE
from memhp.spans import Span

SIZE = 16 << 20
PAGES = SIZE >> 12
NOPAGE = {"6.12": 1 << KEPT["NOPAGE"], "7.2": 0}
IOMEM = f"{3 * SIZE:08x}-{5 * SIZE + SIZE // 2 - 1:08x} : System RAM\n"
"""Half of the last block is no System RAM: a section that is not there, in a block of several."""


def machine(root: Path, iomem: str = IOMEM) -> Source:
    """Three memory blocks: one online, one offline, half of one online."""
    memory = root / "sys/devices/system/memory"
    for index, state in ((3, "online"), (4, "offline"), (5, "online")):
        (memory / f"memory{index}").mkdir(parents=True)
        (memory / f"memory{index}" / "state").write_text(f"{state}\n")
    (memory / "block_size_bytes").write_text(f"{SIZE:x}\n")
    (root / "proc").mkdir()
    if iomem:
        (root / "proc/iomem").write_text(iomem)
    return open_source(root)


def kernel(root: Path, release: str) -> Path:
    """What that kernel shows: 100 pages of each online block are free, 7 reserved, the others the kernel's own."""
    flags = np.full(6 * PAGES, NOPAGE[release], dtype=np.uint64)
    for block, count in ((3, PAGES), (5, PAGES // 2)):
        flags[block * PAGES : block * PAGES + count] = 0
        flags[block * PAGES : block * PAGES + 100] = 1 << KEPT["BUDDY"]
        flags[block * PAGES + 100 : block * PAGES + 107] = 1 << KEPT["RESERVED"]
    path = root / "kpageflags"
    path.write_bytes(flags.tobytes())
    return path


@pytest.mark.parametrize("release", NOPAGE)
def test_what_is_not_online_is_no_page_in_a_summary(release: str, tmp_path: Path) -> None:
    source = machine(tmp_path)
    memory = memory_blocks.read(source)
    spans = [(block.name, Span(block.index * PAGES, (block.index + 1) * PAGES)) for block in memory.blocks]
    text = of_file(kernel(tmp_path, release), spans, online_pages(source, memory, 4096)) or ""
    assert text.splitlines() == [
        f"memory3\t0x0\t{PAGES - 107}\t{3 * PAGES + 107:#x}\t{4 * PAGES - 1:#x}",
        f"memory3\t0x400\t100\t{3 * PAGES:#x}\t{3 * PAGES + 99:#x}",
        f"memory3\t0x100000000\t7\t{3 * PAGES + 100:#x}\t{3 * PAGES + 106:#x}",
        f"memory4\t0x100000\t{PAGES}\t{4 * PAGES:#x}\t{5 * PAGES - 1:#x}",
        f"memory5\t0x0\t{PAGES // 2 - 107}\t{5 * PAGES + 107:#x}\t{5 * PAGES + PAGES // 2 - 1:#x}",
        f"memory5\t0x400\t100\t{5 * PAGES:#x}\t{5 * PAGES + 99:#x}",
        f"memory5\t0x100000\t{PAGES // 2}\t{5 * PAGES + PAGES // 2:#x}\t{6 * PAGES - 1:#x}",
        f"memory5\t0x100000000\t7\t{5 * PAGES + 100:#x}\t{5 * PAGES + 106:#x}",
    ]
    (tmp_path / "kpageflags.tsv").write_text(text)
    shown = [(run.block, run.kind, run.pages) for run in read(source, memory, 4096)]
    assert shown == [
        (3, "kernel", PAGES - 107), (3, "free", 100), (3, "reserved", 7),
        (5, "kernel", PAGES // 2 - 107), (5, "free", 100), (5, "hole", PAGES // 2), (5, "reserved", 7),
    ]  # fmt: skip


@pytest.mark.parametrize("flags", NOPAGE.values())
def test_a_summary_that_has_an_offline_block_says_nothing_of_its_pages(flags: int, tmp_path: Path) -> None:
    source = machine(tmp_path)
    (tmp_path / "kpageflags.tsv").write_text(f"memory4\t{flags:#x}\t{PAGES}\t{4 * PAGES:#x}\t{5 * PAGES - 1:#x}\n")
    assert read(source, memory_blocks.read(source), 4096) == ()


@pytest.mark.parametrize("iomem", ["", "00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n"])
def test_without_addresses_all_of_an_online_block_is_taken_for_online(iomem: str, tmp_path: Path) -> None:
    source = machine(tmp_path, iomem)
    assert list(online_pages(source, memory_blocks.read(source), 4096)) == [
        Span(3 * PAGES, 4 * PAGES), Span(5 * PAGES, 6 * PAGES),
    ]  # fmt: skip


def test_the_kernels_number_of_the_flag_is_the_readers() -> None:
    assert KEPT["NOPAGE"] == KPF_NOPAGE
