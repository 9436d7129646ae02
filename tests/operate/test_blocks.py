"""``memhp blocks``: util-linux's lists for its dumps, who added which block in captures, Prometheus's text format."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import lzma
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import exposition
from captures import DATA, all_captures, archive, facts, open_capture
from memhp.cli.main import main
from memhp.facts import kpageflags
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import FileSource
from memhp.facts.sysroot import write_sysroot
from memhp.operate.blocks import BlocksDocument, read_blocks
from memhp.operate.blocks_text import MARGIN, WIDTH, picture, text_of
from memhp.operate.metrics import metrics
from memhp.units import exact_size

DUMPS = ("aarch64_16K_16g", "s390-zvm-6g", "x86_64-16g")
AUTOMOVABLE = "x86_64-6.12.117+deb13-cloud-amd64-automovable301"
KMEM = "arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0"
LSMEM_OPTIONS = {
    "--output RANGE,SIZE,STATE --split STATE": ["-o", "RANGE,SIZE,STATE", "--split", "STATE"],
    "--output RANGE,SIZE --split none": ["-o", "RANGE,SIZE", "--split", "none"],
    "--all --output RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES": [
        "--all", "-o", "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES",
    ],
    "-o +ZONES": ["-o", "+ZONES"],
}  # fmt: skip


def expected(dump: str, options: str) -> str:
    """What util-linux's authors expect lsmem to print."""
    text = lzma.decompress((DATA / "lsmem" / f"{dump}.expected.xz").read_bytes()).decode()
    parts = text.split("\n---\n\n$ lsmem ")[1:]
    return next(part.partition("\n")[2] for part in parts if part.partition("\n")[0].strip() == options)


@pytest.mark.parametrize("options", LSMEM_OPTIONS)
@pytest.mark.parametrize("dump", DUMPS)
def test_columns_are_printed_as_lsmem_prints_them(dump: str, options: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["blocks", "--machine", str(DATA / "lsmem" / f"{dump}.tar.bz2"), *LSMEM_OPTIONS[options]]) == 0
    assert capfd.readouterr().out == expected(dump, options)


@pytest.mark.parametrize("dump", DUMPS)
def test_ranges_say_of_every_block_what_lsmem_says(dump: str) -> None:
    document = read_blocks(open_source(DATA / "lsmem" / f"{dump}.tar.bz2"))
    told = {
        index: (each.state, "yes" if each.removable else "no", "/".join(each.zones or ()).lower())
        for each in document.ranges
        for index in range(each.first, each.last + 1)
    }
    rows = (
        expected(dump, "--all --output RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES").split("\n\n")[0].splitlines()[1:]
    )
    for row in rows:
        _, _, state, *removable, block, _, zones = row.split()
        wanted = (state, *removable, zones.lower())
        assert (told[int(block)] if removable else (told[int(block)][0], told[int(block)][2])) == wanted
    assert len(told) == len(rows)


def owners(name: str, step: str) -> dict[str, int]:
    """Bytes by who added them."""
    found: dict[str, int] = {}
    for each in read_blocks(open_capture(name)[step]).ranges:
        found[each.added_by or "?"] = found.get(each.added_by or "?", 0) + each.size
    return found


def test_the_driver_and_the_device_that_brought_memory_are_named() -> None:
    gib, mib = 1 << 30, 1 << 20
    assert owners(KMEM, "3-online")["kmem dax0.0"] == 7 * 128 * mib  # of 1 GiB, an eighth is lost to alignment
    told = owners(AUTOMOVABLE, "7-virtio-mem-8192M")
    assert told["virtio_mem virtio1"] == 8192 * mib
    assert told["?"] == (1 + 2 + 1 + 2) * gib + 512 * mib  # DIMMs: nothing in a capture says that ACPI brought them


def test_virtio_mem_never_hosts_its_struct_pages_and_a_dimm_may() -> None:
    ranges = read_blocks(open_capture("x86_64-6.1.0-56-cloud-amd64-dimm-memmap-on-memory")["0-before"]).ranges
    assert {each.memmap_on_memory for each in ranges} == {False}
    plugged = list(open_capture("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-memmap").values())[1]
    assert {each.memmap_on_memory for each in read_blocks(plugged).ranges} == {False}


