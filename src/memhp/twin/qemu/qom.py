"""QEMU's tree of objects as far as it is about memory: ``qom-list``, ``qom-get``, ``qom-set``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from typing import Any

from memhp.twin.qemu.objects import BACKEND_OPTIONS, resize
from memhp.twin.qemu.platform import DRIVERS, PERIPHERAL, Backend, MemoryDevice, Platform
from memhp.twin.qemu.protocol import Arguments, QmpError

MACHINE = "pc-i440fx-11.1-machine"
OBJECTS = "/objects"
TYPE = ("type", "string")

DIMM: dict[str, tuple[str, Callable[[MemoryDevice], Any]]] = {
    "parent_bus": ("link<bus>", lambda _: ""),
    "realized": ("bool", lambda _: True),
    "hotplugged": ("bool", lambda device: device.hotplugged),
    "hotpluggable": ("bool", lambda _: True),
    "memdev": ("link<memory-backend>", lambda device: f"{OBJECTS}/{device.backend.name}"),
    "node": ("uint32", lambda device: device.node),
    "addr": ("uint64", lambda device: device.addr),
    "slot": ("int32", lambda device: device.slot),
    "size": ("uint64", lambda device: device.backend.size),
}
"""The properties of a DIMM: type, and what they say."""
VIRTIO_MEM: dict[str, tuple[str, Callable[[MemoryDevice], Any]]] = {
    "realized": ("bool", lambda _: True),
    "hotplugged": ("bool", lambda device: device.hotplugged),
    "hotpluggable": ("bool", lambda _: True),
    "memdev": ("link<memory-backend>", lambda device: f"{OBJECTS}/{device.backend.name}"),
    "node": ("uint32", lambda device: device.node),
    "addr": ("str", lambda _: 0),
    "memaddr": ("uint64", lambda device: device.addr),
    "block-size": ("size", lambda device: device.block_size),
    "requested-size": ("size", lambda device: device.told),
}
"""Those of a virtio-mem device that are about its memory; ``size`` comes to it."""
DEFAULTS = {
    "share": False, "reserve": True, "prealloc": False, "merge": True, "dump": True, "host-nodes": [],
    "policy": "default", "prealloc-threads": 1, "x-use-canonical-path-for-ramblock-id": False,
    "prealloc-context": "",
}  # fmt: skip
"""What a memory backend is like where nobody says otherwise."""
LINKS = {"prealloc-context": "link<thread-context>"}
"""Options of a backend that name another object."""
FIXED = {"block-size": "'block-size' cannot be changed"}


def option(backend: Backend, name: str) -> Any:
    """What a backend has for an option."""
    if name == "size":
        return backend.size
    return backend.options.get(name, backend.kind == "memory-backend-memfd" if name == "share" else DEFAULTS[name])


def properties(device: MemoryDevice, platform: Platform) -> dict[str, tuple[str, Callable[[MemoryDevice], Any]]]:
    """What a device shows."""
    if device.kind == "virtio-mem":
        return {**VIRTIO_MEM, "size": ("size", platform.size_now)}
    return DIMM


def find(platform: Platform, path: str) -> MemoryDevice | Backend | str:
    """What stands at a path, which may be the last name of it: a device, a backend, or a folder's whole path.

    Slashes more than it takes do not count (``qom/object.c:object_resolve_path_type``). Raises :class:`QmpError` for
    nothing.
    """
    if not path:
        raise QmpError("Path '' is ambiguous")
    told, path = path, "/" * path.startswith("/") + "/".join(filter(None, path.split("/")))
    name = path.removeprefix(f"{PERIPHERAL}/").removeprefix(f"{OBJECTS}/")
    if name in platform.devices and path in (name, f"{PERIPHERAL}/{name}"):
        return platform.devices[name]
    if name in platform.backends and path in (name, f"{OBJECTS}/{name}"):
        return platform.backends[name]
    folders = {"/": "/", "/machine": "/machine", OBJECTS: OBJECTS, PERIPHERAL: PERIPHERAL}
    folders |= {each.rpartition("/")[2]: each for each in folders if each != "/"}
    if path not in folders:
        raise QmpError(f"Device '{told}' not found", "DeviceNotFound")
    return folders[path]


def _children(platform: Platform, folder: str) -> Mapping[str, tuple[str, str]]:
    """Names in a folder: type, and what qom-get says."""
    if folder == OBJECTS:
        return {each.name: (f"child<{each.kind}>", f"{OBJECTS}/{each.name}") for each in platform.backends.values()}
    if folder == PERIPHERAL:
        return {each.name: (f"child<{DRIVERS[each.kind]}>", each.path) for each in platform.devices.values()}
    if folder == "/machine":
        return {"peripheral": ("child<container>", PERIPHERAL)}
    return {"machine": (f"child<{MACHINE}>", "/machine"), "objects": ("child<container>", OBJECTS)}


def _table(platform: Platform, found: MemoryDevice | Backend | str) -> dict[str, tuple[str, Callable[[], Any]]]:
    """The properties of an object: type, and what each says."""
    if isinstance(found, MemoryDevice):
        shown = properties(found, platform)
        own = {name: (kind, lambda say=say: say(found)) for name, (kind, say) in shown.items()}
        return {TYPE[0]: (TYPE[1], lambda: DRIVERS[found.kind]), **own}
    if isinstance(found, Backend):
        words = {"integer": "int", "boolean": "bool", "array": "int", "string": "str"}
        types = {name: LINKS.get(name, words[word]) for name, word in BACKEND_OPTIONS.items()}
        options = {name: (kind, lambda name=name: option(found, name)) for name, kind in types.items()}
        return {TYPE[0]: (TYPE[1], lambda: found.kind), **options}
    kind = MACHINE if found == "/machine" else "container"
    inside = {name: (word, lambda path=path: path) for name, (word, path) in _children(platform, found).items()}
    return {TYPE[0]: (TYPE[1], lambda: kind), **inside}


def type_of(found: MemoryDevice | Backend | str) -> str:
    """The name of an object's type, as an error tells it."""
    if isinstance(found, MemoryDevice):
        return DRIVERS[found.kind]
    if isinstance(found, Backend):
        return found.kind
    return MACHINE if found == "/machine" else "container"


