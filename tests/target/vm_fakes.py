"""Virtual machines for tests: a monitor that answers at once, a clock that goes as fast as it is asked."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

import msgspec

from memhp.target.vm import Plugged, VmDevice, VmStatus
from memhp.units import GiB, MiB

VIRTIO_MEM = VmDevice(
    id="vm0", kind="virtio-mem", at=4 * GiB, size=0, requested=0, most=4 * GiB, block_size=2 * MiB, node=0
)
STATUS = VmStatus(
    monitor="QEMU 11.1.0", name="guest", arch="x86_64", state="running", base=2 * GiB, most=16 * GiB, slots=2,
    devices=[VIRTIO_MEM],
)  # fmt: skip


class FakeVm:
    """A machine whose guest takes these sizes, one each time somebody waits, after each request."""

    sees_taken = True

    def __init__(self, sizes: Sequence[int], status: VmStatus = STATUS, answer: str = "") -> None:
        self._status, self._sizes, self._answer = status, list(sizes), answer
        self.requests: list[int] = []
        self.now = 0.0
        self.forgotten: list[str] = []

    def clock(self) -> float:
        return self.now

    def status(self) -> VmStatus:
        return self._status

    def request(self, device: str, size: int) -> None:
        self.requests.append(size)
        self._change(requested=size)

    def plug(self, what: Plugged) -> VmDevice:
        device = VmDevice(id=what.id, kind=what.kind, size=what.size)
        self._status = msgspec.structs.replace(self._status, devices=[*self._status.devices, device])
        return device

    def unplug(self, device: str) -> None:
        self.requests.append(0)

    def forget(self, device: str) -> None:
        self.forgotten.append(device)

    def wait(self, seconds: float) -> str:
        self.now += seconds
        if self._sizes:
            self._change(size=self._sizes.pop(0))
        elif not self._answer and self.requests == [0]:
            left = [device for device in self._status.devices if device.kind == "virtio-mem"]
            self._status = msgspec.structs.replace(self._status, devices=left)
        return self._answer

    def close(self) -> None:
        return

    def _change(self, **changes: int) -> None:
        first, *others = self._status.devices
        self._status = msgspec.structs.replace(
            self._status, devices=[msgspec.structs.replace(first, **changes), *others]
        )