def test_s390_shows_which_standby_block_hosts_its_struct_pages() -> None:
    source = open_source(DATA / "lsmem" / "s390-zvm-6g.tar.bz2")
    assert isinstance(source, FileSource)
    files = dict(source._files)
    files["/sys/firmware/memory/memory20/memmap_on_memory"] = files["/sys/devices/system/memory/memory0/online"]
    more = FileSource("s390", "sysroot", files)
    hosting = {each.first for each in read_blocks(more).ranges if each.memmap_on_memory}
    assert hosting == {20}


def test_the_movable_ratio_of_the_auto_movable_letter_is_never_exceeded() -> None:
    ratios = [read_blocks(source).movable_ratio or 0 for source in open_capture(AUTOMOVABLE).values()]
    assert ratios[0] == 0
    assert 250 < max(ratios) <= 301


def test_pages_are_told_by_kind_where_a_summary_shows_them(tmp_path: Path) -> None:
    write_sysroot(facts(AUTOMOVABLE, "0-before"), tmp_path / "root")
    lru, buddy = 1 << kpageflags.KEPT["LRU"], 1 << kpageflags.KEPT["BUDDY"]
    lines = f"memory3\t{lru:#x}\t1000\t0x18000\t0x18fff\nmemory3\t{buddy:#x}\t31768\t0x18000\t0x1ffff\n"
    (tmp_path / "root" / "kpageflags.tsv").write_text(lines)
    document = read_blocks(open_source(tmp_path / "root"), use=True)
    used = next(each for each in document.ranges if each.first <= 3 <= each.last)
    assert used.use == {"movable": 1000 * 4096, "free": 31768 * 4096}


@pytest.mark.parametrize("name", all_captures())
def test_a_report_of_any_machine_fits_the_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = read_blocks(open_source(archive(name), step=steps(archive(name))[-1]))
    told = {word for each in document.ranges for word in (hex(each.start), exact_size(each.size), each.state)}
    for columns in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = text_of(document)
        assert max(len(line) for line in text.splitlines()[1:]) <= min(columns, WIDTH)
        assert len(picture(document.ranges)) <= min(columns, WIDTH) - MARGIN + 1
        assert all(word in text for word in told)


@pytest.mark.parametrize("name", all_captures())
def test_metrics_are_prometheus_text_and_add_up(name: str) -> None:
    document = read_blocks(open_source(archive(name), step=steps(archive(name))[-1]))
    found = exposition.read(metrics(document, 1 << 27))
    assert {(each.type, key.startswith("memhp_")) for key, each in found.items()} == {("gauge", True)}
    blocks = found["memhp_memory_blocks"].samples
    assert sum(blocks.values()) == sum(each.last - each.first + 1 for each in document.ranges)
    online = sum(count for labels, count in blocks.items() if dict(labels)["state"] == "online")
    assert online == sum(each.count for each in document.ranges if each.state == "online")
    assert found["memhp_largest_safe_step_bytes"].samples == {(): 1 << 27}
    assert found["memhp_memory_block_size_bytes"].samples == {(): document.block_size}


def test_whatever_a_machine_calls_its_zones_metrics_can_be_read() -> None:
    document = read_blocks(open_capture(AUTOMOVABLE)["0-before"])
    odd = 'a "zone" \\ of\ntwo lines'
    ranges = [msgspec.structs.replace(each, zones=[odd]) for each in document.ranges]
    found = exposition.read(metrics(msgspec.structs.replace(document, ranges=ranges), None))
    assert {dict(labels)["zone"] for labels in found["memhp_memory_blocks"].samples} == {odd}
    assert "memhp_largest_safe_step_bytes" not in found


def test_this_host_is_listed_and_nothing_slow_is_loaded() -> None:
    code = (
        "import sys, json; from memhp.cli.main import main; code = main(['blocks']);"
        "print(json.dumps([code, *sys.modules]), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code, *loaded = json.loads(ran.stderr.splitlines()[-1])
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({"numpy", "rich", "jinja2"})
    if code == 0:
        blocks = len([each for each in Path("/sys/devices/system/memory").iterdir() if each.name[6:].isdigit()])
        assert f"in {blocks} memory blocks" in ran.stdout


def test_the_document_tells_the_policies_in_force() -> None:
    document = read_blocks(open_capture(AUTOMOVABLE)["1-dimm-1024M"])
    policy = document.policy
    assert (policy.online_policy, policy.auto_movable_ratio, policy.auto_movable_numa_aware) == (
        "auto-movable", 301, True,
    )  # fmt: skip
    assert "online_policy auto-movable, auto_movable_ratio 301, auto_movable_numa_aware Y" in " ".join(
        text_of(document).split()
    )
    assert BlocksDocument.__struct_fields__[0] == "schema"
