"""A machine is read from what bug reports carry, and is the one that its whole capture shows, as far as they tell."""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import json
import tarfile
from pathlib import Path

import pytest

from captures import DATA, captures, every_step, facts, open_capture
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts import lsmem
from memhp.facts.derive import derive
from memhp.facts.describe import describe
from memhp.facts.observed import Facts
from memhp.facts.open_source import open_source
from memhp.facts.source import DMESG, SYS_NODE, Source
from memhp.scenario.schema import MachineText, Scenario
from memhp.target.model.run import boot, rehearse_scenario
from memhp.target.seen.boot_facts import HOT
from memhp.target.seen.inferred import read_facts
from memhp.target.seen.sources import facts_spec
from memhp.units import MiB

EVERYTHING = "RANGE,SIZE,STATE,REMOVABLE,ZONES,NODE,BLOCK"
"""The columns that sos asks lsmem for."""
FILES = ("buddyinfo", "cmdline", "iomem", "meminfo", "pagetypeinfo", "vmstat", "zoneinfo")
PARAMETERS = "/sys/module/memory_hotplug/parameters"


def taken_up(read: Facts) -> Facts:
    """What the model shows of a machine that it has taken up."""
    return derive(boot(facts_spec(read, MachineText(source=read.source)), read, "report").k)


def zones_of(shown: Facts) -> dict[tuple[int, str], tuple[int | None, int, int]]:
    """Where the zones begin, and their spanned and present pages; ZONE_DEVICE, which is no memory of boot, apart."""
    return {
        (zone.node, zone.name): (zone.start_pfn, zone.spanned, zone.present)
        for zone in shown.zones
        if zone.name != "Device"
    }


def managed(shown: Facts) -> int:
    return sum(zone.managed for zone in shown.zones)


def blocks_of(shown: Facts) -> list[tuple[int, str, tuple[str, ...] | None, tuple[int, ...]]]:
    return [(block.index, block.state, block.valid_zones, block.nodes[:1]) for block in shown.memory.blocks]


def as_booted() -> list[str]:
    """The captures whose first moment is that of a machine to which nothing was plugged, and whose log is whole."""
    found = []
    for name in captures():
        step, source = next(iter(open_capture(name).items()))
        log = source.boot_log() or ""
        hot = describe(facts(name, step), name=name).memory_of(*HOT)
        if "Early memory node ranges" in log and not hot:
            found.append(name)
    return found


@pytest.mark.parametrize("name", as_booted())
def test_a_kernel_log_tells_the_machine_as_it_booted(name: str, tmp_path: Path) -> None:
    step, source = next(iter(open_capture(name).items()))
    log = tmp_path / "dmesg.txt"
    log.write_text(source.boot_log() or "", encoding="utf-8")
    whole, told = taken_up(facts(name, step)), taken_up(read_facts(open_source(log)))
    assert zones_of(told) == zones_of(whole)
    assert blocks_of(told) == blocks_of(whole)
    assert managed(told) == managed(whole)


@pytest.mark.parametrize(("name", "step"), every_step()[::8])
def test_what_lsmem_prints_tells_the_memory_blocks(name: str, step: str, tmp_path: Path) -> None:
    whole = facts(name, step).memory
    listing = tmp_path / "lsmem.txt"
    listing.write_text(lsmem.lsmem(whole, output=lsmem.COLUMNS), encoding="utf-8")
    told = taken_up(read_facts(open_source(listing), MachineText(arch=describe(facts(name, step), name="").arch)))
    assert told.memory.block_size == whole.block_size
    wanted = [(block.index, block.state, block.zone, block.nodes[:1]) for block in whole.blocks]
    assert [(block.index, block.state, block.zone, block.nodes[:1]) for block in told.memory.blocks] == wanted


