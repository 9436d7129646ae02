"""The DAX bus of a twin: drivers are bound and unbound as drivers/dax/bus.c and drivers/base do, also by daxctl."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import shutil
from pathlib import Path

import pytest

from dax_bus import HMEM, PMEM, Bus, two_regions
from memhp.twin.tree import Attribute, Device, resolve
from twin_runs import on_twin, scenario

MACHINE = two_regions("6.12", "devdax")
DRIVERS = "/sys/bus/dax/drivers"


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path, MACHINE)


def test_devices_are_where_linux_has_them_and_say_what_they_are_made_of(bus: Bus) -> None:
    assert bus.names("/sys/bus/dax/devices") == {"dax0.0", "dax1.0"}
    assert bus.read("/sys/bus/dax/devices/dax1.0") == f"../../../{PMEM.removeprefix('/sys/')}/dax1.0"
    told = {name: bus.read(f"{HMEM}/dax0.0/{name}") for name in ("size", "align", "resource", "driver", "subsystem")}
    assert told == {
        "size": "1073741824\n", "align": "2097152\n", "resource": "0x200000000\n",
        "driver": "../../../../bus/dax/drivers/device_dax", "subsystem": "../../../../bus/dax",
    }  # fmt: skip
    mapping = {name: bus.read(f"{HMEM}/dax0.0/mapping0/{name}") for name in ("start", "end", "page_offset")}
    assert mapping == {"start": "0x200000000\n", "end": "0x23fffffff\n", "page_offset": "0x0\n"}
    assert bus.read(f"{PMEM}/dax_region/id") == "1\n"
    assert isinstance(resolve(bus.root, "/dev/dax0.0"), Device)


def test_a_driver_is_bound_to_what_it_matches_and_nobody_has(bus: Bus) -> None:
    assert bus.write(f"{DRIVERS}/kmem/bind", "dax0.0") == "EBUSY"
    assert bus.write(f"{DRIVERS}/kmem/bind", "dax1.0") == "ENODEV"
    assert bus.write(f"{DRIVERS}/kmem/unbind", "dax0.0") == "ENODEV"
    assert bus.write(f"{DRIVERS}/device_dax/unbind", "dax0.0\n") == ""
    assert "driver" not in bus.names(f"{HMEM}/dax0.0")
    assert bus.write(f"{DRIVERS}/kmem/bind", "dax0.0\n") == ""
    assert bus.read("/sys/devices/system/memory/memory64/state") == "offline\n"
    assert bus.names(f"{DRIVERS}/kmem") >= {"dax0.0"}
    assert bus.write(f"{DRIVERS}/kmem/unbind", "dax0.0") == ""
    assert resolve(bus.root, "/sys/devices/system/memory/memory64") is None


def test_an_id_has_a_driver_take_what_is_free(bus: Bus) -> None:
    assert bus.write(f"{DRIVERS}/kmem/new_id", "dax") == bus.write(f"{DRIVERS}/kmem/new_id", "dax1.0x") == "EINVAL"
    assert bus.write(f"{DRIVERS}/kmem/new_id", "dax1.0") == ""
    assert bus.read(f"{PMEM}/dax1.0/driver").endswith("/device_dax")
    assert bus.write(f"{DRIVERS}/device_dax/unbind", "dax1.0") == ""
    assert bus.write(f"{DRIVERS}/kmem/new_id", "dax1.0") == ""
    assert bus.read(f"{PMEM}/dax1.0/driver").endswith("/kmem")
    assert bus.write(f"{DRIVERS}/kmem/unbind", "dax1.0") == bus.write(f"{DRIVERS}/kmem/remove_id", "dax1.0") == ""
    assert bus.write(f"{DRIVERS}/kmem/bind", "dax1.0") == "ENODEV"


def test_a_region_is_as_large_as_a_guest_of_7_2_says(bus: Bus) -> None:
    # drivers/dax/pmem.c:__dax_pmem_probe lets it begin behind the namespace's metadata.
    assert bus.read(f"{PMEM}/dax_region/size") == bus.read(f"{PMEM}/dax1.0/size") == f"{1022 << 20}\n"
    assert bus.read(f"{HMEM}/dax_region/size") == f"{1 << 30}\n"


def test_align_is_a_size_of_pages_that_the_device_is_made_of_and_written_while_nobody_has_it(bus: Bus) -> None:
    align = f"{HMEM}/dax0.0/align"
    assert [bus.write(align, text) for text in ("2M", "", "-1", "8192", "4096")] == [
        "ENXIO", "ENXIO", "ENXIO", "EINVAL", "EBUSY",
    ]  # fmt: skip
    assert bus.write(f"{DRIVERS}/device_dax/unbind", "dax0.0") == ""
    for text, shown in (("0x40000000\n", 1 << 30), ("4096", 4096), ("2097152", 2 << 20)):
        assert (bus.write(align, text), bus.read(align)) == ("", f"{shown}\n")
    assert bus.write(f"{DRIVERS}/kmem/bind", "dax0.0") == ""
    assert bus.write(align, "4096") == "EBUSY"


def test_the_align_of_a_namespaces_device_is_to_be_read_only(bus: Bus) -> None:
    entry = resolve(bus.root, f"{PMEM}/dax1.0/align")
    assert isinstance(entry, Attribute) and (entry.mode, entry.store) == (0o444, None)


def test_names_are_whole_and_events_are_sent_anew(bus: Bus) -> None:
    assert bus.write(f"{DRIVERS}/device_dax/unbind", " dax0.0") == "ENODEV"
    assert bus.write(f"{DRIVERS}/device_dax/unbind", "dax0.0 \n") == "ENODEV"
    for name in ("dax00.0", "dax0.\u0660", "dax0.0 "):
        assert bus.write(f"{DRIVERS}/kmem/new_id", name) == "EINVAL"
    seen: list[tuple[str, str, str]] = []
    bus.twin.uevents.append(lambda event: seen.append((event.action, event.devpath, event.subsystem)))
    assert bus.write(f"{HMEM}/dax0.0/uevent", "change\n") == bus.write(f"{DRIVERS}/kmem/uevent", "add") == ""
    assert bus.write(f"{HMEM}/dax0.0/uevent", "hello") == bus.write(f"{DRIVERS}/kmem/uevent", "") == "EINVAL"
    assert seen == [
        ("change", "/devices/platform/hmem.0/dax0.0", "dax"), ("add", "/bus/dax/drivers/kmem", "drivers"),
    ]  # fmt: skip


def test_memmap_on_memory_is_for_kernels_and_machines_that_have_it_and_not_while_kmem_is_bound(bus: Bus) -> None:
    attribute = f"{HMEM}/dax0.0/memmap_on_memory"
    assert bus.write(attribute, "1") == "ENOTSUP"
    assert bus.write(attribute, "perhaps") == "EINVAL"
    assert (bus.write(attribute, "0"), bus.read(attribute)) == ("", "0\n")


DAXCTL = """
daxctl reconfigure-device --mode=system-ram --no-online dax0.0 > /dev/null
daxctl list; echo ,
daxctl online-memory dax0.0
lsmem -no RANGE,STATE,ZONES
daxctl offline-memory dax0.0
daxctl reconfigure-device --mode=devdax dax0.0 > /dev/null
daxctl reconfigure-device --mode=system-ram dax1.0
"""


@pytest.mark.skipif(shutil.which("daxctl") is None, reason="NO TWIN WAS SEEN BY daxctl: it is not installed")
@pytest.mark.parametrize("options", [[], ["--exact"]])
def test_daxctl_makes_ram_of_devices_and_takes_it_back(tmp_path: Path, options: list[str]) -> None:
    done = on_twin([*options, scenario(tmp_path, MACHINE)], ["sh", "-ec", DAXCTL])
    assert done.returncode == 0, done.stderr
    head, rest = done.stdout.split("\n,\n")
    first = next(each for each in json.loads(head) if each["chardev"] == "dax0.0")
    assert (first["mode"], first["online_memblocks"], first["total_memblocks"]) == ("system-ram", 0, 8)
    table, last = rest.split("[", 1)
    rows = [line.split() for line in table.splitlines()]
    assert ["0x0000000200000000-0x000000023fffffff", "online", "Movable"] in rows
    namespace = json.loads("[" + last)[0]
    assert (namespace["size"], namespace["online_memblocks"], namespace["movable"]) == (1022 << 20, 7, True)
