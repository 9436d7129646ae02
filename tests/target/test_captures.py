"""What ``memhp capture`` writes is what the machine showed, and holds nothing private."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captures import captures, open_capture
from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.kpageflags import summary
from memhp.facts.nodes import read as read_nodes
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import Source
from memhp.facts.sysroot import write_sysroot
from memhp.scenario.load import loads
from memhp.spans import Span, SpanSet
from memhp.target.captures.flatten import flatten, hides_addresses
from memhp.target.captures.privacy import public, public_log
from memhp.target.captures.take import take
from memhp.target.captures.write import write
from memhp.target.model.run import rehearse_scenario

POISONED = """
machine = { preset = "x86-vm", memory = "1G" }
steps = [
  { do = "allocate", kind = "kernel", size = "4K", at = "512M", tag = "slab" },
  { do = "poison", tag = "slab", expect = "EBUSY" },
  { do = "poison", at = "768M" },
]
"""
ENDS = [name for name in captures() if "vmem" in name or "dimm" in name or "-map-" in name]


def last(name: str) -> Source:
    return list(open_capture(name).values())[-1]


@pytest.mark.parametrize("name", ENDS)
def test_a_machine_captured_from_its_capture_is_the_same_machine(name: str, tmp_path: Path) -> None:
    first, *_ = open_capture(name).values()
    real = {"0-before": first, "1-after": last(name)}
    write({step: flatten(source) for step, source in real.items()}, tmp_path / "again.tar.xz")
    assert steps(tmp_path / "again.tar.xz") == ("0-before", "1-after")
    for step, source in real.items():
        again, expected = observe(open_source(tmp_path / "again.tar.xz", step=step)), observe(source)
        log = expected.boot_log if again.boot_log is None else again.boot_log
        assert replace(again, boot_log=log) == replace(expected, boot_log=log)


def test_links_from_blocks_to_nodes_are_kept(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    block = tree / "sys/devices/system/memory/memory0"
    block.mkdir(parents=True)
    (tree / "sys/devices/system/node/node3").mkdir(parents=True)
    (block / "node3").symlink_to("../../node/node3")
    (block / "state").write_text("online\n")
    (block.parent / "block_size_bytes").write_text("8000000\n")
    (tree / "proc").mkdir()
    (tree / "proc/iomem").write_text("00001000-07ffffff : System RAM\n")
    assert "memory0/node3\t../../node/node3\n" in flatten(open_source(tree))["sys_memory.tsv"]


def test_what_became_of_a_nodes_bad_pages_is_kept(tmp_path: Path) -> None:
    run, k = rehearse_scenario(loads(POISONED))
    assert [step.outcome.result for step in run.steps] == ["ok", "EBUSY", "ok"]
    write_sysroot(derive(k), tmp_path / "root")
    write({"0-bad": flatten(open_source(str(tmp_path / "root")))}, tmp_path / "bad.tar.xz")
    kept = read_nodes(open_source(tmp_path / "bad.tar.xz"))
    assert kept is not None
    (node,) = kept.nodes
    assert node.memory_failure == {"total": 2, "ignored": 1, "failed": 0, "delayed": 0, "recovered": 1}


def test_pages_are_counted_by_the_flags_that_decide_what_can_move() -> None:
    lru_referenced, lru, buddy = 1 << 5 | 1 << 2, 1 << 5, 1 << 10
    flags = np.array([lru_referenced, buddy, lru, buddy, buddy], dtype=np.uint64)
    text = summary("memory7", 0x100, flags, SpanSet([Span(0x100, 0x105)]))
    assert text == "memory7\t0x20\t2\t0x100\t0x102\nmemory7\t0x400\t3\t0x101\t0x104\n"


PRIVATE_LOG = """\
[    0.000000] Linux version 6.12.1 (somebody@buildhost.example) (gcc 14) #1 SMP
[    0.000000] Kernel command line: root=UUID=1234-5678 memhp_default_state=online quiet user.secret=hunter2
[    0.100000] e1000 0000:00:02.0 eth0: (PCI:33MHz:32-bit) 52:54:00:12:34:56
[    0.200000] systemd[1]: Hostname set to <payroll-db>.
[    0.300000] Zone ranges:
[    0.300000]   Normal   [mem 0x0000000100000000-0x000000023fffffff]
"""


def test_the_log_keeps_what_tells_of_memory_and_nothing_else() -> None:
    kept = public_log(PRIVATE_LOG)
    for secret in ("somebody", "example", "hunter2", "1234-5678", "52:54", "payroll", "quiet"):
        assert secret not in kept
    assert "Linux version 6.12.1 " in kept
    assert "memhp_default_state=online" in kept
    assert "Normal   [mem 0x0000000100000000-0x000000023fffffff]" in kept


@pytest.mark.parametrize("name", ENDS)
def test_nothing_that_readers_of_captures_look_for_is_private(name: str, tmp_path: Path) -> None:
    whole = flatten(last(name))
    write(
        {
            "0": whole,
        },
        tmp_path / "whole",
    )
    write({"0": public(whole)}, tmp_path / "public")
    expected, got = observe(open_source(tmp_path / "whole")), observe(open_source(tmp_path / "public"))
    assert (expected.log is None) == (got.log is None)
    if expected.log is None or got.log is None:
        return
    for told in (
        "release",
        "boot_zones",
        "early_node_ranges",
        "movable_starts",
        "initmem",
        "unavailable",
        "srat",
        "available",
        "cma",
        "offlined",
        "offline_failures",
        "altmaps",
        "virtio_mem",
        "cpu_features",
    ):
        assert getattr(got.log, told, None) == getattr(expected.log, told, None), told
    assert got.cmdline is not None and expected.cmdline is not None
    assert got.cmdline.hotplug() == expected.cmdline.hotplug()


def test_addresses_hidden_from_ordinary_users_are_not_taken_for_facts(tmp_path: Path) -> None:
    hidden = "00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n"
    assert hides_addresses(hidden)
    assert not hides_addresses("00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n")
    tree = tmp_path / "tree"
    (tree / "sys/devices/system/memory").mkdir(parents=True)
    (tree / "proc").mkdir()
    (tree / "proc/iomem").write_text(hidden)
    with pytest.raises(BadInput, match="capture as root"):
        take(open_source(tree))


def test_a_capture_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(BadInput, match="is there already"):
        write({"0": {"osrelease": "1\n"}}, tmp_path / "there")


def test_equal_machines_give_equal_archives(tmp_path: Path) -> None:
    files = flatten(last(ENDS[0]))
    write({"0": files}, tmp_path / "a.tar.xz")
    write({"0": files}, tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()