def qom_list(platform: Platform, arguments: Arguments) -> list[dict[str, Any]]:
    """``qom-list``."""
    table = _table(platform, find(platform, arguments["path"]))
    return [{"name": name, "type": kind} for name, (kind, _) in table.items()]


def qom_get(platform: Platform, arguments: Arguments) -> Any:
    """``qom-get``."""
    found = find(platform, arguments["path"])
    table = _table(platform, found)
    if arguments["property"] not in table:
        raise QmpError(f"Property '{type_of(found)}.{arguments['property']}' not found")
    return table[arguments["property"]][1]()


def qom_set(platform: Platform, arguments: Arguments) -> dict[str, Any]:
    """``qom-set``: of a virtio-mem device the requested size; nothing else of memory can be set."""
    found, name = find(platform, arguments["path"]), arguments["property"]
    if name not in _table(platform, found):
        raise QmpError(f"Property '{type_of(found)}.{name}' not found")
    if isinstance(found, MemoryDevice) and found.kind == "virtio-mem":
        if name == "requested-size":
            resize(platform, found, arguments["value"])
            return {}
        if name in FIXED:
            raise QmpError(FIXED[name])
        if name == "size":
            raise QmpError("Property 'virtio-mem.size' is not writable")
    if isinstance(found, Backend) and found.mapped and name == "size":
        raise QmpError(f"cannot change property 'size' of {found.kind}")
    raise QmpError(f"Property '{type_of(found)}.{name}' is not writable")
