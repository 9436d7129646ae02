"""The monitor answers as QEMU 11.1 does: the same requests, with the replies that a real one (``-S``, TCG) gave."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest

from memhp.facts.derive import derive
from memhp.scenario.load import load
from memhp.spans import Span
from memhp.target.model.run import rehearse_scenario
from memhp.twin.boot import boot
from memhp.twin.qemu.commands import COMMANDS, query_qmp_schema
from memhp.twin.qemu.framing import JsonValues
from memhp.twin.qemu.monitor import EVENTS, Connection, Monitor
from memhp.twin.qemu.objects import BACKEND_OPTIONS, BACKENDS
from memhp.twin.qemu.platform import Platform
from memhp.units import GiB
from qmp_clients import SCRIPTS
from qmp_script import play
from tools.qmp_schema import names_in
from twin_qmp import TwinMachine, differences
from twin_runs import on_twin, scenario

DATA = Path(__file__).parents[1] / "data" / "twin"
MACHINE = '[machine]\narch = "x86_64"\nprofile = "6.12"\nmemory = "1G"\ncpus = {cpus}\n'

UNLIKE = {
    '{"execute":"query-status","id":1}': "QEMU waits with -S, the twin's guest has booted",
    '{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"mem5","size":34359738368}}': (
        "the host had no such memory; the twin takes none"
    ),
    '{"execute":"device_add","arguments":{"driver":"pc-dimm","id":"d5","memdev":"mem5"}}': "so there is that backend",
    '{"execute":"object-del","arguments":{"id":"mem5"}}': "and it can be deleted",
    '{"execute":"device_del","arguments":{"id":"vm0"}}': "the twin's guest has plugged what was requested",
    '{"execute":"query-memory-size-summary"}': "and so it counts",
}
"""Requests that are answered otherwise, and why."""


def platform(tmp_path: Path, *, cpus: int = 1, slots: int = 4) -> Platform:
    twin = boot(scenario(tmp_path, MACHINE.format(cpus=cpus)), speed=0).twin
    return Platform(twin, slots, 16 * GiB)


def ask(connection: Connection, text: str) -> Any:
    reply = json.loads(connection.line(text.encode()))
    connection.said()
    return reply


def asleep(reply: Any) -> Any:
    """A reply as if no guest had plugged anything of a virtio-mem device, as QEMU's never booted."""
    devices = reply.get("return") if isinstance(reply, dict) else None
    if isinstance(devices, list):
        for device in devices:
            if isinstance(device, dict) and device.get("type") == "virtio-mem":
                device["data"]["size"] = 0
    return reply


