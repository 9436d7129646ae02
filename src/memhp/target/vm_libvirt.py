"""A libvirt domain, through its XML and libvirt's own calls, where the Python binding ``libvirt`` is installed.

Memory devices are the ``<memory>`` elements of the live domain, known by their alias. Source: libvirt's "Domain XML
format", memory devices; ``virDomainUpdateDeviceFlags``, ``virDomainAttachDeviceFlags``, ``virDomainDetachDeviceFlags``.
The connection is libvirt's default one: ``LIBVIRT_DEFAULT_URI`` chooses another.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

from memhp.errors import BadInput
from memhp.linux.arch.registry import arch_called
from memhp.target.vm import KINDS, Plugged, VmDevice, VmLost, VmRefused, VmStatus
from memhp.units import KiB

STATES = {1: "running", 2: "blocked", 3: "paused", 4: "shutting down", 5: "shut off", 6: "crashed", 7: "suspended"}
"""``virDomainState``."""
SCALES = "bkmgtpe"
POLL = 0.5
"""Seconds between two looks."""


class LibvirtVm:
    """A running domain. To be closed."""

    sees_taken = True

    def __init__(self, name: str) -> None:
        try:
            self._libvirt: Any = import_module("libvirt")
        except ImportError:
            raise BadInput(
                "libvirt's Python binding is not there", where=f"libvirt:{name}", fix="install libvirt-python"
            ) from None
        try:
            self._connection = self._libvirt.open(None)
            self._domain = self._connection.lookupByName(name)
        except self._libvirt.libvirtError as error:
            raise BadInput(str(error), where=f"libvirt:{name}", fix="a domain that virsh list shows") from None

    def _ask(self, call: str, *arguments: Any) -> Any:
        """One of the domain's methods. Raises :class:`VmRefused` with libvirt's words."""
        try:
            return getattr(self._domain, call)(*arguments)
        except self._libvirt.libvirtError as error:
            raise VmRefused(f"libvirt: {error}") from None

    def _xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self._ask("XMLDesc", 0))

    def _elements(self, root: ElementTree.Element) -> dict[str, ElementTree.Element]:
        """The memory devices by alias."""
        return {_alias(each, i): each for i, each in enumerate(root.findall("devices/memory"))}

    def status(self) -> VmStatus:
        """What the live XML says of memory."""
        root = self._xml()
        devices = [_device(name, each) for name, each in self._elements(root).items()]
        cells = root.findall("cpu/numa/cell")
        base = sum(int(cell.get("memory", 0)) * unit(cell.get("unit", "KiB")) for cell in cells)
        if not cells:
            base = _size(root.find("memory")) - sum(device.most or device.size for device in devices)
        most = root.find("maxMemory")
        kind = root.find("os/type")
        arch = kind.get("arch", "") if kind is not None else ""
        version = self._connection.getLibVersion()
        return VmStatus(
            monitor=f"libvirt {version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
            name=root.findtext("name", ""),
            arch=arch_called(arch),
            state=STATES.get(self._ask("state")[0], "unknown"),
            base=base,
            most=None if most is None else _size(most),
            slots=None if most is None else int(most.get("slots", 0)),
            devices=devices,
        )

    def request(self, device: str, size: int) -> None:
        """Update a virtio-mem device with another ``<requested>``."""
        element = self._elements(self._xml())[device]
        requested = element.find("target/requested")
        if requested is None:
            raise VmRefused(f"libvirt: {device} has no <requested>")
        requested.set("unit", "KiB")
        requested.text = str(size // KiB)
        self._ask("updateDeviceFlags", _text(element), self._libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def plug(self, what: Plugged) -> VmDevice:
        """Attach a ``<memory>`` device under an alias of ours."""
        element = ElementTree.Element("memory", model=what.kind)
        if what.file is not None:
            ElementTree.SubElement(ElementTree.SubElement(element, "source"), "path").text = what.file
        target = ElementTree.SubElement(element, "target")
        ElementTree.SubElement(target, "size", unit="KiB").text = str(what.size // KiB)
        ElementTree.SubElement(target, "node").text = str(what.node or 0)
        name = what.id if what.id.startswith("ua-") else f"ua-{what.id}"
        ElementTree.SubElement(element, "alias", name=name)
        self._ask("attachDeviceFlags", _text(element), self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return next(device for device in self.status().devices if device.id == name)

    def unplug(self, device: str) -> None:
        """Detach it; libvirt asks the guest."""
        element = self._elements(self._xml())[device]
        self._ask("detachDeviceFlags", _text(element), self._libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def forget(self, device: str) -> None:
        """Libvirt gives backends back itself."""

    def wait(self, seconds: float) -> str:
        """A moment."""
        time.sleep(min(seconds, POLL))
        return ""

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def _alias(element: ElementTree.Element, number: int) -> str:
    alias = element.find("alias")
    return alias.get("name", "") if alias is not None else f"memory{number}"


def unit(text: str) -> int:
    """Bytes of a unit of libvirt's, in any case: ``K`` and ``KiB`` are 1024, ``KB`` is 1000 (``virScaleInteger``)."""
    scale, tail = text[:1].lower(), text[1:].lower()
    if scale not in SCALES or tail not in (("", "yte", "ytes") if scale == "b" else ("", "b", "ib")):
        raise VmLost(f"libvirt: no unit of a size: {text}")
    return int((1000 if tail == "b" else 1024) ** SCALES.index(scale))


def _size(element: ElementTree.Element | None) -> int:
    """Bytes of an element such as ``<size unit='KiB'>``; 0 where there is none."""
    return 0 if element is None else int(element.text or 0) * unit(element.get("unit", "KiB"))


def _text(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")


def _device(name: str, element: ElementTree.Element) -> VmDevice:
    model = element.get("model", "")
    virtio = model == "virtio-mem"
    size, current = element.find("target/size"), element.find("target/current")
    place = element.find("target/address" if virtio else "address")
    base = None if place is None else place.get("base")
    node, slot = element.findtext("target/node"), None if place is None else place.get("slot")
    return VmDevice(
        id=name,
        kind=KINDS.get(model, "other"),
        at=None if base is None else int(base, 16),
        size=_size(current) if virtio else _size(size),
        requested=_size(element.find("target/requested")) if virtio else None,
        most=_size(size) if virtio else None,
        block_size=_size(element.find("target/block")) if virtio else None,
        node=None if node is None else int(node),
        slot=None if slot is None else int(slot),
    )
