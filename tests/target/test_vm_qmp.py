"""QEMU's monitor: a server that answers as QEMU 11.1 does, and what is made of its answers and events.

``tests/guests/test_vm.py`` does the same with QEMU itself, where it is fetched.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from memhp.cli.main import main
from memhp.report.documents import VmDocument
from memhp.target.vm_qmp import refusal_in
from memhp.units import GiB, MiB
from target.test_vm_agent import agent_at

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}, "package": ""}, "capabilities": []}}


class Refusal(str):
    """QEMU's words where it refuses a command."""


class Qemu:
    """A machine of 2 GiB with a virtio-mem device, whose guest takes at most `takes` bytes, and slots for DIMMs."""

    def __init__(self, takes: int = 4 * GiB, base: int = 2 * GiB) -> None:
        self.takes, self.base = takes, base
        self.vm0 = {
            "id": "vm0", "memaddr": 4 * GiB, "requested-size": 0, "size": 0, "max-size": 4 * GiB,
            "block-size": 2 * MiB, "node": 0, "memdev": "/objects/vm0-ram",
        }  # fmt: skip
        self.dimms: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, int] = {}
        self.changes: list[str] = []

    def answer(self, command: str, arguments: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """What a command returns, and the events that follow."""
        if command.startswith("query-") or command == "qmp_capabilities":
            return self.shown().get(command, {}), []
        if command == "qom-get":
            return {"size": self.base, "max-size": 128 * GiB, "slots": 2}, []
        if command == "human-monitor-command":
            return "", []
        if command not in ("qom-set", "object-add", "object-del", "device_add", "device_del"):
            return Refusal(f"The command {command} has not been found"), []
        self.changes.append(command)
        if command == "qom-set":
            self.vm0["requested-size"] = arguments["value"]
            self.vm0["size"] = min(arguments["value"], self.takes)
            data = {"id": "vm0", "size": self.vm0["size"], "qom-path": "/machine/peripheral/vm0"}
            return {}, [{"event": "MEMORY_DEVICE_SIZE_CHANGE", "data": data}]
        if command == "object-add":
            self.objects[arguments["id"]] = arguments["size"]
            return {}, []
        if command == "object-del":
            del self.objects[arguments["id"]]
            return {}, []
        if command == "device_add":
            size = self.objects[arguments["memdev"]]
            if size % (128 * MiB):
                return Refusal("memory size must be aligned"), []
            self.dimms[arguments["id"]] = {
                "id": arguments["id"], "addr": 8 * GiB, "size": size, "slot": 0, "node": 0,
                "memdev": f"/objects/{arguments['memdev']}", "hotplugged": True, "hotpluggable": True,
            }  # fmt: skip
            return {}, []
        info = {"device": arguments["id"], "slot": "0", "slot-type": "DIMM", "source": 3, "status": 0x82}
        return {}, [{"event": "ACPI_DEVICE_OST", "data": {"info": info}}]

    def shown(self) -> dict[str, Any]:
        devices = [{"type": "virtio-mem", "data": self.vm0}]
        devices += [{"type": "dimm", "data": each} for each in self.dimms.values()]
        return {
            "query-version": GREETING["QMP"]["version"],
            "query-name": {"name": "web1"},
            "query-target": {"arch": "x86_64"},
            "query-status": {"status": "running", "running": True},
            "query-memory-size-summary": {"base-memory": self.base, "plugged-memory": self.vm0["size"]},
            "query-memory-devices": devices,
        }


def requests_on(line: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON objects as they come, with nothing between them."""
    text = ""
    while part := line.recv(1 << 16):
        text += part.decode()
        while text:
            try:
                found, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield found


@contextmanager
def served(path: Path, qemu: Qemu) -> Iterator[str]:
    """One client after the other, as QEMU takes them."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)

    def serve() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line:
                line.sendall(json.dumps(GREETING).encode() + b"\r\n")
                for request in requests_on(line):
                    found, events = qemu.answer(request["execute"], request.get("arguments", {}))
                    refused = {"error": {"class": "GenericError", "desc": found}}
                    mark = {"id": request["id"]} if "id" in request else {}
                    said = (refused if isinstance(found, Refusal) else {"return": found}) | mark
                    for each in (said, *events):
                        stamp = {"timestamp": {"seconds": 1, "microseconds": 0}} if "event" in each else {}
                        line.sendall(json.dumps(each | stamp).encode() + b"\r\n")

    Thread(target=serve, daemon=True).start()
    yield str(path)
    server.close()


def printed(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["vm", *args]) == code
    return capsys.readouterr().out


def test_status_says_what_there_is_and_what_there_is_room_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "qmp", Qemu()) as path:
        assert printed(capsys, "status", path).splitlines() == [
            "web1: running, QEMU 11.1.0, x86_64",
            "  memory 2 GiB of 128 GiB, 2 GiB of it from the start",
            "  vm0: virtio-mem at 0x100000000, node 0: 0 B of 4 GiB, in blocks of 2 MiB",
            "  2 of 2 slots free",
        ]
        found = msgspec.json.decode(printed(capsys, "status", path, "--json"), type=VmDocument)
    assert found.vm is not None
    assert (found.verdict, found.vm.device("vm0").most) == ("listed", 4 * GiB)


def test_a_change_is_rehearsed_and_made_when_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu = Qemu()
    with served(tmp_path / "qmp", qemu) as path:
        out = printed(capsys, "resize", path, "1G")
        assert "✓ rehearsed: " in out
        assert "assumed: the guest runs Linux" in out
        assert out.endswith("nothing was changed in web1: --yes does it\n")
        assert qemu.changes == []
        out = printed(capsys, "resize", path, "1G", "--yes")
        assert "✓ vm0: 0 B → 1 GiB in " in out
    assert qemu.vm0["requested-size"] == GiB


def test_a_guest_that_takes_no_more_is_rolled_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu = Qemu(takes=512 * MiB)
    with served(tmp_path / "qmp", qemu) as path:
        args = ["--yes", "--rollback", "--quiet-for", "0.2", "--json"]
        found = msgspec.json.decode(printed(capsys, "resize", path, "1G", *args, code=1), type=VmDocument)
    assert found.change is not None
    assert (found.verdict, found.change.rolled_back, found.change.now) == ("stuck", True, 0)
    assert "struct pages" in found.change.why
    assert qemu.changes == ["qom-set", "qom-set"]


def test_a_dimm_that_qemu_refuses_leaves_no_backend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu = Qemu()
    with served(tmp_path / "qmp", qemu) as path:
        assert main(["vm", "plug", path, "100M", "--nvdimm", str(tmp_path / "file"), "--yes"]) == 2
        assert "memory size must be aligned" in capsys.readouterr().err
        assert qemu.objects == {}
        assert "✓ memhp-dimm0: 0 B → 256 MiB" in printed(capsys, "plug", path, "256M", "--yes")
    assert qemu.objects == {"memhp-dimm0-ram": 256 * MiB}


def info_block(signature: bytes, mode: int, align: int) -> bytes:
    """``struct nd_pfn_sb`` of version 1.4 (drivers/nvdimm/pfn.h), with Fletcher's checksum of 64 bits."""
    block = struct.pack("<16s32xIHHQQIIIIIH", signature, 0, 1, 4, 2 * MiB, 0, mode, 0, 0, align, 4096, 64)
    block = block.ljust(4088, b"\0")
    low = high = 0
    for (word,) in struct.iter_unpack("<I", block + bytes(8)):
        low = (low + word) % (1 << 32)
        high = (high + low) % (1 << 32)
    return block + struct.pack("<II", low, high)


@pytest.mark.parametrize(
    ("block", "struct_pages", "told"),
    [
        (None, {}, "its file has no info block: it is a disk"),
        (info_block(b"NVDIMM_PFN_INFO\0", 1, 2 * MiB), {"RAM of node 0": 16 * MiB}, "says fsdax, struct pages in RAM"),
        (info_block(b"NVDIMM_DAX_INFO\0", 1, 2 * MiB), {"RAM of node 0": 4 * MiB}, "says devdax, struct pages in RAM"),
        (info_block(b"NVDIMM_DAX_INFO\0", 2, 2 * MiB)[:-1] + b"\1", {}, "its file has no info block"),
    ],
)
def test_an_nvdimm_is_rehearsed_as_what_its_file_says_that_it_is(
    block: bytes | None, struct_pages: dict[str, int], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mere disk has no struct pages; fsdax has 64 bytes a page; devdax shares six of the eight pages of struct pages
    that a page of 2 MiB has (Documentation/mm/vmemmap_dedup.rst, "Device DAX").
    """
    if block is not None:
        (tmp_path / "file").write_bytes(bytes(4096) + block)
    qemu = Qemu()
    with served(tmp_path / "qmp", qemu) as path:
        args = ["plug", path, "1G", "--nvdimm", str(tmp_path / "file")]
        found = msgspec.json.decode(printed(capsys, *args, "--dry-run", "--json"), type=VmDocument)
    assert (found.verdict, qemu.changes) == ("rehearsed", [])
    assert found.rehearsal is not None
    assert found.rehearsal.step.memmap_from == struct_pages
    assert any(told in each for each in found.rehearsal.assumed)


def test_what_the_rehearsal_says_fails_is_not_done_unless_somebody_insists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel of 512 MiB has no room for the struct pages of 64 GiB, nor for what it has then."""
    qemu = Qemu(base=512 * MiB)
    with served(tmp_path / "qmp", qemu) as path:
        out = printed(capsys, "plug", path, "64G", "--yes", code=1)
        assert "ENOMEM: no memory for" in out
        assert out.endswith("nothing was changed in web1: the rehearsal failed; --yes --insist does it all the same\n")
        assert printed(capsys, "plug", path, "64G", "--insist", code=1).startswith("✗ rehearsed")
        found = msgspec.json.decode(printed(capsys, "plug", path, "64G", "--yes", "--json", code=1), type=VmDocument)
        assert (found.verdict, qemu.changes) == ("refused", [])
        assert "✓ memhp-dimm0: 0 B → 64 GiB" in printed(capsys, "plug", path, "64G", "--yes", "--insist")
    assert qemu.objects == {"memhp-dimm0-ram": 64 * GiB}


def test_a_dimm_that_the_guest_does_not_add_is_told_by_its_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "qmp", Qemu()) as path, agent_at(tmp_path / "qga") as agent:
        args = ["plug", path, "256M", "--yes", "--agent", str(agent), "--quiet-for", "0.1"]
        out = printed(capsys, *args, code=1)
    assert "✗ memhp-dimm0: stuck at 0 B, 256 MiB wanted" in out
    assert "because: the guest did not add it" in out


def test_there_is_no_rehearsal_of_what_there_is_no_room_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path / "qmp", Qemu()) as path:
        assert main(["vm", "plug", path, "200G", "--dry-run"]) == 2
    assert "more than its 128 GiB (plug less, or start it with -m maxmem=…)" in capsys.readouterr().err


