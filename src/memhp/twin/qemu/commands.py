"""The commands of the monitor: what each takes, and what it answers."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path
from typing import Any

from memhp.scenario.platforms import QEMU_CPU
from memhp.twin.qemu.objects import device_add, device_del, object_add, object_del
from memhp.twin.qemu.platform import MemoryDevice, Platform
from memhp.twin.qemu.protocol import Arguments, Command, Parameter, QmpError
from memhp.twin.qemu.qom import OBJECTS, option, qom_get, qom_list, qom_set

VERSION = {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": "memhp twin"}
"""The release whose answers these are."""
CAPABILITIES = "qmp_capabilities"
"""What a connection begins with (:mod:`memhp.twin.qemu.monitor`)."""
SCHEMA = Path(__file__).with_name("schema.json")
TEXT, ANY = Parameter("string"), Parameter("any")

OPTIONS = {
    "memory": [("maxmem", "size"), ("slots", "number"), ("size", "size")],
    "numa": [],
    "object": [],
    "device": [],
}
"""``query-command-line-options``, as far as it is about memory."""


def query_memory_devices(platform: Platform, _: Arguments) -> list[dict[str, Any]]:
    """All memory devices, lowest first."""
    return [{"type": device.kind, "data": _data(platform, device)} for device in platform.by_address()]


def _data(platform: Platform, device: MemoryDevice) -> dict[str, Any]:
    common = {"id": device.name, "memdev": f"{OBJECTS}/{device.backend.name}", "node": device.node}
    size = platform.size_now(device)
    if device.kind == "virtio-mem":
        return {
            **common, "memaddr": device.addr, "block-size": device.block_size, "size": size,
            "max-size": device.backend.size, "requested-size": device.told,
        }  # fmt: skip
    return {
        **common, "addr": device.addr, "size": size, "slot": device.slot, "hotplugged": device.hotplugged,
        "hotpluggable": True,
    }  # fmt: skip


def query_memory_size_summary(platform: Platform, _: Arguments) -> dict[str, int]:
    """Base memory, and what memory devices have plugged, in bytes."""
    plugged = sum(platform.size_now(device) for device in platform.devices.values())
    return {"base-memory": platform.ram, "plugged-memory": plugged}


MEMDEV = ("share", "reserve", "prealloc", "host-nodes", "size", "merge", "dump", "policy")


def query_memdev(platform: Platform, _: Arguments) -> list[dict[str, Any]]:
    """All memory backends."""
    return [{"id": each.name, **{name: option(each, name) for name in MEMDEV}} for each in platform.backends.values()]


def query_hotpluggable_cpus(platform: Platform, _: Arguments) -> list[dict[str, Any]]:
    """The CPUs that are there: none more can be plugged."""
    config = platform.twin.session.k.config
    cpus = range(config.nr_cpus)
    return [
        {
            "type": QEMU_CPU[config.arch], "vcpus-count": 1,
            "qom-path": f"/machine/unattached/device[{2 * cpu if cpu else 0}]",
            "props": {"node-id": 0, "socket-id": 0, "core-id": cpu, "thread-id": 0},
        }
        for cpu in reversed(cpus)
    ]  # fmt: skip


def query_status(platform: Platform, _: Arguments) -> dict[str, Any]:
    """Whether the machine runs."""
    if platform.twin.dead:
        return {"status": "guest-panicked", "running": False}
    return {"status": "running" if platform.running else "paused", "running": platform.running}


def stop(platform: Platform, _: Arguments) -> dict[str, Any]:
    """The machine stands still, and its clock does."""
    if platform.running:
        platform.running, platform.held_speed = False, platform.twin.speed
        platform.twin.speed = 0.0
        platform.tell("STOP", {})
    return {}


def cont(platform: Platform, _: Arguments) -> dict[str, Any]:
    """It goes on."""
    if not platform.running:
        platform.running, platform.twin.speed = True, platform.held_speed
        platform.tell("RESUME", {})
    return {}


def quit_qemu(platform: Platform, _: Arguments) -> dict[str, Any]:
    """``quit``: the machine is no more."""
    platform.quit()
    return {}


def system_powerdown(platform: Platform, _: Arguments) -> dict[str, Any]:
    """The power button is pressed; what the guest makes of that is left to its user space, which there is none of."""
    platform.tell("POWERDOWN", {})
    return {}


def query_command_line_options(_: Platform, arguments: Arguments) -> list[dict[str, Any]]:
    """What options of the command line take. Raises :class:`QmpError` for one that there is not."""
    wanted = arguments.get("option")
    if wanted is not None and wanted not in OPTIONS:
        raise QmpError(f"invalid option name: {wanted}")
    return [
        {"option": name, "parameters": [{"name": each, "type": kind} for each, kind in parameters]}
        for name, parameters in OPTIONS.items()
        if wanted in (None, name)
    ]


def query_qmp_schema(_: Platform, __: Arguments) -> list[dict[str, Any]]:
    """The schema of QEMU 11.1, of which there is what the twin has: ``python -m tools.qmp_schema`` made it."""
    lines = SCHEMA.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def query_balloon(_: Platform, __: Arguments) -> Any:
    """There is none."""
    raise QmpError("No balloon device has been activated", "DeviceNotActive")


def query_commands(_: Platform, __: Arguments) -> list[dict[str, str]]:
    """The names of all commands."""
    return [{"name": name} for name in (CAPABILITIES, *COMMANDS)]


COMMANDS: dict[str, Command] = {
    "query-memory-devices": Command(query_memory_devices),
    "query-memory-size-summary": Command(query_memory_size_summary),
    "query-memdev": Command(query_memdev),
    "query-hotpluggable-cpus": Command(query_hotpluggable_cpus),
    "query-status": Command(query_status),
    "query-version": Command(lambda *_: VERSION),
    "query-name": Command(lambda *_: {}),
    "query-uuid": Command(lambda *_: {"UUID": "00000000-0000-0000-0000-000000000000"}),
    "query-kvm": Command(lambda *_: {"enabled": False, "present": True}),
    "query-target": Command(lambda platform, _: {"arch": platform.twin.session.k.config.arch}),
    "query-command-line-options": Command(query_command_line_options, {"option": Parameter("string", optional=True)}),
    "query-commands": Command(query_commands),
    "query-qmp-schema": Command(query_qmp_schema),
    "query-balloon": Command(query_balloon),
    "object-add": Command(object_add, {"qom-type": TEXT, "id": TEXT}, free=True),
    "object-del": Command(object_del, {"id": TEXT}),
    "device_add": Command(device_add, {"driver": TEXT}, free=True),
    "device_del": Command(device_del, {"id": TEXT}),
    "qom-list": Command(qom_list, {"path": TEXT}),
    "qom-get": Command(qom_get, {"path": TEXT, "property": TEXT}),
    "qom-set": Command(qom_set, {"path": TEXT, "property": TEXT, "value": ANY}),
    "stop": Command(stop),
    "cont": Command(cont),
    "quit": Command(quit_qemu),
    "system_powerdown": Command(system_powerdown),
}
"""By name, but for :data:`CAPABILITIES`."""
