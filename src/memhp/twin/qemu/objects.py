"""``object-add``, ``object-del``, ``device_add``, ``device_del``: memory backends and memory devices come and go."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from typing import Any

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.target.model.virtio_mem import request_size
from memhp.twin.qemu.platform import REGION_ALIGN, Backend, Kind, MemoryDevice, Platform
from memhp.twin.qemu.protocol import Arguments, QmpError, fits
from memhp.units import MiB

IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*")
"""``util/id.c:id_wellformed``."""

BACKEND_OPTIONS = {
    "size": "integer", "share": "boolean", "reserve": "boolean", "prealloc": "boolean", "merge": "boolean",
    "dump": "boolean", "host-nodes": "array", "policy": "string", "prealloc-threads": "integer",
    "prealloc-context": "string", "x-use-canonical-path-for-ramblock-id": "boolean",
}  # fmt: skip
"""What every memory backend takes (``qapi/qom.json:MemoryBackendProperties``)."""
BACKENDS: dict[str, dict[str, str]] = {
    "memory-backend-ram": {},
    "memory-backend-memfd": {"hugetlb": "boolean", "hugetlbsize": "integer", "seal": "boolean"},
    "memory-backend-file": {
        "mem-path": "string", "align": "integer", "offset": "integer", "discard-data": "boolean", "pmem": "boolean",
        "readonly": "boolean", "rom": "string",
    },
    "memory-backend-shm": {},
}  # fmt: skip
"""The memory backends, and what each takes besides."""

DIMM_PROPERTIES = {"memdev": "string", "node": "integer", "addr": "integer", "slot": "integer"}
PROPERTIES: dict[str, dict[str, str]] = {
    "pc-dimm": DIMM_PROPERTIES,
    "nvdimm": {**DIMM_PROPERTIES, "label-size": "integer", "unarmed": "boolean", "uuid": "string"},
    "virtio-mem-pci": {
        "memdev": "string", "node": "integer", "memaddr": "integer", "requested-size": "integer",
        "block-size": "integer", "addr": "string", "bus": "string", "prealloc": "boolean",
        "unplugged-inaccessible": "string", "dynamic-memslots": "boolean",
    },
}  # fmt: skip
KINDS: dict[str, Kind] = {"pc-dimm": "dimm", "nvdimm": "nvdimm", "virtio-mem-pci": "virtio-mem"}

LEAST_BLOCK, DEFAULT_BLOCK = MiB, 2 * MiB
"""``VIRTIO_MEM_MIN_BLOCK_SIZE``, and the block size where huge pages are of that size."""

ADDRESS_SPACE = 1 << 47
"""What a process of x86_64 has for itself, QEMU's own code among it: no memory can be as large."""

OST = {"ok": 0, "EPERM": 0x80, "EBUSY": 0x82}
"""``ACPI_OST_SC_*`` by what the kernel's handler ended in; for anything else it is NON_SPECIFIC_FAILURE."""
OST_FAILURE, OST_IN_PROGRESS = 1, 0x84
CHECK, EJECT = 1, 3
"""``ACPI_NOTIFY_DEVICE_CHECK`` and ``ACPI_NOTIFY_EJECT_REQUEST``."""


def object_add(platform: Platform, arguments: Arguments) -> dict[str, Any]:
    """A memory backend. Raises :class:`QmpError`."""
    kind, name = arguments["qom-type"], arguments["id"]
    if kind not in BACKENDS:
        raise QmpError(f"Parameter 'qom-type' does not accept value '{kind}'")
    takes = {**BACKEND_OPTIONS, **BACKENDS[kind]}
    options = {key: value for key, value in arguments.items() if key not in ("qom-type", "id")}
    for key, value in options.items():
        if key in takes and not fits(value, takes[key]):
            raise QmpError(wrong_type(key, takes[key]))
    for key in ("size", *(["mem-path"] if kind == "memory-backend-file" else [])):
        if key not in options:
            raise QmpError(f"Parameter '{key}' is missing")
    extra = next((key for key in options if key not in takes), None)
    if extra is not None:
        raise QmpError(f"Parameter '{extra}' is unexpected")
    if "prealloc-context" in options:
        # No thread context can be made here, so none is found.
        raise QmpError(f"Device '{options['prealloc-context']}' not found", "DeviceNotFound")
    if not IDENTIFIER.fullmatch(name):
        raise QmpError("Parameter 'id' expects an identifier")
    if not options["size"]:
        raise QmpError(f"property 'size' of {kind} doesn't take value '0'")
    if name in platform.backends:
        raise QmpError(f"attempt to add duplicate property '{name}' to object (type 'container')")
    size = options["size"] % (1 << 64)
    if size >= ADDRESS_SPACE:
        raise QmpError(_too_large(kind, name, size))
    platform.backends[name] = Backend(name, kind, options["size"], options)
    return {}