def unordered(value: Any) -> Any:
    """A reply whose lists of objects have no order, as QEMU keeps objects in hash tables."""
    if isinstance(value, dict):
        return {key: unordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted((unordered(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


@pytest.mark.parametrize(("name", "cpus"), [("dimm", 1), ("both", 2)])
def test_replies_are_those_of_a_real_qemu(tmp_path: Path, name: str, cpus: int) -> None:
    connection = Connection(platform(tmp_path, cpus=cpus))
    rows = [json.loads(line) for line in (DATA / f"qemu-11.1-{name}.jsonl").read_text().splitlines()]
    assert len(rows) > 40
    differ = []
    for request, reply in rows:
        # A DIMM that the guest was asked for is given back at once where nobody needs it; QEMU's guest never booted.
        if request == '{"execute":"device_del","arguments":{"id":"d1"}}':
            assert reply == {"return": {}}
            continue
        got = asleep(ask(connection, request))
        if unordered(got) != unordered(reply) and request not in UNLIKE:
            differ.append((request, reply, got))
    assert differ == []


def test_of_several_mistakes_in_one_request_the_one_is_told_that_qemu_meets_first(tmp_path: Path) -> None:
    """Missing, used, too large backends, addresses, nodes, slots, block and requested sizes, each with each other."""
    connection = Connection(platform(tmp_path))
    told = lzma.decompress((DATA / "qemu-11.1-refusals.jsonl.xz").read_bytes()).decode()
    rows = [json.loads(line) for line in told.splitlines()]
    assert len(rows) > 280
    got = [(request, reply, ask(connection, request)) for request, reply in rows]
    assert [row for row in got if row[1] != row[2]] == []


@pytest.mark.parametrize(
    ("size", "more", "told"),
    [
        (129, {"addr": 0x100001000}, "backend memory size must be multiple of 0x200000"),
        (129, {"addr": 0x1000}, "backend memory size must be multiple of 0x200000"),
        (129, {"node": 3}, "backend memory size must be multiple of 0x200000"),
        (129, {"slot": 9}, "invalid slot number 9, valid range is [0-3]"),
        (1 << 20 | 1, {"addr": 0x100001000}, "not enough space, currently 0x0 in use of total space"),
    ],
)
def test_a_size_that_no_dimm_can_have_is_told_after_slot_and_space_and_before_its_place(
    tmp_path: Path, size: int, more: dict[str, int], told: str
) -> None:
    """As QEMU 11.1.3 answers; sizes in MiB."""
    connection = Connection(platform(tmp_path))
    backend = {"qom-type": "memory-backend-ram", "id": "odd", "size": size << 20}
    device = {"driver": "pc-dimm", "id": "d", "memdev": "odd", **more}
    for command, arguments in (("qmp_capabilities", {}), ("object-add", backend), ("device_add", device)):
        reply = ask(connection, json.dumps({"execute": command, "arguments": arguments}))
    assert reply["error"]["desc"].startswith(told)


def events(tmp_path: Path) -> tuple[Platform, list[tuple[str, dict[str, Any]]]]:
    found = platform(tmp_path)
    Monitor(found)
    told: list[tuple[str, dict[str, Any]]] = []
    found.listeners.append(lambda name, data: told.append((name, data)))
    return found, told


def run(connection: Connection, *requests: tuple[str, dict[str, Any]]) -> None:
    for command, arguments in requests:
        reply = ask(connection, json.dumps({"execute": command, "arguments": arguments}))
        assert "error" not in reply, (command, arguments, reply)


BACKEND = {"qom-type": "memory-backend-ram", "size": 512 << 20}


def test_a_dimm_that_the_guest_gives_back_is_deleted_and_one_that_it_keeps_is_not(tmp_path: Path) -> None:
    found, told = events(tmp_path)
    connection = Connection(found)
    run(connection, ("qmp_capabilities", {}), ("object-add", {**BACKEND, "id": "m0"}))
    run(connection, ("device_add", {"driver": "pc-dimm", "id": "d0", "memdev": "m0"}))
    info = {"device": "d0", "slot": "0", "slot-type": "DIMM"}
    assert told == [("ACPI_DEVICE_OST", {"info": {**info, "source": 1, "status": 0}})]
    k = found.twin.session.k
    assert k.memory_blocks.covers(32, 36)
    told.clear()
    run(connection, ("device_del", {"id": "d0"}))
    gone = {"slot": "0", "slot-type": "DIMM"}
    assert told == [
        ("ACPI_DEVICE_OST", {"info": {**info, "source": 3, "status": 0x84}}),
        ("DEVICE_DELETED", {"device": "d0", "path": "/machine/peripheral/d0"}),
        ("ACPI_DEVICE_OST", {"info": {**gone, "source": 3, "status": 0}}),
    ]
    assert not k.memory_blocks.covered(32, 36)
    run(connection, ("device_add", {"driver": "pc-dimm", "id": "d0", "memdev": "m0"}))
    found.twin.trouble.add(_refuse())
    from memhp.scenario.schema import Online

    found.twin.do(Online())
    told.clear()
    run(connection, ("device_del", {"id": "d0"}))
    assert told == [("ACPI_DEVICE_OST", {"info": {**info, "source": 3, "status": code}}) for code in (0x84, 0x82)]
    assert "d0" in found.devices and k.memory_blocks.covers(32, 36)


def _refuse() -> Any:
    from memhp.twin.fault_injection import Refuse

    return Refuse(blocks=[33])


def test_the_size_of_a_virtio_mem_device_is_told_at_once_and_then_once_a_second(tmp_path: Path) -> None:
    found, told = events(tmp_path)
    connection = Connection(found)
    run(
        connection,
        ("qmp_capabilities", {}),
        ("object-add", {**BACKEND, "id": "m0", "size": 4 << 30}),
        ("device_add", {"driver": "virtio-mem-pci", "id": "vm0", "memdev": "m0"}),
    )

    def sized(size: int) -> tuple[str, dict[str, Any]]:
        return "MEMORY_DEVICE_SIZE_CHANGE", {"id": "vm0", "size": size, "qom-path": "/machine/peripheral/vm0"}

    def resize(size: int) -> None:
        run(connection, ("qom-set", {"path": "vm0", "property": "requested-size", "value": size}))

    resize(256 << 20)
    assert told == [sized(256 << 20)]
    for negative, why in ((-2, "has to be multiples"), (-(2 << 20), "cannot exceed the memory backend")):
        wanted = {"path": "vm0", "property": "requested-size", "value": negative}
        reply = ask(connection, json.dumps({"execute": "qom-set", "arguments": wanted}))
        assert why in reply["error"]["desc"]
    resize(512 << 20)
    resize(384 << 20)
    assert told == [sized(256 << 20)]
    found.twin.session.k.hw.advance(1_000_000_000)
    assert told == [sized(256 << 20), sized(384 << 20)]
    assert ask(connection, '{"execute":"qom-get","arguments":{"path":"vm0","property":"size"}}') == {
        "return": 384 << 20
    }
    refused = ask(connection, '{"execute":"device_del","arguments":{"id":"vm0"}}')
    assert refused["error"]["class"] == "GenericError"
    resize(0)
    told.clear()
    run(connection, ("device_del", {"id": "vm0"}))
    assert [data for name, data in told if name == "DEVICE_DELETED"] == [
        {"path": "/machine/peripheral/vm0/virtio-backend"},
        {"device": "vm0", "path": "/machine/peripheral/vm0"},
    ]
    run(connection, ("object-del", {"id": "m0"}))


def test_devices_that_a_scenario_plugged_are_qemus_too(tmp_path: Path) -> None:
    text = MACHINE.format(cpus=1) + '[[steps]]\ndo = "plug"\nsize = "1G"\n[[steps]]\ndo = "virtio-mem"\nsize = "2G"\n'
    found = Platform(boot(scenario(tmp_path, text), speed=0).twin)
    data = [(each.kind, each.name, each.addr, each.backend.size) for each in found.by_address()]
    assert data == [("dimm", "dimm0", 4 * GiB, GiB), ("virtio-mem", "vm0", 5 * GiB, 2 * GiB)]


def test_what_a_scenario_requested_of_a_device_is_told_from_the_first_answer(tmp_path: Path) -> None:
    text = MACHINE.format(cpus=1) + '[[steps]]\ndo = "virtio-mem"\nsize = "2G"\nrequested = "512M"\n'
    found = Platform(boot(scenario(tmp_path, text), speed=0).twin, 4, 16 * GiB)
    assert found.devices["vm0"].told == GiB // 2


def test_devices_of_a_command_line_are_there_as_they_are_in_a_rehearsal(tmp_path: Path) -> None:
    line = "-m 4G,slots=2,maxmem=8G -object memory-backend-ram,id=m0,size=1G -device pc-dimm,memdev=m0"
    path = scenario(tmp_path, f"steps = []\n[machine]\nqemu = '{line}'\n")
    booted = boot(path, speed=0).twin
    _, rehearsed = rehearse_scenario(load(Path(path)))
    assert booted.session.room.slots == 2
    assert [part for adev in booted.session.dimms for part in adev.crs] == [Span(5 * GiB, 6 * GiB)]
    assert derive(booted.session.k).memory == derive(rehearsed).memory


def test_commands_take_what_the_schema_of_a_real_qemu_says(tmp_path: Path) -> None:
    connection = Connection(platform(tmp_path))
    run(connection, ("qmp_capabilities", {}))
    schema = {entry["name"]: entry for entry in ask(connection, '{"execute":"query-qmp-schema"}')["return"]}
    told = {each["name"] for each in ask(connection, '{"execute":"query-commands"}')["return"]}
    assert {name for name, entry in schema.items() if entry["meta-type"] == "command"} == told
    assert {name for name, entry in schema.items() if entry["meta-type"] == "event"} == set(EVENTS)

    def word(name: str) -> str:
        entry = schema[name]
        return str(entry.get("json-type", {"enum": "string", "array": "array", "value": "any"}.get(entry["meta-type"])))

    for name in told - {"qmp_capabilities", "object-add"}:
        takes = schema[schema[name]["arg-type"]].get("members", [])
        wanted = {each["name"]: (word(each["type"]).replace("value", "any"), "default" in each) for each in takes}
        ours = {key: tuple(parameter) for key, parameter in COMMANDS[name].parameters.items()}
        differ = {key for key in ours if ours[key] != wanted[key]}
        assert not differ, (name, ours, wanted)
        assert COMMANDS[name].free or set(wanted) == set(ours), name
    kinds = schema[schema["object-add"]["arg-type"]]
    for each in kinds["variants"]:
        takes = {part["name"] for part in schema[each["type"]]["members"]}
        assert takes == {*BACKEND_OPTIONS, *BACKENDS[each["case"]]}, each["case"]


def test_every_type_that_the_schema_names_is_in_it(tmp_path: Path) -> None:
    entries = query_qmp_schema(platform(tmp_path), {})
    names = {entry["name"] for entry in entries}
    assert len(names) == len(entries) > 100
    assert {used for entry in entries for used in names_in(entry)} <= names


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_as_on_a_real_qemu_with_a_guest(tmp_path: Path, name: str) -> None:
    told = lzma.decompress((DATA / f"qemu-11.1-linux-7.2-{name}.jsonl.xz").read_bytes()).decode()
    real = [json.loads(line) for line in told.splitlines()]
    ours = json.loads(json.dumps(play(TwinMachine(tmp_path), SCRIPTS[name])))
    assert len(real) == len(SCRIPTS[name]) > 30
    assert differences(real, ours) == []


def test_a_request_ends_with_its_last_bracket_as_qemu_reads_it() -> None:
    values = JsonValues()
    assert list(values.feed(b'{"execute": "a"}{"b": [1, {}]')) == [b'{"execute": "a"}']
    assert list(values.feed(b"\n}\n")) == [b'{"b": [1, {}]\n}', b"\n"]
    assert list(values.feed(rb'{"c": "}\"}"}' + b"{'d': '}\"'}")) == [rb'{"c": "}\"}"}', b"{'d': '}\"'}"]
    assert list(values.feed(b"nonsense\n}")) == [b"nonsense\n", b"}"]
    assert list(values.feed(b'{"half": "\xff{"e": 1}')) == [b'{"half": "\xff{"e": 1}']
    assert len(values) == 0


CLIENT = """
import asyncio, json, sys
from qemu.qmp import QMPClient
async def main():
    clients = [QMPClient(str(number)) for number in range(2)]
    for client in clients:
        await client.connect(sys.argv[1])
    told = [await client.execute("query-status") for client in clients]
    for client in clients:
        await client.disconnect()
    print(json.dumps(told))
asyncio.run(main())
"""


def test_two_of_qemus_own_clients_are_answered(tmp_path: Path) -> None:
    socket = tmp_path / "qmp"
    machine = scenario(tmp_path, MACHINE.format(cpus=1))
    done = on_twin(["--qmp", str(socket), machine], [sys.executable, "-c", CLIENT, str(socket)])
    assert json.loads(done.stdout) == [{"status": "running", "running": True}] * 2, done.stderr
