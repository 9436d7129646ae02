"""A dax region without a namespace is cut up by its files on a twin, as drivers/dax/bus.c of 6.12 and 7.2 has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import shutil
from pathlib import Path

import pytest

from dax_bus import HMEM, PMEM, Bus, two_regions
from memhp.twin.tree import Attribute, resolve
from memhp.units import GiB, MiB
from twin_runs import on_twin, scenario

REGION, BUS = f"{HMEM}/dax_region", "/sys/bus/dax"


@pytest.fixture(params=["6.12", "7.2"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Bus:
    return Bus(tmp_path, two_regions(request.param, "none"))


def mode(bus: Bus, path: str) -> int:
    entry = resolve(bus.root, path)
    assert isinstance(entry, Attribute)
    return entry.mode


def mappings(bus: Bus, name: str) -> list[tuple[str, ...]]:
    """Start, end and first page of each range of a device."""
    found = sorted(each for each in bus.names(f"{HMEM}/{name}") if each.removeprefix("mapping").isdigit())
    parts = ("start", "end", "page_offset")
    return [tuple(bus.read(f"{HMEM}/{name}/{each}/{part}").strip() for part in parts) for each in found]


def test_a_dynamic_region_has_more_files_than_a_static_one(bus: Bus) -> None:
    fewer = {"id", "size", "align"}
    assert bus.names(REGION) == fewer | {"available_size", "create", "delete", "seed"}
    assert bus.names(f"{PMEM}/dax_region") == fewer
    shown = {name: mode(bus, f"{REGION}/{name}") for name in bus.names(REGION)}
    assert shown == {
        "id": 0o444, "size": 0o444, "align": 0o400, "available_size": 0o444, "create": 0o644, "delete": 0o200,
        "seed": 0o444,
    }  # fmt: skip
    assert (mode(bus, f"{HMEM}/dax0.0/size"), mode(bus, f"{HMEM}/dax0.0/mapping")) == (0o644, 0o200)
    assert mode(bus, f"{PMEM}/dax1.0/size") == 0o444 and "mapping" not in bus.names(f"{PMEM}/dax1.0")
    assert [bus.read(f"{REGION}/{name}") for name in ("id", "size", "available_size", "seed", "create")] == [
        "0\n", f"{GiB}\n", "0\n", "\n", "\n",
    ]  # fmt: skip


def test_a_device_is_made_where_something_is_left_and_named_by_the_lowest_number(bus: Bus) -> None:
    for text, answer in (("2", "EINVAL"), ("0", "EINVAL"), ("", "EINVAL"), ("0x80000000", "ERANGE"), ("1", "ENOSPC")):
        assert bus.write(f"{REGION}/create", text) == answer
    assert bus.write(f"{HMEM}/dax0.0/size", "512M") == "EINVAL"
    assert bus.write(f"{HMEM}/dax0.0/size", f"{512 * MiB}\n") == ""
    assert bus.read(f"{REGION}/available_size") == f"{512 * MiB}\n"
    seen: list[tuple[str, str]] = []
    bus.twin.uevents.append(lambda event: seen.append((event.action, event.devpath)))
    assert bus.write(f"{REGION}/create", "1\n") == bus.write(f"{REGION}/create", "0x1") == ""
    assert bus.names(f"{BUS}/devices") == {"dax0.0", "dax0.1", "dax0.2", "dax1.0"}
    # The first that was made, and not bound, is the seed; the last is what `create` says.
    assert (bus.read(f"{REGION}/seed"), bus.read(f"{REGION}/create")) == ("dax0.1\n", "dax0.2\n")
    assert (bus.read(f"{HMEM}/dax0.1/size"), bus.read(f"{HMEM}/dax0.1/resource")) == ("0\n", "0x200000000\n")
    assert bus.write(f"{REGION}/delete", "dax0.1\n") == ""
    assert (bus.read(f"{REGION}/seed"), bus.read(f"{REGION}/create")) == ("\n", "dax0.2\n")
    assert bus.write(f"{REGION}/create", "1") == "" and bus.read(f"{REGION}/create") == "dax0.1\n"
    path = "/devices/platform/hmem.0/dax0"
    assert seen == [("add", f"{path}.1"), ("add", f"{path}.2"), ("remove", f"{path}.1"), ("add", f"{path}.1")]


def test_a_device_goes_that_has_nothing_and_nobody_and_is_not_the_first(bus: Bus) -> None:
    assert bus.write(f"{REGION}/delete", "dax0.7") == bus.write(f"{REGION}/delete", "dax1.0") == "ENXIO"
    assert bus.write(f"{REGION}/delete", "dax0.0") == "EBUSY"
    assert bus.write(f"{HMEM}/dax0.0/size", "0") == "" and mappings(bus, "dax0.0") == []
    assert bus.write(f"{REGION}/delete", "dax0.0") == "EBUSY"
    assert bus.write(f"{REGION}/create", "1") == bus.write(f"{HMEM}/dax0.1/size", f"{256 * MiB}") == ""
    assert bus.write(f"{REGION}/delete", "dax0.1") == "EBUSY"
    assert bus.write(f"{HMEM}/dax0.1/size", "0") == bus.write(f"{REGION}/delete", "dax0.1") == ""
    assert resolve(bus.root, f"{HMEM}/dax0.1") is None


def test_a_size_is_made_of_whole_subsections_and_written_while_nobody_has_the_device(bus: Bus) -> None:
    size = f"{HMEM}/dax0.0/size"
    # memremap_compat_align() is a subsection, also where pages are smaller.
    assert bus.write(f"{HMEM}/dax0.0/align", "4096") == "" and bus.write(size, "4096") == "EINVAL"
    assert bus.read(f"{REGION}/align") == f"{2 * MiB}\n"
    assert bus.write(size, f"{2 * GiB}") == "ENOSPC"
    assert bus.write(f"{BUS}/drivers/kmem/bind", "dax0.0") == ""
    assert bus.write(size, f"{512 * MiB}") == bus.write(size, f"{GiB}") == "EBUSY"
    assert bus.write(f"{BUS}/drivers/kmem/unbind", "dax0.0") == ""
    assert bus.write(f"{HMEM}/dax0.0/memmap_on_memory", "0") == bus.write(size, "0") == ""
    assert bus.write(f"{BUS}/drivers/kmem/bind", "dax0.0") == "ENXIO"


def test_a_mapping_is_a_range_that_is_free_wherever_it_starts(bus: Bus) -> None:
    mapping = f"{HMEM}/dax0.0/mapping"
    for text in ("", "200000000", "200000000-", "x-1", "-1"):
        assert bus.write(mapping, text) == "EINVAL"
    assert bus.write(mapping, "200000000-2001fffff") == "ENOMEM"
    assert bus.write(mapping, "200000000-1ffffffff") == "EBUSY"
    assert bus.write(f"{HMEM}/dax0.0/size", "0") == ""
    assert bus.write(mapping, "240000000-2401fffff") == "ENOMEM"
    # One that is not made of its pages is forgotten without a word: rc is still 0 then.
    assert bus.write(mapping, "200000000-200000fff") == "" and mappings(bus, "dax0.0") == []
    assert bus.write(mapping, "0x210000000-0x21fffffff\n") == bus.write(mapping, "200000000-207ffffff") == ""
    assert mappings(bus, "dax0.0") == [
        ("0x210000000", "0x21fffffff", "0x0"), ("0x200000000", "0x207ffffff", "0x10000"),
    ]  # fmt: skip
    assert bus.read(f"{HMEM}/dax0.0/resource") == "0x210000000\n"
    assert bus.write(f"{BUS}/drivers/kmem/bind", "dax0.0") == ""
    assert {"memory64", "memory66", "memory67"} <= bus.names("/sys/devices/system/memory")


def test_a_driver_lets_go_of_what_it_took_though_a_range_has_come_since(bus: Bus) -> None:
    # mapping_store() asks for no driver.
    assert bus.write(f"{HMEM}/dax0.0/size", f"{512 * MiB}") == ""
    assert bus.write(f"{BUS}/drivers/device_dax/new_id", "dax0.0") == ""
    assert bus.write(f"{HMEM}/dax0.0/mapping", "230000000-23fffffff") == ""
    assert bus.write(f"{BUS}/drivers/device_dax/unbind", "dax0.0") == ""
    assert not [line.text for line in bus.twin.session.k.hw.log_lines if "nonexistent" in line.text]


def test_kmem_that_is_unbound_reads_behind_what_it_kept_of_the_ranges_that_it_was_bound_with(bus: Bus) -> None:
    # dev_dax_kmem_remove() goes by the ranges of that moment, and data->res[] has those that dev_dax_kmem_probe() saw.
    assert bus.write(f"{HMEM}/dax0.0/size", f"{512 * MiB}") == bus.write(f"{BUS}/drivers/kmem/bind", "dax0.0") == ""
    assert bus.write(f"{HMEM}/dax0.0/mapping", "230000000-23fffffff") == "" and not bus.twin.dead
    bus.write(f"{BUS}/drivers/kmem/unbind", "dax0.0")
    assert "out of bounds" in bus.twin.dead


def test_the_bus_offers_a_device_to_its_drivers(bus: Bus) -> None:
    assert bus.read(f"{BUS}/drivers_autoprobe") == "1\n"
    assert bus.write(f"{BUS}/drivers_autoprobe", "0\n") == "" and bus.read(f"{BUS}/drivers_autoprobe") == "0\n"
    assert bus.write(f"{BUS}/drivers_probe", "dax5.0") == "ENODEV"
    assert bus.write(f"{BUS}/drivers_probe", "dax0.0\n") == ""
    assert bus.read(f"{HMEM}/dax0.0/driver").endswith("/kmem")
    assert bus.write(f"{BUS}/drivers_probe", "dax0.0") == bus.write(f"{BUS}/uevent", "change") == ""
    assert bus.write(f"{BUS}/uevent", "perhaps") == "EINVAL"


def test_that_no_driver_takes_a_device_is_no_error_of_the_bus(bus: Bus) -> None:
    assert bus.write(f"{HMEM}/dax0.0/size", "0") == bus.write(f"{BUS}/drivers_probe", "dax0.0") == ""
    assert "driver" not in bus.names(f"{HMEM}/dax0.0")


DAXCTL = """
echo 0 > /sys/devices/platform/hmem.0/dax0.0/size
daxctl create-device -r 0 -s 256M > /dev/null
daxctl create-device -r 0 -s 512M > /dev/null
daxctl reconfigure-device -m system-ram dax0.1 > /dev/null
daxctl destroy-device dax0.1 2>&1 > /dev/null | head -1
daxctl disable-device dax0.2; daxctl destroy-device dax0.2
daxctl create-device -r 0 > /dev/null
daxctl list -M
"""


@pytest.mark.skipif(shutil.which("daxctl") is None, reason="NO REGION WAS CUT UP BY daxctl: it is not installed")
def test_daxctl_makes_devices_and_ends_them(tmp_path: Path) -> None:
    machine = scenario(tmp_path, two_regions("7.2", "none"))
    done = on_twin([machine], ["sh", "-c", DAXCTL])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dax0.1 is active, specify --force for deletion\n")
    listed = {each["chardev"]: each for each in json.loads(done.stdout[done.stdout.index("[") :])}
    first, second = listed["dax0.1"], listed["dax0.2"]
    assert (first["mode"], first["size"]) == ("system-ram", 256 * MiB)
    assert (second["mode"], second["size"]) == ("devdax", 768 * MiB)
    assert second["mappings"] == [
        {"page_offset": 0, "start": 8 * GiB + 256 * MiB, "end": 9 * GiB - 1, "size": 768 * MiB}
    ]  # fmt: skip