def _too_large(kind: str, name: str, size: int) -> str:
    """What is said of memory that no process can have; of a negative size of RAM, QEMU 11.1 dies instead
    (``system/physmem.c:find_ram_offset``).
    """
    if kind == "memory-backend-ram":
        return f"cannot set up guest memory '{name}': Cannot allocate memory"
    if kind == "memory-backend-memfd" and size >> 63:
        return f"failed to resize memfd to {size}: Invalid argument"
    return "unable to map backing store for guest RAM: Cannot allocate memory"


def wrong_type(key: str, word: str) -> str:
    """What is said of a property's value of the wrong type."""
    if word == "integer":
        return f"Parameter '{key}' expects uint64"
    return f"Invalid parameter type for '{key}', expected: {word}"


def object_del(platform: Platform, arguments: Arguments) -> dict[str, Any]:
    """A backend goes. Raises :class:`QmpError` for one that a device has."""
    name = arguments["id"]
    backend = platform.backends.get(name)
    if backend is None:
        raise QmpError(f"object '{name}' not found")
    if backend.mapped:
        raise QmpError(f"Cannot delete host memory backend '{name}' which is mapped")
    del platform.backends[name]
    return {}


def device_add(platform: Platform, arguments: Arguments) -> dict[str, Any]:
    """A memory device is plugged, and the guest hears of it. Raises :class:`QmpError`."""
    driver = arguments["driver"]
    if driver not in PROPERTIES:
        raise QmpError(f"'{driver}' is not a valid device model name")
    name = arguments.get("id")
    if name is not None:
        if not isinstance(name, str):
            raise QmpError("Invalid parameter type for 'id', expected: string")
        if not IDENTIFIER.fullmatch(name):
            raise QmpError(f"Invalid qdev ID '{name}'")
        if name in platform.devices:
            raise QmpError(f"Duplicate device ID '{name}'")
    told = {key: value for key, value in arguments.items() if key not in ("driver", "id")}
    backend = _properties(platform, driver, told)
    plug = _plug_virtio_mem if driver == "virtio-mem-pci" else _plug_dimm
    device = plug(platform, name or _unnamed(platform), KINDS[driver], backend, told)
    device.backend.mapped = True
    platform.devices[device.name] = device
    platform.pending.append(lambda: _hotplug(platform, device))
    return {}


def _unnamed(platform: Platform) -> str:
    taken = len(platform.devices)
    return next(name for number in range(taken + 1) if (name := f"device[{number}]") not in platform.devices)


def _properties(platform: Platform, driver: str, told: dict[str, Any]) -> Backend | None:
    """Look at each property in the order in which they stand there; gives the backend that is named."""
    takes, backend = PROPERTIES[driver], None
    for key, value in told.items():
        if key not in takes:
            raise QmpError(f"Property '{driver}.{key}' not found")
        if not fits(value, takes[key]):
            raise QmpError(wrong_type(key, takes[key]))
        if key == "block-size" and value < LEAST_BLOCK:
            raise QmpError(f"'block-size' property has to be at least 0x{LEAST_BLOCK:x}")
        if key == "block-size" and value & (value - 1):
            raise QmpError("'block-size' property has to be a power of two")
        if key == "memdev":
            backend = platform.backends.get(value.removeprefix("/objects/"))
            if backend is None:
                raise QmpError(f"Device '{value}' not found", "DeviceNotFound")
    return backend


def _nodes(platform: Platform) -> int:
    return max(len(platform.twin.session.k.node_states.possible), 1)


def _plug_dimm(
    platform: Platform, name: str, kind: Kind, backend: Backend | None, told: dict[str, Any]
) -> MemoryDevice:
    """Where a DIMM comes to lie: first ``pc_dimm_pre_plug()`` has its say, then ``pc_dimm_realize()``."""
    slot = platform.free_slot(told.get("slot", -1))
    if backend is None:
        raise QmpError("'memdev' property must be set")
    platform.check_space(backend.size)
    addr = platform.place(backend.size, told.get("addr", 0), REGION_ALIGN)
    node = told.get("node", 0)
    if node >= _nodes(platform):
        raise QmpError(
            f"'DIMM property node has value {node}' which exceeds the number of numa nodes: {_nodes(platform)}"
        )
    if backend.mapped:
        raise QmpError(f"can't use already busy memdev: {backend.name}")
    return MemoryDevice(name, kind, backend, addr, node, slot)


def _plug_virtio_mem(
    platform: Platform, name: str, kind: Kind, backend: Backend | None, told: dict[str, Any]
) -> MemoryDevice:
    """The same for virtio-mem: ``memory_device_pre_plug()``, then ``virtio_mem_device_realize()``."""
    if backend is None:
        raise QmpError("'memdev' property must be set")
    block = told.get("block-size", DEFAULT_BLOCK)
    platform.check_space(backend.size)
    addr = platform.place(backend.size, told.get("memaddr", 0), max(REGION_ALIGN, block & -block))
    if backend.mapped:
        raise QmpError(f"'memdev' property specifies a busy memdev: {backend.name}")
    node = told.get("node", 0)
    if node >= _nodes(platform):
        raise QmpError(f"'node' property has value '{node}', which exceedsthe number of numa nodes: {_nodes(platform)}")
    requested = told.get("requested-size", 0)
    if requested % block:
        raise QmpError(f"'requested-size' property has to be multiples of 'block-size' (0x{block:x})")
    return MemoryDevice(name, kind, backend, addr, node, block_size=block, told=requested)


