"""What stands where in a twin's ``/sys``, and what its nodes count: as in real guests."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from pathlib import Path

import pytest

from memhp.errors import KernelError
from memhp.facts.counters import parse_meminfo, parse_vmstat
from memhp.linux.lib.kobject_uevent import Uevent
from memhp.linux.mm.users import Kind
from memhp.scenario.schema import Allocate, Plug
from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Folder, Link, resolve
from memhp.units import MiB
from twin_runs import scenario

DATA = Path(__file__).parents[1] / "data" / "twin"
MEMORY, NODE = "/sys/devices/system/memory", "/sys/devices/system/node/node0"
LACKING = re.compile(rf"{NODE}/(compact|reclaim|hugepages.*|x86)")
"""What docs/twin.md says is not there."""


def machine(folder: Path, release: str = "7.2", memory: str = "1G") -> Twin:
    text = f'[machine]\narch = "x86_64"\nprofile = "{release}"\nmemory = "{memory}"\ncpus = 2\n'
    return boot(scenario(folder, text), speed=0).twin


def mode(entry: object) -> str:
    return f"{entry.mode:o}" if isinstance(entry, Attribute) else "-"


@pytest.mark.parametrize("release", ["6.12", "7.2"])
def test_a_block_a_node_and_their_buses_have_the_files_of_a_guest(tmp_path: Path, release: str) -> None:
    root = twin_root(twin_files(machine(tmp_path, release), ""))
    lines = (DATA / f"linux-{release}-tree.txt").read_text().splitlines()
    shown = dict(line.split() for line in lines)
    wanted = {path: each for path, each in shown.items() if not LACKING.fullmatch(path)}
    assert len(wanted) > 75
    assert {path: mode(resolve(root, path)) for path in wanted if resolve(root, path) is not None} == wanted


@pytest.mark.parametrize(("release", "there"), [("6.1", False), ("6.6", True)])
def test_kernels_since_6_6_say_whether_a_crash_kernel_hears_of_hotplug(
    tmp_path: Path, release: str, there: bool
) -> None:
    entry = resolve(twin_root(twin_files(machine(tmp_path, release), "")), f"{MEMORY}/crash_hotplug")
    assert (isinstance(entry, Attribute) and entry.show and entry.show()) == ("0\n" if there else False)


def text(twin: Twin, path: str) -> str:
    entry = resolve(twin_root(twin_files(twin, "")), path)
    assert isinstance(entry, Attribute) and entry.show is not None
    return entry.show()


def test_a_node_counts_what_its_pages_are_used_for(tmp_path: Path) -> None:
    """drivers/base/node.c: kB in meminfo, pages in vmstat, huge pages by their number."""
    twin = machine(tmp_path)
    used: dict[Kind, str] = {"movable": "64M", "slab": "8M", "reclaimable": "4M", "hugetlb-free": "6M"}
    for kind, size in used.items():
        assert twin.do(Allocate(size=size, kind=kind, tag=kind)).result == "ok"
    meminfo, vmstat = parse_meminfo(text(twin, f"{NODE}/meminfo")), parse_vmstat(text(twin, f"{NODE}/vmstat"))
    assert (meminfo["Active(anon)"], meminfo["AnonPages"], meminfo["Slab"], meminfo["KReclaimable"]) == (
        64 << 10, 64 << 10, 12 << 10, 4 << 10,
    )  # fmt: skip
    assert (meminfo["HugePages_Total"], meminfo["HugePages_Free"], meminfo["HugePages_Surp"]) == (3, 3, 0)
    assert meminfo["MemUsed"] == meminfo["MemTotal"] - meminfo["MemFree"]
    assert (vmstat["nr_active_anon"], vmstat["nr_slab_reclaimable"]) == (64 << 8, 4 << 8)
    assert vmstat["nr_free_pages"] * 4 == meminfo["MemFree"]
    assert set(parse_vmstat(text(twin, f"{NODE}/numastat"))) == {
        "numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node",
    }  # fmt: skip


def write(twin: Twin, path: str, words: str) -> str:
    entry = resolve(twin_root(twin_files(twin, "")), path)
    assert isinstance(entry, Attribute) and entry.store is not None
    try:
        entry.store(words)
    except KernelError as error:
        return error.name
    return "ok"


UUID = "f3a0b2c1-0000-4000-8000-0123456789ab"


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("change\n", {"SYNTH_UUID": "0"}),
        (f"add {UUID}", {"SYNTH_UUID": UUID}),
        (f"move {UUID} A=1 b2=c\n", {"SYNTH_UUID": UUID, "SYNTH_ARG_A": "1", "SYNTH_ARG_b2": "c"}),
        ("added", None), ("add-", None), ("", None), ("add x", None), (f"add {UUID} A", None), (f"add {UUID} ", None),
        (f"add {UUID} A=1,2", None),
    ],
)  # fmt: skip
def test_events_are_asked_for_in_the_words_of_the_kernel(
    tmp_path: Path, words: str, extra: dict[str, str] | None
) -> None:
    """lib/kobject_uevent.c:kobject_synth_uevent()."""
    twin, heard = machine(tmp_path), list[Uevent]()
    twin.uevents.append(heard.append)
    assert write(twin, f"{MEMORY}/memory3/uevent", words) == ("EINVAL" if extra is None else "ok")
    assert [dict(event.extra) for event in heard] == ([] if extra is None else [extra])


def test_folders_of_all_devices_of_a_kind_send_no_events(tmp_path: Path) -> None:
    """drivers/base/core.c:dev_uevent_filter()."""
    twin, heard = machine(tmp_path), list[Uevent]()
    twin.uevents.append(heard.append)
    assert [write(twin, f"{MEMORY}/uevent", words) for words in ("add", "nothing")] == ["ok", "EINVAL"]
    assert heard == []
    assert write(twin, f"{NODE}/uevent", "change") == write(twin, "/sys/bus/memory/uevent", "add") == "ok"
    assert [(event.devpath, event.subsystem) for event in heard] == [
        ("/devices/system/node/node0", "node"), ("/bus/memory", "bus"),
    ]  # fmt: skip


def test_a_block_that_comes_is_on_its_bus_and_no_driver_takes_it(tmp_path: Path) -> None:
    twin = machine(tmp_path)
    assert twin.do(Plug(size=128 * MiB)).result == "ok"
    bus = resolve(twin_root(twin_files(twin, "")), "/sys/bus/memory/devices")
    assert isinstance(bus, Folder) and bus.child("memory32") == Link("../../../devices/system/memory/memory32")
    for name, ends_in in (("memory32\n", "ok"), ("memory33", "ENODEV")):
        assert write(twin, "/sys/bus/memory/drivers_probe", name) == ends_in
    for words, shown in (("0", "0\n"), ("yes", "1\n")):
        assert write(twin, "/sys/bus/memory/drivers_autoprobe", words) == "ok"
        assert text(twin, "/sys/bus/memory/drivers_autoprobe") == shown