def sosreport(source: Source, read: Facts, root: Path) -> Path:
    """A sosreport of a captured machine, as the plugins kernel, memory, numa and pci leave it."""
    files = {f"/proc/{name}": source.get(f"/proc/{name}") for name in FILES}
    files |= {f"{PARAMETERS}/{name}": source.get(f"{PARAMETERS}/{name}") for name in source.listdir(PARAMETERS)}
    for node in source.listdir(SYS_NODE):
        if node.startswith("node"):
            files |= {
                f"{SYS_NODE}/{node}/{name}": source.get(f"{SYS_NODE}/{node}/{name}") for name in ("cpulist", "distance")
            }
    files["/sos_commands/kernel/dmesg"] = source.get(DMESG)
    files["/sos_commands/kernel/uname_-a"] = f"Linux host {read.release} #1 SMP Debian GNU/Linux\n"
    listing = lsmem.lsmem(read.memory, output=EVERYTHING.split(","), every_block=True)
    files[f"/sos_commands/memory/lsmem_-a_-o_{EVERYTHING.replace(',', '_')}"] = listing
    for path, text in files.items():
        if text is not None:
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return root


def told_whole(name: str, step: str) -> bool:
    """Whether a sosreport of that moment tells all: a kernel log of the same moment, and no virtio-mem device, of which
    only QEMU knows how much is plugged.
    """
    log = open_capture(name)[step].get(DMESG) or ""
    return "Early memory node ranges" in log and "virtio_mem" not in log


@pytest.mark.parametrize(("name", "step"), [each for each in every_step() if told_whole(*each)][::4])
def test_a_sosreport_tells_the_whole_machine(name: str, step: str, tmp_path: Path) -> None:
    read = facts(name, step)
    told = read_facts(open_source(sosreport(open_capture(name)[step], read, tmp_path / "sosreport-host-1")))
    assert told.assumed == frozenset()
    wanted, got = taken_up(read), taken_up(told)
    assert zones_of(got) == zones_of(wanted)
    assert blocks_of(got) == blocks_of(wanted)
    assert managed(got) == managed(wanted)


def test_a_sosreport_is_read_from_its_archive(tmp_path: Path) -> None:
    name, step = "x86_64-6.12.117+deb13-cloud-amd64-dimm-memoryless-node", "3-second-dimm-on-node1"
    root = sosreport(open_capture(name)[step], facts(name, step), tmp_path / "sosreport-host-1")
    with tarfile.open(tmp_path / "sosreport-host-1.tar.xz", "w:xz") as tar:
        tar.add(root, root.name)
        large = tarfile.TarInfo(f"{root.name}/var/log/journal/system.journal")
        large.size = 3 * MiB
        tar.addfile(large, io.BytesIO(bytes(3 * MiB)))
        config_space = tarfile.TarInfo(f"{root.name}/proc/bus/pci/00/00.0")
        config_space.size = 256
        tar.addfile(config_space, io.BytesIO(b"\x86\x80\xff" + bytes(253)))
    packed = read_facts(open_source(tmp_path / "sosreport-host-1.tar.xz"))
    assert packed == read_facts(open_source(root))
    assert packed.release == facts(name, step).release


@pytest.mark.parametrize(
    "kept",
    [
        "sos_commands/kernel/dmesg_-T",
        "sos_commands/logs/journalctl_--no-pager_--boot",
        "sos_commands/logs/journalctl_--no-pager_--catalog_--boot",
        "var/log/dmesg",
        "var/log/kern.log",
        "var/log/messages",
    ],
)
def test_a_log_that_lost_its_beginning_is_read_from_where_it_is_kept(kept: str, tmp_path: Path) -> None:
    """The names are those that sos 4's plugins kernel and logs give their outputs (``_mangle_command()``)."""
    name = "x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr"
    step, source = next(iter(open_capture(name).items()))
    root = sosreport(source, facts(name, step), tmp_path / "sosreport-host-1")
    whole = read_facts(open_source(root)).boot_log
    log = root / "sos_commands/kernel/dmesg"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[len(lines) // 2 :]), encoding="utf-8")
    assert read_facts(open_source(root)).boot_log is None
    file = root / kept
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), encoding="utf-8")
    assert read_facts(open_source(root)).boot_log == whole


