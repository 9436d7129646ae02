"""A modelled machine in Linux's own files: other programs read them, and what they say is what the machine is like."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from memhp.cli.main import main
from memhp.facts import lsmem
from memhp.facts.derive import derive
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.facts.ptdump import Section, parse
from memhp.facts.ptdump_model import model_events
from memhp.facts.ptwalk import ptwalk
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.walker import ALL
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.mm.ptdump_style import Line
from memhp.linux.port import Root
from memhp.target.measure.views import write_ptdump, write_sysroot
from memhp.units import parse_size
from scenario.examples import EXAMPLES, ROOT, rehearsed

EVERYTHING = "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES"
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "--bytes --summary=only": {"in_bytes": True, "table": False},
    f"--all --output {EVERYTHING}": {"every_block": True, "output": lsmem.COLUMNS},
    f"--output {EVERYTHING}": {"output": lsmem.COLUMNS},
}

examples = pytest.mark.parametrize("name", EXAMPLES)


def program(root: Path, options: str) -> str:
    """What the lsmem of util-linux makes of an export."""
    if shutil.which("lsmem") is None:
        pytest.fail("lsmem is not installed: install util-linux, which these tests compare with")
    command = ["lsmem", "--sysroot", str(root), *options.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout


def release() -> lsmem.Release:
    version = subprocess.run(["lsmem", "--version"], capture_output=True, text=True, check=True).stdout
    return lsmem.release(version.split()[-1])


@examples
def test_lsmem_lists_the_machine_as_our_own_reader_does(name: str, tmp_path: Path) -> None:
    _, k = rehearsed(name)
    write_sysroot(k, tmp_path / "root")
    read = observe(open_source(tmp_path / "root"))
    for options, meaning in OPTIONS.items():
        listed = program(tmp_path / "root", options)
        for facts in (read, derive(k)):
            mode = facts.params.memmap_on_memory
            assert lsmem.lsmem(facts.memory, memmap_on_memory=mode, like=release(), **meaning) == listed


@examples
def test_lsmem_counts_the_memory_that_the_run_says_is_there(name: str, tmp_path: Path) -> None:
    run, k = rehearsed(name)
    write_sysroot(k, tmp_path / "root")
    sizes = dict.fromkeys(("online", "offline"), 0)
    for block in run.state.blocks:
        sizes[block.state] += block.size
    summary = program(tmp_path / "root", "--bytes --summary=only")
    counted = dict(line.rsplit(":", 1) for line in summary.splitlines())
    assert int(counted["Total online memory"]) == sizes["online"]
    assert int(counted["Total offline memory"]) == sizes["offline"]


@examples
def test_an_export_reads_back_as_the_machine_it_was_made_of(name: str, tmp_path: Path) -> None:
    _, k = rehearsed(name)
    write_sysroot(k, tmp_path / "root")
    read, made = observe(open_source(tmp_path / "root")), derive(k)
    for part in ("iomem", "zones", "memory", "nodes", "params", "meminfo", "vmstat", "buddyinfo", "release"):
        assert getattr(read, part) == getattr(made, part), part


@examples
def test_zones_that_a_block_may_go_to_are_those_that_the_kernel_would_name(name: str, tmp_path: Path) -> None:
    _, k = rehearsed(name)
    write_sysroot(k, tmp_path / "root")
    folder = tmp_path / "root/sys/devices/system/memory"
    shown = {int(path.parent.name[6:]): path.read_text().strip() for path in folder.glob("memory*/valid_zones")}
    blocks = [(i, block) for first, end, block in k.memory_blocks for i in range(first, end)]
    died_early = {i for i, block in blocks if block.nid is None}
    assert shown == {i: "" if i in died_early else valid_zones(k, i) for i, _ in blocks}
    assert not died_early or "BUG" in {step.outcome.result for step in rehearsed(name)[0].steps}


@examples
def test_a_dump_of_page_tables_reads_back_and_covers_what_a_walk_covers(name: str, tmp_path: Path) -> None:
    _, k = rehearsed(name)
    write_ptdump(k, tmp_path / "dump")
    style = k.port.ptdump_style
    events = parse((tmp_path / "dump").read_text(), style)
    assert [event for event in events if isinstance(event, Section)] == [
        event for event in model_events(k) if isinstance(event, Section)
    ]
    lines = [event for event in events if isinstance(event, Line) and event.prot & 1 and event.start >= 1 << 63]
    found = ptwalk(k.hw.memory, Root(k.hw.fmt, k.init_mm.frame))
    top = k.hw.fmt.root_height
    names = ["PGD" if height == top and height != 1 else name for height, name in enumerate(HEIGHT_NAMES)]
    walked = [
        (va, (va + size) % ALL, names[height])
        for va, size, height in zip(found.va.tolist(), found.size.tolist(), found.height.tolist(), strict=True)
    ]
    assert joined([(line.start, line.end, line.level.upper()) for line in lines]) == joined(walked)


def joined(ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Neighbours of one level as one range."""
    out: list[tuple[int, int, str]] = []
    for start, end, level in ranges:
        if out and out[-1][1] == start and out[-1][2] == level:
            out[-1] = (out[-1][0], end, level)
        else:
            out.append((start, end, level))
    return out


def test_the_command_writes_every_view_and_prints_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "other-granularity.toml"
    views = {option: tmp_path / option for option in ("sysroot", "ptdump", "html")}
    options = [word for option, path in views.items() for word in (f"--{option}", str(path))]
    assert main(["rehearse", str(ROOT / "examples" / name), *options]) == 0
    assert "The rehearsal went as expected." in capsys.readouterr().out
    run, k = rehearsed(name)
    write_ptdump(k, tmp_path / "again")
    assert views["ptdump"].read_bytes() == (tmp_path / "again").read_bytes()
    text = (views["sysroot"] / "sys/devices/system/memory/block_size_bytes").read_text()
    assert parse_size("0x" + text.strip()) == run.machine.block_size
    assert views["html"].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", *sorted(views)]
