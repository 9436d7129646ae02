"""``/sys/bus/virtio/drivers/virtio_mem``: which virtio-mem devices the driver has, and how it is taken from them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, ENODEV
from functools import partial

from memhp.errors import KernelError
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.scenario import schema
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem import bind, unbind
from memhp.twin.tree import Attribute, Entry, Folder, folder, joined

DRIVER = "/sys/bus/virtio/drivers/virtio_mem"
KERNEL_FILE = "drivers/base/bus.c"
DEVICE = folder(
    {
        name: Attribute(0o444, partial(str, text), fixed=True)
        for name, text in (("device", "0x0018\n"), ("modalias", "virtio:d00000018v00001AF4\n"), ("vendor", "0x1af4\n"))
    }
)
"""What ``drivers/virtio/virtio.c`` shows of a virtio-mem device of QEMU, in a folder where Linux has a link to one."""


def virtio_files(session: Session) -> dict[str, Entry]:
    """The driver's folder, where the machine has such devices."""
    if not session.devices:
        return {}

    def found(text: str, place: str) -> tuple[str, VirtioMem]:
        """A device by what the bus calls it."""
        for name, vm in session.devices.items():
            if vm.name == text.removesuffix("\n"):
                return name, vm
        raise KernelError(ENODEV, f"no device {text.strip()!r} on the bus", place=f"{KERNEL_FILE}:{place}")

    def bind_store(text: str) -> None:
        name, vm = found(text, "bind_store")
        if not vm.removing:
            raise KernelError(EBUSY, f"{vm.name} has its driver", place="drivers/base/dd.c:device_driver_attach")
        bind(session, schema.Bind(device=name))

    def unbind_store(text: str) -> None:
        name, vm = found(text, "unbind_store")
        if vm.removing:
            raise KernelError(ENODEV, f"the driver has no {vm.name}", place=f"{KERNEL_FILE}:unbind_store")
        unbind(session, schema.Unbind(device=name))

    def bound() -> list[str]:
        return [vm.name for vm in session.devices.values() if not vm.removing]

    stores = folder({"bind": Attribute(0o200, None, bind_store), "unbind": Attribute(0o200, None, unbind_store)})
    devices = Folder(bound, lambda name: DEVICE if name in bound() else None)
    return {DRIVER: joined(stores, devices)}