def test_of_a_syslog_with_several_boots_the_last_one_counts(tmp_path: Path) -> None:
    name = "x86_64-7.2.13+deb14-amd64-pc-dimm-memmap"
    lines = [line.text for line in (facts(name, next(iter(open_capture(name)))).boot_log or pytest.fail()).lines]
    earlier = [
        "Linux version 6.1.0-1-amd64 (a compiler)",
        "BIOS-e820: [mem 0x0000000100000000-0x000000083fffffff] usable",
        "Early memory node ranges",
        "  node   0: [mem 0x0000000100000000-0x000000083fffffff]",
    ]
    log = tmp_path / "syslog"
    with log.open("w", encoding="utf-8") as file:
        for text in (*earlier, *lines):
            file.write(f"Nov 28 14:06:20 host kernel: [    0.000000] {text}\n")
            file.write("Nov 28 14:06:20 host systemd[1]: Starting udevd: Early memory node ranges\n")
    plain = tmp_path / "plain.log"
    plain.write_text("".join(f"[    0.000000] {line}\n" for line in lines), encoding="utf-8")
    assert read_facts(open_source(log)).boot_log == read_facts(open_source(plain)).boot_log
    assert read_facts(open_source(log)).release == "7.2.13+deb14-amd64"


@pytest.mark.parametrize(
    ("dump", "arch", "page_size"),
    [("x86_64-16g", "x86_64", None), ("aarch64_16K_16g", "arm64", 16384)],
)
def test_a_tree_of_sysfs_alone_is_a_machine(dump: str, arch: str, page_size: int | None) -> None:
    source = open_source(DATA / "lsmem" / f"{dump}.tar.bz2")
    told = taken_up(read_facts(source, MachineText(arch=arch, page_size=page_size)))
    assert [block.index for block in told.memory.blocks] == [block.index for block in read_facts(source).memory.blocks]
    blocks = len(told.memory.blocks) * told.memory.block_size
    present = sum(zone.present for zone in told.zones) * (page_size or 4096)
    assert blocks - 1 * MiB <= present <= blocks


def test_of_a_report_the_assumptions_name_what_it_leaves_out(tmp_path: Path) -> None:
    name = "x86_64-6.12.117+deb13-cloud-amd64-plan-16000M"
    step, source = next(iter(open_capture(name).items()))
    log, listing = tmp_path / "dmesg", tmp_path / "lsmem"
    log.write_text(source.boot_log() or "", encoding="utf-8")
    listing.write_text(lsmem.lsmem(facts(name, step).memory), encoding="utf-8")
    assumed = {}
    for path in (log, listing):
        run, _ = rehearse_scenario(Scenario(machine=MachineText(source=str(path)), steps=[]))
        assumed[path] = {each.what for each in run.assumptions if each.basis == "assumed"}
    assert assumed[log] == {"memory in use", "memory blocks", "nodes", "parameters"}
    assert assumed[listing] == {
        "memory in use", "architecture and page size", "boot memory", "kernel", "nodes", "parameters", "command line",
    }  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        "[Sat Nov 28 14:06:20 2026] {}",
        "2026-11-28T14:06:20,000000+00:00 {}",
        "Nov 28 14:06:20 host kernel: {}",
        "2026-11-28T14:06:20.123456+00:00 host kernel: {}",
        "<6>[    0.000000] {}",
        "{}",
    ],
)
def test_a_log_is_read_however_it_was_dated(form: str, tmp_path: Path) -> None:
    name = "x86_64-7.2.13+deb14-amd64-pc-dimm-memmap"
    lines = [line.text for line in (facts(name, next(iter(open_capture(name)))).boot_log or pytest.fail()).lines]
    log = tmp_path / "kern.log"
    log.write_text("".join(f"{form.format(line)}\n" for line in lines), encoding="utf-8")
    plain = tmp_path / "plain.log"
    plain.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert blocks_of(read_facts(open_source(log))) == blocks_of(read_facts(open_source(plain)))
    assert len(read_facts(open_source(log)).memory.blocks) == 8


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("RANGE SIZE\n0x0-1 1G\n", "want a range such as"),
        ("RANGE SIZE\n0x0000000000000000-0x0000000007ffffff\n", "how large a memory block"),
        ('{"memory": [{"range": 5, "block": "0"}]}\n', "a range of addresses is missing"),
        ('{"memory": 5}\n', "is not what lsmem --json prints"),
        ("hello\n", "is a file, not a machine"),
        ("[    0.000000] Linux version 6.12.1 (x86_64-linux-gnu-gcc)\n", "tells of no memory"),
        ("RANGE\n0x00000000-0xffffffffffffffff\n\nMemory block size: 128M\n", "too large"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=problem) as refused:
        read_facts(open_source(file))
    assert refused.value.where.startswith(str(file))


