"""The kernel's own page-table dump: read back, made again from page tables, and held against another walk."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from pathlib import Path

import pytest

from captures import DATA, captures, open_capture
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.facts.ptdump import Event, Marker, Section, Skipped, dump, parse, render
from memhp.facts.ptwalk import ptwalk
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.walker import ALL
from memhp.linux.arch.arm64 import format as arm64
from memhp.linux.arch.arm64.mm.ptdump import STYLE as ARM64
from memhp.linux.arch.registry import port
from memhp.linux.arch.riscv.mm.ptdump import STYLE as RISCV64
from memhp.linux.arch.x86 import format as x86
from memhp.linux.arch.x86.mm.dump_pagetables import STYLE as X86_64
from memhp.linux.formats import FORMATS
from memhp.linux.mm.ptdump_style import Line, Style
from memhp.linux.port import Root
from trees import Tree

DUMP = "/sys/kernel/debug/kernel_page_tables"
FORMAT_OF = {"arm64-custom-arm64-64k-virtio-mem-default": "arm64-64k-va52-pa52"} | {
    "riscv64-custom-riscv64-kmem-map-ram-mom1": "riscv64-sv57"
}


def kernel_dumps() -> list[tuple[str, str]]:
    return [(name, step) for name in captures() if name in FORMAT_OF for step in open_capture(name)]


def text_of(name: str, step: str) -> str:
    return open_capture(name)[step].read(DUMP)


kernels = pytest.mark.parametrize(("name", "step"), kernel_dumps())


def style_of(name: str) -> Style:
    return port(name.partition("-")[0]).ptdump_style


def test_there_are_twelve_dumps_by_real_kernels() -> None:
    assert len(kernel_dumps()) == 12


@kernels
def test_a_kernels_dump_is_printed_again_as_it_was(name: str, step: str) -> None:
    text = text_of(name, step)
    assert render(parse(text, style_of(name)), style_of(name)) == text


def tree_of(events: list[Event], name: str) -> tuple[Tree, list[Marker]]:
    """Page tables that a kernel would dump like this, and the sections as markers.

    A hole at some level means that the table at that level is there, and nothing below.
    """
    fmt = FORMATS[FORMAT_OF[name]]
    tree = Tree(fmt)
    markers: list[Marker] = []
    pending: list[str] = []
    at = 0
    for event in events:
        if isinstance(event, Section):
            pending.append(event.name)
            if markers:
                markers.append(Marker(at, event.name))
        elif isinstance(event, Line):
            if not markers:
                markers.append(Marker(event.start, pending[0]))
            at = event.end or ALL
            height = len(fmt.levels) - 1 if event.level == "PGD" else HEIGHT_NAMES.index(event.level)
            if event.prot:
                pa = event.pa or 0x4000_0000
                tree.map(event.start, at, height, pa, event.prot)
            else:
                step = fmt.levels[height].size * fmt.levels[height].entries
                for va in range(event.start, at, step):
                    tree.table_at(va, height)
    return tree, markers


@kernels
def test_page_tables_like_the_kernels_are_dumped_like_the_kernels(name: str, step: str) -> None:
    text = text_of(name, step)
    events = parse(text, style_of(name))
    tree, markers = tree_of(events, name)
    if name.startswith("riscv64"):
        markers = riscv_markers(events)
    assert render(dump(tree, tree.root, markers), style_of(name)) == text


def riscv_markers(events: list[Event]) -> list[Marker]:
    """Addresses between the ranges around each section: riscv's dump prints no holes, so the text leaves a choice."""
    markers: list[Marker] = []
    for i, event in enumerate(events):
        if isinstance(event, Section):
            before = [e.end for e in events[:i] if isinstance(e, Line)]
            markers.append(Marker(before[-1] if before else 0xFF00_0000_0000_0000, event.name))
    return markers


SV39 = FORMATS["riscv64-sv39"]


