"""What is no request, what comes at the wrong time, and what ends the machine: with the replies of QEMU 11.1.3."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from memhp.twin.boot import boot
from memhp.twin.qemu.monitor import Connection, Monitor
from memhp.twin.qemu.platform import Platform
from twin_runs import needs_a_twin, scenario, start_on_twin

MACHINE = '[machine]\narch = "x86_64"\nprofile = "6.12"\nmemory = "1G"\n'
CAPABILITIES = '{"execute":"qmp_capabilities"}'
ENVELOPE = {
    '{"execute":"qmp_capabilities","arguments":5}': "QMP input member 'arguments' must be an object",
    '{"execute":"qmp_capabilities","arguments":{"enable":["oob","x"]}}': "Parameter 'null' does not accept value 'x'",
    '{"execute":"qmp_capabilities","arguments":{"enable":[5]}}': (
        "Invalid parameter type for 'enable[0]', expected: string"
    ),
    '{"execute":"qmp_capabilities","foo":1}': "QMP input member 'foo' is unexpected",
    '{"execute":5}': "QMP input member 'execute' must be a string",
    '{"foo":1}': "QMP input member 'foo' is unexpected",
    "[]": "QMP input must be a JSON object",
    "{}": "QMP input lacks member 'execute'",
    '{"exec-oob":"query-status"}': "QMP input member 'exec-oob' is unexpected",
    '{"execute":"query-status","exec-oob":"query-kvm"}': "QMP input member 'exec-oob' is unexpected",
    '{"execute":"query-status","arguments":null}': "QMP input member 'arguments' must be an object",
    "[" * 2000 + "]" * 2000: "JSON nesting depth limit exceeded",
}
"""Requests that say the same whether capabilities are negotiated or not."""


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    platform = Platform(boot(scenario(tmp_path, MACHINE), speed=0).twin)
    Monitor(platform)
    return Connection(platform)


def ask(connection: Connection, text: str) -> Any:
    return json.loads(connection.line(text.encode()))


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize(("text", "said"), ENVELOPE.items(), ids=[text[:60] for text in ENVELOPE])
def test_a_request_is_looked_at_before_it_is_asked_what_for(
    connection: Connection, text: str, said: str, *, negotiated: bool
) -> None:
    if negotiated:
        ask(connection, CAPABILITIES)
    assert ask(connection, text)["error"] == {"class": "GenericError", "desc": said}


def test_out_of_band_is_what_was_agreed_on(connection: Connection) -> None:
    ask(connection, '{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
    said = {text: ask(connection, text)["error"]["desc"] for text in (
        '{"exec-oob":"query-status"}', '{"exec-oob":"qmp_capabilities"}', '{"exec-oob":5}', '{"exec-oob":"nope"}',
        '{"exec-oob":"query-kvm","execute":"query-status"}',
    )}  # fmt: skip
    assert list(said.values()) == [
        "The command query-status does not support OOB", "The command qmp_capabilities does not support OOB",
        "QMP input member 'exec-oob' must be a string", "The command nope has not been found",
        "QMP input member 'execute' clashes with 'exec-oob'",
    ]  # fmt: skip


def test_strings_may_be_in_either_quotes_and_other_things_are_no_json(connection: Connection) -> None:
    ask(connection, CAPABILITIES)
    said = ask(connection, """{'execute':'query-status', 'id': 'it\\'s "a" \\\\'}""")
    assert (said["return"]["status"], said["id"]) == ("running", 'it\'s "a" \\')
    for text, why in (('{"id":1,"id":2}', "duplicate key"), ('{"execute":"query-status","id":NaN}', "stray 'N'")):
        assert ask(connection, text)["error"]["desc"].endswith(f": JSON parse error, {why}")


def test_a_number_beyond_64_bits_is_a_double(connection: Connection) -> None:
    ask(connection, CAPABILITIES)
    add = '{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"m","size":18446744073709551616}}'
    assert ask(connection, add)["error"]["desc"] == "Parameter 'size' expects uint64"
    assert ask(connection, '{"execute":"query-kvm","id":100000000000000000000}')["id"] == 1e20


@pytest.mark.parametrize("path", ["/objects/", "//objects", "objects/", "/machine/", "/machine//peripheral/", "//"])
def test_slashes_more_than_it_takes_do_not_count_in_a_path(connection: Connection, path: str) -> None:
    ask(connection, CAPABILITIES)
    found = ask(connection, json.dumps({"execute": "qom-list", "arguments": {"path": path}}))
    assert {"name": "type", "type": "string"} in found["return"]


def test_no_path_is_many(connection: Connection) -> None:
    ask(connection, CAPABILITIES)
    found = ask(connection, '{"execute":"qom-list","arguments":{"path":""}}')
    assert found["error"] == {"class": "GenericError", "desc": "Path '' is ambiguous"}


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("ram", (1 << 63) - 1, "cannot set up guest memory 'm': Cannot allocate memory"),
        ("ram", 1 << 47, "cannot set up guest memory 'm': Cannot allocate memory"),
        ("ram", 1 << 64, "Parameter 'size' expects uint64"),
        ("memfd", -8192, "failed to resize memfd to 18446744073709543424: Invalid argument"),
        ("memfd", 1 << 47, "unable to map backing store for guest RAM: Cannot allocate memory"),
    ],
)
def test_memory_that_no_process_can_have_is_refused(connection: Connection, kind: str, size: int, said: str) -> None:
    ask(connection, CAPABILITIES)
    arguments = {"qom-type": f"memory-backend-{kind}", "id": "m", "size": size}
    found = ask(connection, json.dumps({"execute": "object-add", "arguments": arguments}))
    assert found["error"] == {"class": "GenericError", "desc": said}


def test_the_power_button_is_an_event_and_query_events_is_no_command_any_more(connection: Connection) -> None:
    ask(connection, CAPABILITIES)
    assert ask(connection, '{"execute":"system_powerdown"}') == {"return": {}}
    assert ask(connection, '{"execute":"query-events"}')["error"]["class"] == "CommandNotFound"


def test_quit_ends_the_machine_and_the_monitor_and_not_the_command(tmp_path: Path) -> None:
    needs_a_twin()
    path, ready = tmp_path / "qmp", tmp_path / "ready"
    see = f"touch {ready}; while cat /proc/iomem > /dev/null 2>&1; do sleep 0.1; done; cat /proc/iomem || true"
    process = start_on_twin(["--qmp", str(path), scenario(tmp_path, MACHINE)], ["sh", "-c", see])
    while not ready.exists() and process.poll() is None:
        time.sleep(0.05)
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(path))
    line.sendall(f'{CAPABILITIES}{{"execute":"quit","id":1}}{{"execute":"query-status","id":2}}'.encode())
    said = b""
    while data := line.recv(4096):
        said += data
    rows = [json.loads(row) for row in said.splitlines()[2:]]
    assert [(row.get("event"), row.get("data"), row.get("id")) for row in rows] == [
        ("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"}, None), (None, None, 1),
    ]  # fmt: skip
    _, err = process.communicate(timeout=180)
    assert "Input/output error" in err and "died" not in err and not path.exists()
    assert process.returncode == 0