def test_a_refusal_by_the_guest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu = Qemu()
    with served(tmp_path / "qmp", qemu) as path:
        printed(capsys, "plug", path, "256M", "--yes")
        out = printed(capsys, "unplug", path, "--yes", code=1)
    assert "✗ memhp-dimm0: stuck at 256 MiB, 0 B wanted" in out
    assert "because: the guest answered: the device is busy" in out
    assert qemu.objects == {"memhp-dimm0-ram": 256 * MiB}


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        ("MEMORY_DEVICE_SIZE_CHANGE", {"size": 0}, ""),
        ("DEVICE_DELETED", {"device": "d0"}, ""),
        ("DEVICE_UNPLUG_GUEST_ERROR", {"device": "d0"}, "the guest refused to give it back"),
        ("MEM_UNPLUG_ERROR", {"device": "d0", "msg": "Device or resource busy"}, "Device or resource busy"),
        ("ACPI_DEVICE_OST", {"info": {"source": 3, "status": 1}}, "the guest answered: failure"),
        ("ACPI_DEVICE_OST", {"info": {"source": 3, "status": 0x84}}, None),
        ("ACPI_DEVICE_OST", {"info": {"source": 1, "status": 1}}, None),
    ],
)
def test_events(event: str, data: dict[str, Any], said: str | None) -> None:
    """Status codes: ACPI specification, 6.3.5, "_OST (OSPM Status Indication)"."""
    assert refusal_in({"event": event, "data": data}) == said


def test_a_socket_that_speaks_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "qmp"))
    server.listen(1)

    def serve() -> None:
        line, _ = server.accept()
        with line:
            line.sendall(b"SSH-2.0-OpenSSH\r\n")

    Thread(target=serve, daemon=True).start()
    assert main(["vm", "status", str(tmp_path / "qmp")]) == 2
    assert "no QMP monitor answers" in capsys.readouterr().err
    server.close()