@pytest.mark.parametrize(
    ("style", "line", "text"),
    [
        (
            X86_64,
            Line(0xFFFF888000000000, 0xFFFF88803FE00000, "pmd", x86.P | x86.RW | x86.PS | x86.G | x86.XD),
            "0xffff888000000000-0xffff88803fe00000        1022M     RW         PSE     GLB NX pmd",
        ),
        (
            X86_64,
            Line(0xFFFFC90000000000, 0xFFFFC90000001000, "pte", x86.P | x86.US | x86.PWT | x86.PCD | x86.PS),
            "0xffffc90000000000-0xffffc90000001000           4K USR ro PWT PCD     PAT     x  pte",
        ),
        (
            X86_64,
            Line(0x8000000000, 0xFFFF800000000000, "pgd", 0),
            "0x0000008000000000-0xffff800000000000   17179737600G                               pgd",
        ),
        (
            ARM64,
            Line(0xFFFF800000000000, 0xFFFF800000200000, "PMD", 1 | arm64.AP_USER | arm64.NG | arm64.GP | 4 << 2),
            "0xffff800000000000-0xffff800000200000           2M PMD   USR RW x         NG     BLK     GP DEVICE/nGnRE",
        ),
        (ARM64, Line(0xFFFF800000000000, 0, "PGD", 0), "0xffff800000000000-0x0000000000000000         128T PGD"),
        (
            RISCV64,
            Line(0xFFFFFFC600000000, 0xFFFFFFC600010000, "PTE", 1 << 63 | 2 << 61 | 1 << 8 | 0xE7, 0x10000000),
            "0xffffffc600000000-0xffffffc600010000    0x0000000010000000        64K PTE"
            " N MT(IO) RSW(1) D A G . . W R V",
        ),
    ],
)
def test_one_range_in_each_architectures_columns(style: Style, line: Line, text: str) -> None:
    assert style.format(line) == text
    assert style.parse(text) == line


def test_an_arm64_entry_that_is_not_valid_is_no_block() -> None:
    line = Line(0, 0x20_0000, "PMD", arm64.AF | arm64.UXN)
    assert ARM64.format(line).split("PMD", 1)[1] == " F     RW x      AF            UXN    MEM/NORMAL"
    back = ARM64.parse(ARM64.format(line))
    assert back is not None
    assert ARM64.format(back) == ARM64.format(line)


def x86_tree() -> Tree:
    return Tree(FORMATS["x86_64-4level"])


def test_x86_passes_one_section_an_entry() -> None:
    """note_page() of x86 moves on by one marker at a time, so sections without entries of their own come late."""
    markers = [
        Marker(0, "User Space"),
        Marker(1 << 63, "Kernel Space"),
        Marker(0xFFFF_8880_0000_0000, "Low Kernel Mapping"),
        Marker(0xFFFF_C900_0000_0000, "vmalloc() Area"),
    ]
    blank = " " * 30
    tree = x86_tree()
    assert render(dump(tree, tree.root, markers), X86_64) == (
        "---[ User Space ]---\n"
        f"0x0000000000000000-0xffff880000000000    16777096T {blank}pgd\n"
        "---[ Kernel Space ]---\n"
        f"0xffff880000000000-0xffff888000000000         512G {blank}pgd\n"
        "---[ Low Kernel Mapping ]---\n"
        f"0xffff888000000000-0xffffc90000000000       66048G {blank}pgd\n"
        "---[ vmalloc() Area ]---\n"
        f"0xffffc90000000000-0x0000000000000000          55T {blank}pgd\n"
    )


def test_x86_ends_a_range_where_the_rights_above_it_change() -> None:
    tree = x86_tree()
    va = 0xFFFF_8880_0000_0000
    tree.map(va, va + 0x40_0000, 0, 0, x86.RW | x86.G)
    upper = tree.frames[tree.table_at(va, 1)]
    upper[1] = int(upper[1]) | x86.XD
    lines = [e for e in dump(tree, tree.root, [Marker(0, "User Space")]) if isinstance(e, Line) and e.prot]
    assert [(line.start, line.end) for line in lines] == [(va, va + 0x20_0000), (va + 0x20_0000, va + 0x40_0000)]
    assert lines[0].prot == lines[1].prot


def test_x86_prints_only_so_many_ranges_of_a_section() -> None:
    tree = x86_tree()
    va = 0xFFFF_FF00_0000_0000
    for i in range(10):
        tree.map(va + i * 0x2000, va + i * 0x2000 + 0x1000, 0, i * 0x5000, x86.G)
    events = list(
        dump(tree, tree.root, [Marker(0, "User Space"), Marker(va, "ESPfix Area", 16), Marker(va + 0x20_0000, "next")])
    )
    at = events.index(Section("ESPfix Area"))
    assert all(isinstance(event, Line) for event in events[at + 1 : at + 17])
    assert events[at + 17 : at + 19] == [Skipped(4), Section("next")]
    assert "... 4 entries skipped ... \n" in render(events, X86_64)
    assert parse(render(events, X86_64), X86_64)[at + 17] == Skipped(4)


