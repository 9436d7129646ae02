"""What libvirt and kata ask of QEMU when a machine's memory changes: scripts (:mod:`qmp_script`), from their sources.

Arguments stand as they send them. What they ask when they connect, and of devices that are no memory, is left out.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.units import GiB, MiB
from qmp_script import SCRIPT, SYS, Act

DEVICES: Act = ("ask", "query-memory-devices", {})
RAM = {"qom-type": "memory-backend-ram"}


def _libvirt_dimm(number: int, slot: int) -> list[Act]:
    """``qemu_hotplug.c:qemuDomainAttachMemory()``: backend, device, then the balloon and where the DIMM came to be."""
    device = {"driver": "pc-dimm", "node": 0, "memdev": f"memdimm{number}", "id": f"dimm{number}", "slot": slot}
    return [
        ("ask", "object-add", {**RAM, "id": f"memdimm{number}", "size": 512 * MiB}),
        ("ask", "device_add", device),
    ]


def _libvirt_resize(size: int) -> list[Act]:
    """``qemuMonitorJSONChangeMemoryRequestedSize()``, and what it asks when the guest has got there."""
    path = "/machine/peripheral/virtiomem0"
    wanted = {"path": path, "property": "requested-size", "value": size}
    return [("ask", "qom-set", wanted), ("size", "virtiomem0", size), DEVICES]


LIBVIRT: list[Act] = [
    *_libvirt_dimm(0, 0),
    ("until", "ACPI_DEVICE_OST", 1),
    ("ask", "query-balloon", {}),
    DEVICES,
    # A slot that is taken: the device is refused, and the backend goes again.
    *_libvirt_dimm(1, 0),
    ("ask", "object-del", {"id": "memdimm1"}),
    *_libvirt_dimm(1, 1),
    ("until", "ACPI_DEVICE_OST", 1),
    ("ask", "query-balloon", {}),
    DEVICES,
    # qemuDomainDetachDeviceLive(), then qemuDomainRemoveMemoryDevice() when the guest has let it go.
    ("ask", "device_del", {"id": "dimm0"}),
    ("until", "DEVICE_DELETED", 1),
    ("ask", "object-del", {"id": "memdimm0"}),
    ("ask", "query-balloon", {}),
    ("ask", "device_del", {"id": "dimm1"}),
    ("until", "DEVICE_DELETED", 1),
    ("ask", "object-del", {"id": "memdimm1"}),
    DEVICES,
    # <memory model='virtio-mem'>
    ("ask", "object-add", {**RAM, "id": "memvirtiomem0", "reserve": False, "size": GiB}),
    ("ask", "device_add", {
        "driver": "virtio-mem-pci", "node": 0, "block-size": 2 * MiB, "requested-size": 256 * MiB,
        "memdev": "memvirtiomem0", "id": "virtiomem0", "bus": "port0", "addr": "0x0",
    }),
    ("size", "virtiomem0", 256 * MiB),
    DEVICES,
    *_libvirt_resize(768 * MiB),
    *_libvirt_resize(0),
    ("ask", "device_del", {"id": "virtiomem0"}),
    ("until", "DEVICE_DELETED", 2),
    ("ask", "object-del", {"id": "memvirtiomem0"}),
]  # fmt: skip
"""``virsh attach-device``, ``update-memory-device`` and ``detach-device``."""


def _kata_dimm(slot: int) -> list[Act]:
    """``qemu.go:hotplugAddMemory()`` and ``qmp.go:ExecHotplugMemory()``: the slot is one above the highest."""
    return [
        DEVICES,
        ("ask", "object-add", {**RAM, "id": f"mem{slot}", "size": 256 * MiB}),
        ("ask", "device_add", {"driver": "pc-dimm", "id": f"dimmmem{slot}", "memdev": f"mem{slot}"}),
        ("until", "ACPI_DEVICE_OST", 1),
    ]


def _kata_agent(first: int) -> list[Act]:
    """``agent/src/rpc.rs:online_resources()``: ``1`` is written to ``online`` of each block that says ``0``."""
    return [
        act
        for block in (first, first + 1)
        for act in (
            ("read", f"{SYS}/memory{block}/online", None),
            ("write", f"{SYS}/memory{block}/online", "1"),
            ("read", f"{SYS}/memory{block}/online", None),
        )
    ]


KATA: list[Act] = [
    # setupVirtioMem() at the start, then its size; it goes so that DIMMs come to the lowest addresses below.
    ("ask", "object-add", {**RAM, "id": "virtiomem", "size": GiB}),
    ("ask", "device_add", {
        "driver": "virtio-mem-pci", "id": "virtiomem0", "memdev": "virtiomem", "addr": "00", "bus": "port0",
    }),
    DEVICES,
    ("ask", "qom-set", {"path": "virtiomem0", "property": "requested-size", "value": 512 * MiB}),
    ("size", "virtiomem0", 512 * MiB),
    ("ask", "qom-set", {"path": "virtiomem0", "property": "requested-size", "value": 0}),
    ("size", "virtiomem0", 0),
    ("ask", "device_del", {"id": "virtiomem0"}),
    ("until", "DEVICE_DELETED", 2),
    ("ask", "object-del", {"id": "virtiomem"}),
    # The agent tells the block size and whether there is a probe interface: get_guest_details().
    ("read", f"{SYS}/block_size_bytes", None),
    ("read", f"{SYS}/probe", None),
    ("write", f"{SYS}/auto_online_blocks", "offline"),
    # Before QEMU 6 a backend's options stood in "props": what such a client is told today.
    ("ask", "object-add", {**RAM, "id": "mem0", "props": {"size": 256 * MiB}}),
    *_kata_dimm(0),
    *_kata_agent(32),
    *_kata_dimm(1),
    *_kata_agent(34),
    DEVICES,
]  # fmt: skip
"""A sandbox that gets more memory, and its agent that brings it online: kata never takes a DIMM back, so this one is
played last."""

SCRIPTS: dict[str, list[Act]] = {"script": SCRIPT, "libvirt": LIBVIRT, "kata": KATA}
"""By the name under which what a real QEMU answered is kept (``tests/data/twin``)."""