def _hotplug(platform: Platform, device: MemoryDevice) -> None:
    """The guest hears of a device, and makes of it what it may."""
    size = device.backend.size
    if device.kind == "dimm":
        aligned = not (device.addr | size) % platform.twin.session.k.memory_block_size
        expect = "ok" if aligned else "EINVAL"
        step = schema.Plug(size=size, at=device.addr, node=device.node, driver="dimm", expect=expect)
        _quietly(lambda: platform.twin.do(step).result)
        # That the driver has no use for the memory is no failure of the scan (drivers/acpi/scan.c:acpi_bus_scan).
        _told(platform, device, CHECK, "ok")
    elif device.kind == "virtio-mem":
        requested = min(device.told, size)
        step_vm = schema.VirtioMem(
            size=size, device=device.name, at=device.addr, node=device.node, block_size=device.block_size,
            requested=requested,
        )  # fmt: skip
        _quietly(lambda: platform.twin.do(step_vm).result)


def _quietly(act: Callable[[], str]) -> str:
    """How a step ended; one that this machine cannot have does not come about."""
    try:
        return act()
    except BadInput as error:
        return str(error)


def _told(platform: Platform, device: MemoryDevice, source: int, came: str) -> None:
    """Firmware's ``_OST``: the guest says what came of a request."""
    _ost(platform, device, source, OST.get(came, OST_FAILURE))


def _ost(platform: Platform, device: MemoryDevice, source: int, status: int) -> None:
    """The event that QEMU makes of that; a device that is gone has no name any more."""
    named = {"device": device.name} if device.name in platform.devices else {}
    info = {**named, "source": source, "status": status, "slot": str(device.slot), "slot-type": "DIMM"}
    platform.tell("ACPI_DEVICE_OST", {"info": info})


def device_del(platform: Platform, arguments: Arguments) -> dict[str, Any]:
    """The guest is asked to let a device go. Raises :class:`QmpError` for one that cannot even be asked for."""
    name = arguments["id"]
    device = platform.devices.get(name.removeprefix("/machine/peripheral/"))
    if device is None:
        raise QmpError(f"Device '{name}' not found", "DeviceNotFound")
    if device.kind == "nvdimm":
        raise QmpError("nvdimm device hot unplug is not supported yet.")
    if device.kind == "virtio-mem":
        if platform.size_now(device):
            raise QmpError("virtio-mem device cannot get unplugged while some of its memory is still plugged")
        if device.told:
            raise QmpError("virtio-mem device cannot get unplugged while 'requested-size' != '0'")
    go = _remove_virtio_mem if device.kind == "virtio-mem" else _eject
    platform.pending.append(lambda: go(platform, device))
    return {}


def _eject(platform: Platform, device: MemoryDevice) -> None:
    """Firmware asks the guest for a DIMM; a second time for one that has gone meanwhile is for nothing."""
    if device.name not in platform.devices:
        return
    if platform.twin.eject_enabled:
        _ost(platform, device, EJECT, OST_IN_PROGRESS)
    came = _quietly(lambda: platform.twin.do(schema.Eject(at=device.addr, enabled=platform.twin.eject_enabled)).result)
    if came == "ok":
        platform.gone(device)
    _told(platform, device, EJECT, came)


def _remove_virtio_mem(platform: Platform, device: MemoryDevice) -> None:
    """The guest lets a virtio-mem device go."""
    vm = platform.twin.session.devices.get(device.name)
    if vm is not None and not vm.removing:
        platform.twin.do(schema.Unbind(device=device.name))
    platform.twin.session.devices.pop(device.name, None)
    platform.gone(device)


def resize(platform: Platform, device: MemoryDevice, value: object) -> None:
    """Set a virtio-mem device's requested size. Raises :class:`QmpError`."""
    if not fits(value, "integer") or not isinstance(value, int):
        raise QmpError("Parameter 'requested-size' expects uint64")
    # A negative number is taken for the 64 bits that it has (qapi/qobject-input-visitor.c:qobject_input_type_uint64).
    value %= 1 << 64
    if value % device.block_size:
        raise QmpError(f"'requested-size' has to be multiples of 'block-size' (0x{device.block_size:x})")
    if value > device.backend.size:
        raise QmpError(f"'requested-size' cannot exceed the memory backend size(0x{device.backend.size:x})")
    device.told = value
    platform.pending.append(lambda: _resized(platform, device, value))


def _resized(platform: Platform, device: MemoryDevice, value: int) -> None:
    """The guest hears of another size."""
    vm = platform.twin.session.devices.get(device.name)
    if vm is not None and vm.removing:
        request_size(vm.device, value, "to")
    elif vm is not None:
        _quietly(lambda: platform.twin.do(schema.Resize(to=value, device=device.name)).result)
