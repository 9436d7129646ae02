"""Our lsmem against util-linux's, byte for byte: the program on this machine, and the output its authors expect."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captures import DATA, captures, facts, guests, open_capture
from memhp.errors import BadInput
from memhp.facts import lsmem, lsmem_output, memory_blocks
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks, State
from memhp.facts.observed import Facts
from memhp.facts.open_source import open_source
from memhp.facts.sysroot import write_sysroot

EVERYTHING = "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES"
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "--all": {"every_block": True},
    "--bytes": {"in_bytes": True},
    "--all --bytes --output ZONES,SIZE,NODE": {
        "every_block": True,
        "in_bytes": True,
        "output": ("ZONES", "SIZE", "NODE"),
    },
    "--output +ZONES": {"output": lsmem.columns("+ZONES")},
    "--output +zones,NODE": {"output": lsmem.columns("+zones,NODE")},
    f"--output {EVERYTHING}": {"output": lsmem.COLUMNS},
    "--output SIZE,RANGE": {"output": ("SIZE", "RANGE")},
    "--output BLOCK,REMOVABLE": {"output": ("BLOCK", "REMOVABLE")},
    "--output RANGE,SIZE,STATE --split STATE": {"output": ("RANGE", "SIZE", "STATE"), "split": ("STATE",)},
    "--output RANGE,SIZE --split none": {"output": ("RANGE", "SIZE"), "split": ()},
    "--split STATE,ZONES": {"split": ("STATE", "ZONES")},
    "--summary=only": {"table": False},
    "--summary=never": {"summary": False},
}
PLAIN = "arm64-6.12.107+deb13-arm64-16k-dumpcortex-a76"
"""A machine without hot-plugged memory."""
A_FEW = ("", "--all --bytes --output ZONES,SIZE,NODE", f"--output {EVERYTHING}")


@pytest.fixture(scope="session")
def program() -> lsmem.Release:
    """What the lsmem of this machine is like. Without one these tests fail: nothing else proves what they prove."""
    if shutil.which("lsmem") is None:
        pytest.fail("lsmem is not installed: install util-linux, which these tests compare with")
    version = subprocess.run(["lsmem", "--version"], capture_output=True, text=True, check=True).stdout
    return lsmem.release(version.split()[-1])


def real_lsmem(root: Path, options: str) -> str:
    command = ["lsmem", "--sysroot", str(root), *options.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout


def ours(machine: Facts, options: str, like: lsmem.Release) -> str:
    return lsmem.lsmem(machine.memory, memmap_on_memory=machine.params.memmap_on_memory, like=like, **OPTIONS[options])


@pytest.mark.parametrize("name", [*captures(), *guests()])
def test_every_step_of_every_capture_is_listed_as_the_program_lists_it(
    name: str, tmp_path: Path, program: lsmem.Release
) -> None:
    for step in open_capture(name):
        write_sysroot(facts(name, step), tmp_path / step)
        for options in A_FEW:
            assert ours(facts(name, step), options, program) == real_lsmem(tmp_path / step, options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default", "5-unplugged"),
        ("arm64-6.12.107+deb13-cloud-arm64-pc-dimm-memmap", "3-one-offline"),
        ("arm64-custom-arm64-64k-virtio-mem-default", "1-plugged"),
    ],
)
def test_every_option_does_what_it_does_in_the_program(
    name: str, step: str, options: str, tmp_path: Path, program: lsmem.Release
) -> None:
    write_sysroot(facts(name, step), tmp_path / "root")
    assert ours(facts(name, step), options, program) == real_lsmem(tmp_path / "root", options)


def odd_machines() -> dict[str, MemoryBlocks]:
    """Blocks that no capture has: several nodes, old kernels, states in between, sizes with decimals."""

    def block(index: int, state: State = "online", **more: Any) -> MemoryBlock:
        plain: dict[str, Any] = {"valid_zones": ("Normal",), "removable": True, "phys_device": 0, "nodes": (0,)}
        return MemoryBlock(index, state, **(plain | more))

    size = 128 << 20
    return {
        "two nodes, one of them in the middle": MemoryBlocks(
            size, tuple(block(i, nodes=(1,) if 2 <= i < 5 else (0,)) for i in range(8))
        ),
        "no node at all": MemoryBlocks(size, tuple(block(i, nodes=()) for i in range(3))),
        "no node for the lowest": MemoryBlocks(size, (block(0, nodes=()), block(1), block(2))),
        "a zone that lsmem does not know": MemoryBlocks(
            size, tuple(block(i, valid_zones=("CMA",) if i < 3 else ("Movable",)) for i in range(6))
        ),
        "several zones": MemoryBlocks(
            size, tuple(block(i, "offline", valid_zones=("Normal", "Movable")[: 1 + i % 2]) for i in range(4))
        ),
        "not removable": MemoryBlocks(size, tuple(block(i, removable=i % 3 == 0) for i in range(7))),
        "going offline": MemoryBlocks(size, (block(0), block(1, "going-offline"), block(2, "offline"))),
        "an old kernel": MemoryBlocks(
            size, tuple(MemoryBlock(i, "online", valid_zones=None, nodes=(0,)) for i in range(3))
        ),
        "far apart": MemoryBlocks(2 << 30, tuple(block(i) for i in (0, 1, 5000, 5001, 5003, 123456))),
        "sizes with a decimal": MemoryBlocks(size, tuple(block(i) for i in (*range(11), *range(20, 29)))),
        "a size that rounds up": MemoryBlocks(1 << 20, tuple(block(i) for i in range(2047))),
    }


@pytest.mark.parametrize("case", odd_machines())
def test_machines_of_any_kind_are_listed_as_the_program_lists_them(
    case: str, tmp_path: Path, program: lsmem.Release
) -> None:
    machine = replace(facts(PLAIN, "at-dump"), memory=odd_machines()[case])
    write_sysroot(machine, tmp_path / "root")
    for options in OPTIONS:
        assert ours(machine, options, program) == real_lsmem(tmp_path / "root", options)


def test_the_live_machine_is_listed_as_the_program_lists_it(program: lsmem.Release) -> None:
    try:
        memory = memory_blocks.read(open_source("/"))
    except BadInput as refused:
        assert "CONFIG_MEMORY_HOTPLUG" in refused.fix
        assert subprocess.run(["lsmem"], capture_output=True, check=False).returncode != 0
    else:
        real = subprocess.run(
            ["lsmem", "--output", EVERYTHING], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
        )
        parameter = open_source("/").get("/sys/module/memory_hotplug/parameters/memmap_on_memory")
        listed = lsmem.lsmem(
            memory, output=lsmem.COLUMNS, like=program, memmap_on_memory=parameter.strip() if parameter else None
        )
        assert listed == real.stdout


EXPECTED: dict[str, dict[str, Any]] = {
    "--split=STATE,REMOVABLE": {"split": ("STATE", "REMOVABLE")},
    "--output RANGE,SIZE --split none": {"output": ("RANGE", "SIZE"), "split": ()},
    "--output RANGE,SIZE,STATE --split STATE": {"output": ("RANGE", "SIZE", "STATE"), "split": ("STATE",)},
    f"--all --output {EVERYTHING}": {"every_block": True, "output": lsmem.COLUMNS},
    "-o +ZONES": {"output": lsmem.columns("+ZONES")},
    "": {},
}


@pytest.mark.parametrize("options", EXPECTED)
@pytest.mark.parametrize("name", ["aarch64_16K_16g", "s390-zvm-6g", "x86_64-16g"])
def test_the_newest_release_is_matched_on_its_authors_own_examples(name: str, options: str) -> None:
    expected = lzma.decompress((DATA / "lsmem" / f"{name}.expected.xz").read_bytes()).decode()
    parts = expected.split("\n---\n\n$ lsmem ")[1:]
    outputs = {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in parts}
    memory = memory_blocks.read(open_source(DATA / "lsmem" / f"{name}.tar.bz2"))
    assert lsmem.lsmem(memory, **EXPECTED[options]) == outputs[options]


def test_the_newest_release_ends_with_the_parameter_where_it_is_known() -> None:
    memory = facts(PLAIN, "at-dump").memory
    text = lsmem.lsmem(memory, table=False, memmap_on_memory="Y")
    assert text.splitlines()[-1] == "Memmap on memory parameter:        yes"
    assert "Memmap" not in lsmem.lsmem(memory, table=False, memmap_on_memory="Y", like=lsmem.release("2.41"))


@pytest.mark.parametrize(
    ("version", "since"),
    [("2.36.1", (2, 37)), ("2.38.1", (2, 37)), ("2.41", (2, 41)), ("2.42", (2, 42)), ("3.0", (2, 42))],
)
def test_a_version_is_like_the_last_release_that_changed_something(version: str, since: tuple[int, int]) -> None:
    assert lsmem.release(version).since == since


def test_unknown_columns_and_versions_are_refused() -> None:
    with pytest.raises(BadInput, match="no column 'COLOUR'"):
        lsmem.columns("RANGE,colour")
    with pytest.raises(BadInput, match="want a version"):
        lsmem.release("new")


LISTED = """\
RANGE                                  SIZE  STATE REMOVABLE  BLOCK
0x0000000000000000-0x00000000bfffffff    3G online       yes   0-23
0x0000000100000000-0x000000063fffffff   21G online       yes 32-199
"""


def test_a_listing_without_headings_is_read_where_what_stands_in_it_tells_its_columns() -> None:
    """``lsmem -n``, and with ``-b`` and ``--raw``, as util-linux 2.38.1 printed them."""
    whole = lsmem_output.parse(LISTED, where="lsmem")
    bare = LISTED.partition("\n")[2]
    raw = " ".join(bare.split()).replace(" 0x", "\n0x") + "\n"
    for text in (bare, raw, raw.replace("3G", "3221225472").replace("21G", "22548578304")):
        assert lsmem_output.is_listing(text) and lsmem_output.parse(text, where="lsmem") == whole
    full = bare.replace("0-23", "0-23 0 DMA32").replace("32-199", "32-199 1 Normal/Movable")
    assert [block.nodes for block in lsmem_output.parse(full, where="lsmem").blocks[23:25]] == [(0,), (1,)]


@pytest.mark.parametrize("columns", ["RANGE SIZE STATE", "RANGE STATE SIZE REMOVABLE BLOCK", "RANGE"])
def test_one_whose_columns_cannot_be_told_is_refused_with_what_to_do(columns: str) -> None:
    names, *rows = LISTED.splitlines()
    cells = [dict(zip(names.split(), row.split(), strict=True)) for row in rows]
    text = "".join(" ".join(row[name] for name in columns.split()) + "\n" for row in cells)
    with pytest.raises(BadInput, match="take it again without -n"):
        lsmem_output.parse(text, where="lsmem")


def test_a_block_that_is_not_where_its_range_is_is_refused() -> None:
    with pytest.raises(BadInput, match="is not where block 31 of 0x8000000 bytes is"):
        lsmem_output.parse(LISTED.replace(" 32-199", " 31-198"), where="lsmem")
