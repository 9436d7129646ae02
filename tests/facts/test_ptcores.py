"""Page tables of real guests: our reader and walker find what an independent walk found, and what drgn finds.

Each folder of tests/data/ptcores is one guest, each folder below it a moment: ``pt.elf.xz`` holds nothing but the
frames of its page tables, ``ptwalk.txt.xz`` what another program's walk of the same memory printed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from captures import DATA
from drgn_oracle import drgn_walk
from memhp.facts.elfcore import ElfCore
from memhp.facts.ptwalk import ptwalk, ptwalk_lines
from memhp.hw.format import U64
from memhp.hw.walker import End, leaves, tables, translate

CORES = sorted((DATA / "ptcores").glob("*/*/pt.elf.xz"))
steps = pytest.mark.parametrize("path", CORES, ids=[f"{path.parts[-3]}-{path.parts[-2]}" for path in CORES])
befores = [path for path in CORES if path.parts[-2].startswith("0-")]
HEADER = re.compile(
    r"# (\S+) machine=(\d+) pgd_pa=0x([0-9a-f]+) levels=(\d) va_bits=(\d+) page=(\d+)"
    r" tables=(\d+) leaves=(\d+) merged=(\d+)(?: invalid_tables=\[(.*)\])?"
)


@cache
def core(path: Path) -> ElfCore:
    return ElfCore(path)


def ptwalk_of(path: Path) -> tuple[re.Match[str], list[str]]:
    header, *lines = lzma.decompress(path.with_name("ptwalk.txt.xz").read_bytes()).decode().splitlines()
    match = HEADER.fullmatch(header)
    assert match
    return match, lines


def test_there_are_eighteen_guests_of_four_architectures() -> None:
    assert len(befores) == 18
    assert {core(path).arch for path in befores} == {"x86_64", "arm64", "riscv64", "loongarch64"}


@steps
def test_the_ranges_are_those_of_the_independent_walk(path: Path) -> None:
    _, lines = ptwalk_of(path)
    assert list(ptwalk_lines(ptwalk(core(path), core(path).root()))) == lines


@steps
def test_root_format_and_counts_are_those_of_the_independent_walk(path: Path) -> None:
    header, _ = ptwalk_of(path)
    release, _, pgd, levels, va_bits, page, count, leaf_count, merged, shared = header.groups()
    reader = core(path)
    root = reader.root()
    fmt = root.fmt
    assert reader.info.release == release
    assert (root.pfn << fmt.page_shift) + 8 * root.index == int(pgd, 16)
    assert (len(fmt.levels), fmt.va_bits, fmt.page_size) == (int(levels), int(va_bits), int(page))
    tables_of_nothing = [hex(fmt.table_pfn(none) << fmt.page_shift) for none in fmt.none[1:]]
    assert tables_of_nothing == ([] if shared is None else shared.replace("'", "").split(", "))
    found = ptwalk(reader, root)
    assert (found.tables, found.leaves, len(found)) == (int(count), int(leaf_count), int(merged))
    assert not found.missing.frame.size


@steps
def test_the_core_holds_exactly_the_tables_that_the_walk_reaches(path: Path) -> None:
    reader = core(path)
    root = reader.root()
    reached = tables(reader, root.fmt, root.pfn)
    assert reached.present.all()
    held = [pfn for span in reader.frames for pfn in range(*span)]
    shared = {root.fmt.table_pfn(none) for none in root.fmt.none[1:]}
    assert sorted(set(reached.frame.tolist()) | shared) == held


@steps
def test_what_a_leaf_maps_is_not_in_the_core(path: Path) -> None:
    reader = core(path)
    root = reader.root()
    held = [pfn for span in reader.frames for pfn in range(*span)]
    found = leaves(reader, root.fmt, root.pfn, va_start=1 << 63)
    base = np.unique(found.pa[found.height == 0] >> np.uint64(root.fmt.page_shift))
    outside = base[~np.isin(base, np.array(held, dtype=np.uint64))]
    with pytest.raises(KeyError):
        reader.tables(outside[:1])


@pytest.mark.parametrize("path", befores, ids=[path.parts[-3] for path in befores])
def test_every_leaf_translates_to_itself(path: Path) -> None:
    reader = core(path)
    root = reader.root()
    found = leaves(reader, root.fmt, root.pfn, va_start=1 << 63)
    some = slice(None, None, max(1, found.va.size // 5000))
    there = translate(reader, root.fmt, root.pfn, found.va[some] + np.uint64(0x123))
    assert there.mapped.all()
    assert (there.pa == found.pa[some] + np.uint64(0x123)).all()
    assert (there.height == found.height[some]).all()


def addresses(reader: ElfCore, count: int) -> U64:
    """Random kernel addresses: half anywhere in the kernel's half, half in or right behind what is mapped."""
    root = reader.root()
    random = np.random.default_rng(count)
    bottom = root.fmt.canonical(1 << (root.fmt.va_bits - 1) if root.fmt.sign_extended else 0)
    anywhere = random.integers(bottom, (1 << 64) - 1, count // 2, dtype=np.uint64)
    found = ptwalk(reader, root)
    pick = random.integers(0, len(found), count - count // 2)
    near = found.va[pick] + random.integers(0, found.size[pick] + np.uint64(root.fmt.page_size), dtype=np.uint64)
    return np.concatenate([anywhere, near])


@pytest.mark.parametrize(
    "path",
    [path for path in befores if path.parts[-3].split("-")[0] in {"x86_64", "arm64"}],
    ids=lambda path: path.parts[-3],
)
def test_ten_thousand_random_addresses_translate_as_in_drgn(path: Path) -> None:
    reader = core(path)
    note = next(note for note in reader.notes if note.name == "VMCOREINFO")
    spans = [(load.pa, load.size) for load in reader.loads]
    follow = drgn_walk(reader.arch, note.desc, reader.info.symbol("swapper_pg_dir"), spans, reader.read)
    vas = addresses(reader, 10_000)
    root = reader.root()
    ours = translate(reader, root.fmt, root.pfn, vas)
    assert [pa if mapped else None for pa, mapped in zip(ours.pa.tolist(), ours.mapped.tolist(), strict=True)] == [
        follow(va) for va in vas.tolist()
    ]
    assert 1000 < ours.mapped.sum() < 9500
    assert set(ours.end.tolist()) <= {End.MAPPED, End.HOLE}
