"""A libvirt domain by its XML, as "Domain XML format" describes memory devices. No libvirt runs here: its binding is
played by a module with the calls that are used.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from memhp.cli.main import main
from memhp.target.vm import Plugged, VmLost
from memhp.target.vm_libvirt import LibvirtVm, unit
from memhp.target.vm_resize import Patience, plug, resize, unplug
from memhp.units import GiB, MiB

DOMAIN = """<domain type='kvm' id='1'>
  <name>web1</name>
  <maxMemory slots='16' unit='KiB'>16777216</maxMemory>
  <memory unit='KiB'>7340032</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <os><type arch='x86_64' machine='pc-q35-9.0'>hvm</type></os>
  <cpu><numa><cell id='0' cpus='0-1' memory='2097152' unit='KiB'/></numa></cpu>
  <devices>
    <memory model='virtio-mem'>
      <target>
        <size unit='KiB'>4194304</size>
        <node>0</node>
        <block unit='KiB'>2048</block>
        <requested unit='KiB'>0</requested>
        <current unit='KiB'>0</current>
        <address base='0x140000000'/>
      </target>
      <alias name='ua-virtiomem0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
    </memory>
    <memory model='dimm'>
      <target><size unit='GiB'>1</size><node>0</node></target>
      <alias name='dimm0'/>
      <address type='dimm' slot='0' base='0x100000000'/>
    </memory>
  </devices>
</domain>"""


class Error(Exception):
    """``libvirtError``."""


class Domain:
    """A domain whose guest does at once what it is asked."""

    def __init__(self) -> None:
        self.root = ElementTree.fromstring(DOMAIN)
        self.calls: list[str] = []

    def XMLDesc(self, flags: int) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")

    def state(self) -> list[int]:
        return [1, 1]

    def _find(self, xml: str) -> tuple[ElementTree.Element, ElementTree.Element, ElementTree.Element | None]:
        given = ElementTree.fromstring(xml)
        devices = self.root.find("devices")
        assert devices is not None
        name = given.find("alias")
        assert name is not None
        there = [e for e in devices if e.find("alias").get("name") == name.get("name")]  # type: ignore[union-attr]
        return given, devices, there[0] if there else None

    def updateDeviceFlags(self, xml: str, flags: int) -> None:
        self.calls.append("update")
        given, devices, there = self._find(xml)
        assert there is not None
        requested, current = given.find("target/requested"), given.find("target/current")
        assert requested is not None
        assert current is not None
        current.text = requested.text
        devices.remove(there)
        devices.insert(0, given)

    def attachDeviceFlags(self, xml: str, flags: int) -> None:
        self.calls.append("attach")
        given, devices, there = self._find(xml)
        if there is not None:
            raise Error("unable to execute QEMU command 'device_add': duplicate ID")
        devices.append(given)

    def detachDeviceFlags(self, xml: str, flags: int) -> None:
        self.calls.append("detach")
        _, devices, there = self._find(xml)
        assert there is not None
        devices.remove(there)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    found = Domain()

    def look_up(name: str) -> Domain:
        if name != "web1":
            raise Error(f"Domain not found: no domain with matching name '{name}'")
        return found

    connection = SimpleNamespace(lookupByName=look_up, getLibVersion=lambda: 10_009_000, close=lambda: None)
    module = SimpleNamespace(open=lambda uri: connection, libvirtError=Error, VIR_DOMAIN_AFFECT_LIVE=1)
    monkeypatch.setitem(sys.modules, "libvirt", module)
    return found


def test_memory_devices_are_those_of_the_xml(domain: Domain) -> None:
    status = LibvirtVm("web1").status()
    assert (status.monitor, status.arch, status.state) == ("libvirt 10.9.0", "x86_64", "running")
    assert (status.base, status.most, status.slots, status.size) == (2 * GiB, 16 * GiB, 16, 3 * GiB)
    virtio, dimm = status.devices
    assert (virtio.id, virtio.at, virtio.most, virtio.block_size) == ("ua-virtiomem0", 5 * GiB, 4 * GiB, 2 * MiB)
    assert (dimm.id, dimm.kind, dimm.at, dimm.size, dimm.slot) == ("dimm0", "dimm", 4 * GiB, GiB, 0)


def test_a_request_updates_the_device(domain: Domain) -> None:
    change = resize(LibvirtVm("web1"), None, GiB, patience=Patience(5, 5))
    assert (change.ended, change.now, domain.calls) == ("reached", GiB, ["update"])


def test_a_dimm_is_attached_under_a_name_of_ours_and_detached(domain: Domain) -> None:
    vm = LibvirtVm("web1")
    there = plug(vm, Plugged(id="more", size=512 * MiB))
    assert (there.id, there.size) == ("ua-more", 512 * MiB)
    assert unplug(vm, "ua-more", patience=Patience(5, 5)).ended == "reached"
    assert domain.calls == ["attach", "detach"]


def test_the_command_on_a_domain(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "status", "libvirt:web1"]) == 0
    assert "ua-virtiomem0: virtio-mem at 0x140000000" in capsys.readouterr().out
    assert main(["vm", "status", "libvirt:web2"]) == 2
    assert "no domain with matching name 'web2'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("b", 1), ("Byte", 1), ("bytes", 1), ("k", 2**10), ("KB", 10**3), ("kib", 2**10), ("P", 2**50),
     ("EB", 10**18), ("TiB", 2**40)],
)  # fmt: skip
def test_units_are_those_of_libvirts_schema(text: str, size: int) -> None:
    """``unit`` of basictypes.rng: any case, up to exbibytes."""
    assert unit(text) == size


@pytest.mark.parametrize("text", ["x", "KiBi", "kk", "bib", "1"])
def test_a_unit_that_is_none_is_told_so(text: str) -> None:
    with pytest.raises(VmLost, match="no unit of a size"):
        unit(text)


def test_without_the_binding_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    assert main(["vm", "status", "libvirt:web1"]) == 2
    assert "install libvirt-python" in capsys.readouterr().err
