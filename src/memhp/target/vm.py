"""A virtual machine of somebody's as a target: what its memory consists of, and what can be asked of whoever runs it.

Nothing here knows QEMU from Cloud Hypervisor: a :class:`Vm` is a monitor that shows memory devices and takes requests.
All sizes and addresses are bytes; addresses are the guest's physical ones.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal, Protocol

import msgspec

from memhp.errors import BadInput, MemhpError, one_of
from memhp.units import exact_size

Kind = Literal["virtio-mem", "dimm", "nvdimm", "other"]
KINDS: dict[str, Kind] = {"virtio-mem": "virtio-mem", "dimm": "dimm", "nvdimm": "nvdimm"}
"""Devices that are known, by the name that QEMU and libvirt have for them; every other is ``other``."""


class VmLost(MemhpError):
    """The virtual machine, or its monitor, does not answer any more."""


class VmRefused(MemhpError):
    """The monitor refused a request, in its own words."""


class VmDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A memory device: `size` is what it gives now. The rest is None where such devices have none."""

    id: str
    kind: Kind
    at: int | None = None
    size: int
    requested: int | None = None
    """virtio-mem: what was asked of the guest last."""
    most: int | None = None
    """virtio-mem: what may be asked for."""
    block_size: int | None = None
    """virtio-mem: the unit of a request."""
    node: int | None = None
    slot: int | None = None
    hotplugged: bool | None = None


class VmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual machine's memory: what it boots with, the devices beside it, what there is room for."""

    monitor: str
    """What runs it: ``QEMU 11.1.0``."""
    name: str
    arch: str | None
    state: str
    """``running``, ``paused`` … as the monitor says."""
    base: int
    """RAM that it starts with."""
    most: int | None = None
    """All that it may have; None where that is not told."""
    slots: int | None = None
    """How many DIMMs may be plugged, those that are included."""
    devices: list[VmDevice] = []

    @property
    def size(self) -> int:
        """All memory that the guest is given now."""
        return self.base + sum(device.size for device in self.devices)

    def device(self, name: str | None, kind: Kind | None = None) -> VmDevice:
        """The device of that name, or the only one of its kind; None: of those whose size can be asked for.

        Raises BadInput that lists what there is.
        """
        fits = {
            each.id: each for each in self.devices if (each.most is not None if kind is None else each.kind == kind)
        }
        return self._chosen(name, fits, kind or "virtio-mem")

    def dimm(self, name: str | None) -> VmDevice:
        """The DIMM or NVDIMM of that name; None: the only DIMM. Raises BadInput that lists what there is."""
        nvdimm = any(each.id == name and each.kind == "nvdimm" for each in self.devices)
        return self.device(name, "nvdimm" if nvdimm else "dimm")

    def _chosen(self, name: str | None, there: dict[str, VmDevice], kind: Kind) -> VmDevice:
        if name is None and len(there) == 1:
            return next(iter(there.values()))
        where = "--device" if kind == "virtio-mem" else "DEVICE"
        if not there:
            fix = "start it with one" if kind == "virtio-mem" else "memhp vm status shows what it has"
            raise BadInput(f"{self.name} has no {kind} device", where=where, fix=fix)
        if name is None or name not in there:
            what = f"no {kind} device {name!r}" if name else f"which of its {len(there)} {kind} devices?"
            raise BadInput(what, where=where, fix=one_of(name or "", there))
        return there[name]


class Plugged(msgspec.Struct, frozen=True, kw_only=True):
    """A DIMM or NVDIMM to be plugged. `file` holds an NVDIMM's contents, or shared RAM; None: anonymous memory."""

    id: str
    kind: Literal["dimm", "nvdimm"] = "dimm"
    size: int
    node: int | None = None
    file: str | None = None
    label_size: int = 0


class Vm(Protocol):
    """A monitor. All requests raise :class:`VmRefused` or :class:`VmLost`."""

    @property
    def sees_taken(self) -> bool:
        """Whether it tells what the guest has taken of what it was asked to."""
        ...

    def status(self) -> VmStatus:
        """What the machine's memory is now."""
        ...

    def request(self, device: str, size: int) -> None:
        """Ask the guest for another size of a device; returns at once."""
        ...

    def plug(self, what: Plugged) -> VmDevice:
        """Plug a DIMM; returns as soon as the guest is told."""
        ...

    def unplug(self, device: str) -> None:
        """Ask the guest for a DIMM back; returns at once."""
        ...

    def forget(self, device: str) -> None:
        """Give back what the host held for a DIMM that is gone."""
        ...

    def wait(self, seconds: float) -> str:
        """Until something happens to memory, or that long: what the guest said of a refusal, else ""."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


def check_request(device: VmDevice, size: int) -> None:
    """Whether a device can be asked for that size: in whole blocks, as much as it has. Raises BadInput."""
    if device.block_size and size % device.block_size:
        unit = device.block_size
        raise BadInput(
            f"{exact_size(size)} are no whole blocks of {device.id}, which are of {exact_size(unit)}",
            where="SIZE",
            fix=f"{exact_size(size // unit * unit)} or {exact_size(-(-size // unit) * unit)}",
        )
    if device.most is not None and size > device.most:
        raise BadInput(f"{device.id} has {exact_size(device.most)} at most", where="SIZE", fix="ask for less")


def check_plug(status: VmStatus, what: Plugged) -> None:
    """Whether there is a name, a slot and room for a DIMM or NVDIMM. Raises BadInput."""
    dimms = [device for device in status.devices if device.kind in ("dimm", "nvdimm")]
    if any(device.id == what.id for device in status.devices):
        raise BadInput(f"there is a device {what.id!r} already", where="--id", fix="another name")
    if status.slots is not None and len(dimms) >= status.slots:
        raise BadInput(f"all {status.slots} slots are taken", where=status.name, fix="start it with -m slots=…")
    if status.most is not None and status.size + what.size > status.most:
        raise BadInput(
            f"{exact_size(status.size + what.size)} are more than its {exact_size(status.most)}",
            where=status.name,
            fix="plug less, or start it with -m maxmem=…",
        )