def test_json_tells_what_the_table_does(tmp_path: Path) -> None:
    table, listed = tmp_path / "table", tmp_path / "listed.json"
    table.write_text(
        "RANGE                                 SIZE   STATE REMOVABLE BLOCK NODE\n"
        "0x0000000000000000-0x000000003fffffff   1G  online       yes   0-7    0\n"
        "0x0000000040000000-0x0000000047ffffff 128M offline               8    0\n",
        encoding="utf-8",
    )
    listed.write_text(
        '{"memory": [{"range": "0x0000000000000000-0x000000003fffffff", "size": "1G", "state": "online",'
        '"removable": true, "block": "0-7", "node": 0}, {"range": "0x0000000040000000-0x0000000047ffffff",'
        '"size": "128M", "state": "offline", "removable": null, "block": "8", "node": 0}]}',
        encoding="utf-8",
    )
    assert read_facts(open_source(table)) == read_facts(open_source(listed))
    assert [block.state for block in read_facts(open_source(table)).memory.blocks] == ["online"] * 8 + ["offline"]


@pytest.mark.parametrize(
    "listing",
    [
        "RANGE SIZE STATE REMOVABLE BLOCK\n0x0000000000000000-0x000000003fffffff 1G online yes 0-7\n",
        'RANGE="0x0000000000000000-0x000000003fffffff" SIZE="1G" STATE="online" REMOVABLE="yes" BLOCK="0-7"\n',
        " BLOCK RANGE                                  STATE\n   0-7 0x0000000000000000-0x000000003fffffff online\n",
    ],
)
def test_raw_lines_pairs_and_columns_in_any_order_are_read(listing: str, tmp_path: Path) -> None:
    """``lsmem --raw``, ``--pairs``, ``--output BLOCK,RANGE,STATE`` of util-linux 2.38."""
    file = tmp_path / "lsmem.txt"
    file.write_text(listing, encoding="utf-8")
    memory = read_facts(open_source(file)).memory
    assert memory.block_size == 128 * MiB
    assert [(block.index, block.state) for block in memory.blocks] == [(index, "online") for index in range(8)]


@pytest.mark.parametrize("listed", [True, False])
def test_a_kernel_log_tells_which_memory_is_mirrored(listed: bool, tmp_path: Path) -> None:
    """Lines of a guest under ``kernelcore=mirror efi=debug``, and its zones; else what is mirrored is assumed."""
    log = tmp_path / "dmesg"
    lines = (DATA / "mirrored-arm64-7.2.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(line for line in lines if listed or "|WB|" not in line), encoding="utf-8")
    run, k = rehearse_scenario(Scenario(machine=MachineText(source=str(log)), steps=[]))
    found = {zone.name: (zone.start_pfn, zone.spanned, zone.present) for zone in k.zones() if zone.spanned}
    islands = 512 * MiB // 4096 if listed else 0
    assert found == {
        "DMA": (0x40000, 786432, 786432),
        "Normal": (0x100000, 786432, 262144 + islands),
        "Movable": (0x140000, 524288, 524288 - islands),
    }
    basis = [each.basis for each in run.assumptions if each.what == "mirrored memory"]
    assert basis == ["told" if listed else "assumed"]


@pytest.mark.parametrize("text", ["lsmem", "json"])
def test_what_lsmem_leaves_open_is_said_in_text_too(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = "RANGE SIZE STATE REMOVABLE BLOCK\n0x0000000000000000-0x000000003fffffff 1G online yes 0-7\n"
    shown += "\nMemory block size:       128M\nTotal online memory:       1G\n"
    if text == "json":
        rows = [{"range": "0x0000000000000000-0x000000003fffffff", "size": "1G", "state": "online", "block": "0-7"}]
        shown = json.dumps({"memory": rows})
    report = tmp_path / "lsmem"
    report.write_text(shown)
    assert main(["rehearse", "--machine", str(report)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rests on memory blocks: 8 of 128 MiB, none offline, told by" in said
    assert "architecture and page size: assumed: x86_64" in said and "kernel: assumed: " in said