def test_riscv_names_the_root_pgd_and_shows_where_a_range_starts() -> None:
    tree = Tree(SV39)
    va = SV39.canonical(1 << 38)
    tree.map(va, va + (2 << 30), 2, 0x8000_0000, SV39.bits(R=1, W=1, A=1, D=1, G=1))
    tree.map(va + (4 << 30), va + (4 << 30) + 0x2000, 0, 0x1_0000_0000, SV39.bits(R=1, A=1, G=1))
    text = render(dump(tree, tree.root, [Marker(va, "Linear mapping"), Marker(va + (1 << 30), "second half")]), RISCV64)
    assert text == (
        "---[ Linear mapping ]---\n"
        "0xffffffc000000000-0xffffffc040000000    0x0000000080000000         1G PGD .   ..     ..   D A G . . W R V\n"
        "---[ second half ]---\n"
        "0xffffffc040000000-0xffffffc080000000    0x00000000c0000000         1G PGD .   ..     ..   D A G . . W R V\n"
        "0xffffffc100000000-0xffffffc100002000    0x0000000100000000         8K PTE .   ..     ..   . A G . . . R V\n"
    )


def test_arm64_two_level_tables_name_blocks_pmd_and_holes_pgd() -> None:
    fmt = FORMATS["arm64-16k-va36-pa48"]
    tree = Tree(fmt)
    va = fmt.canonical(0)
    tree.map(va, va + fmt.levels[1].size, 1, 0x4000_0000, fmt.bits(AF=1, SH=3, UXN=1, PXN=1))
    lines = [e for e in dump(tree, tree.root, [Marker(va, "Linear Mapping start")]) if isinstance(e, Line)]
    assert [line.level for line in lines] == ["PMD", "PGD"]


def test_arm64_passes_one_more_section_at_its_first_entry_and_two_between_ranges() -> None:
    fmt = FORMATS["arm64-4k-va39-pa48"]
    tree = Tree(fmt)
    va, size = fmt.canonical(0), fmt.levels[-1].size
    names = [(va, "a"), (va, "b"), (va, "c"), (va + size, "d"), (va + size, "e"), (va + 5 * size, "f")]
    events = list(dump(tree, tree.root, [Marker(*marker) for marker in names]))
    assert events == [
        Section("a"),
        Section("b"),
        Line(va, va + size, "PGD", 0),
        Section("c"),
        Section("d"),
        Line(va + size, va + 2 * size, "PGD", 0),
        Section("e"),
        Line(va + 2 * size, va + 5 * size, "PGD", 0),
        Section("f"),
        Line(va + 5 * size, 0, "PGD", 0),
    ]


def test_a_lost_table_cannot_be_dumped() -> None:
    tree = Tree(SV39)
    tree.map(SV39.canonical(1 << 38), SV39.canonical(1 << 38) + 0x1000, 0, 0, SV39.bits(R=1))
    del tree.frames[max(tree.frames)]
    with pytest.raises(BadInput, match="is missing"):
        list(dump(tree, tree.root, [Marker(0, "all")]))


def test_a_line_that_is_no_range_is_named() -> None:
    with pytest.raises(BadInput, match=r"kernel_page_tables:2: not a line of a arm64 page-table dump"):
        parse("---[ a ]---\nhello\n", ARM64, where="kernel_page_tables")


cores = sorted((DATA / "ptcores").glob("*/0-before/pt.elf.xz"))


@pytest.mark.parametrize("path", cores, ids=[path.parts[-3] for path in cores])
def test_a_guests_dump_covers_what_the_walk_with_physical_addresses_covers(path: Path) -> None:
    """Level and extent of what is mapped, as the kernel's dump would show it, against the ranges of ptwalk."""
    core = ElfCore(path)
    root: Root = core.root()
    style = port(core.arch).ptdump_style
    text = render(dump(core, root, [Marker(0, "all")]), style)
    bottom = 1 << 63
    mapped = [line for line in parse(text, style) if isinstance(line, Line) and line.prot & 1 and line.start >= bottom]
    names = ["PGD" if h == root.fmt.root_height and h != 1 else name for h, name in enumerate(HEIGHT_NAMES)]
    found = ptwalk(core, root)
    want = [
        (va, (va + size) % ALL, names[h])
        for va, size, h in zip(found.va.tolist(), found.size.tolist(), found.height.tolist(), strict=True)
    ]
    assert joined((line.start, line.end, line.level.upper()) for line in mapped) == joined(want)
    assert sum(not isinstance(e, Section) for e in parse(text, style)) == text.count("\n") - 1


def joined(ranges: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    out: list[tuple[int, int, str]] = []
    for start, end, level in ranges:
        if out and out[-1][1] == start and out[-1][2] == level:
            out[-1] = (out[-1][0], end, level)
        else:
            out.append((start, end, level))
    return out
