"""The page tables of a capture: what is written reads as the memory that it was taken from."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captures import DATA
from memhp.facts.elfcore import ElfCore
from memhp.hw.walker import leaves, tables
from memhp.target.captures.tables_core import tables_core

GUESTS = sorted(path.parent for path in (DATA / "ptcores").glob("*/0-before/pt.elf.xz"))


@pytest.fixture(scope="module", params=GUESTS, ids=lambda path: path.parent.name)
def cores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ElfCore, ElfCore, Path]:
    """The core of a real guest's tables, and what is written of it."""
    real = ElfCore(request.param / "pt.elf.xz")
    (noted,) = (note.desc for note in real.notes if note.name == "VMCOREINFO")
    path = tmp_path_factory.mktemp("core") / "pt.elf.xz"
    path.write_bytes(tables_core(real, real.info, noted))
    return real, ElfCore(path), path


def test_every_table_and_every_leaf_is_there_again(cores: tuple[ElfCore, ElfCore, Path]) -> None:
    real, again, _ = cores
    root = real.root()
    assert again.root() == root
    assert replace(again.info, where="") == replace(real.info, where="")
    for found in (tables, leaves):
        mine, theirs = (found(core, root.fmt, root.pfn, root_index=root.index) for core in (again, real))
        for column in ("va", "frame") if found is tables else ("va", "pa", "entry"):
            assert np.array_equal(getattr(mine, column), getattr(theirs, column))


def test_nothing_but_tables_is_in_it(cores: tuple[ElfCore, ElfCore, Path]) -> None:
    """LoongArch has one more of each height, to which entries lead that lead nowhere."""
    real, again, _ = cores
    root = real.root()
    found = set((walked := tables(real, root.fmt, root.pfn, root_index=root.index)).frame[walked.present].tolist())
    held = {frame for span in again.frames for frame in range(*span)}
    assert held >= found
    assert len(held - found) <= (root.fmt.root_height if real.arch == "loongarch64" else 0)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf")
def test_readelf_finds_nothing_wrong_with_it(cores: tuple[ElfCore, ElfCore, Path], tmp_path: Path) -> None:
    (tmp_path / "pt.elf").write_bytes(lzma.decompress(cores[2].read_bytes()))
    said = subprocess.run(["readelf", "-Whln", tmp_path / "pt.elf"], capture_output=True, text=True, check=True)
    assert "Warning" not in said.stderr + said.stdout
    assert "VMCOREINFO" in said.stdout
