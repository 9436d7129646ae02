"""Cloud Hypervisor's REST interface as its OpenAPI description has it. No such hypervisor runs here: it needs KVM."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.target.vm import VmRefused
from memhp.target.vm_cloud_hypervisor import CloudHypervisorVm
from memhp.target.vm_resize import Patience, resize
from memhp.units import GiB


class Vmm:
    """The memory of one machine: ``vm.info`` shows it, ``vm.resize`` and ``vm.resize-zone`` change it.

    As vmm/src/vm.rs does: by ACPI ``size`` itself grows, and what is told as actual is what was asked for last, without
    the balloon.
    """

    def __init__(self, *, zones: bool = False, method: str = "VirtioMem", balloon: int = 0) -> None:
        self.balloon = balloon
        size = {"size": 0 if zones else GiB, "hotplug_size": None if zones else 4 * GiB, "hotplug_method": method}
        self.memory: dict[str, Any] = size | {"hotplugged_size": None, "zones": []}
        if zones:
            self.memory["zones"] = [
                {"id": f"mem{i}", "size": GiB, "hotplug_size": 2 * GiB, "hotplugged_size": 0} for i in (0, 1)
            ]
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, what: str) -> tuple[int, Any]:
        if what == "vmm.ping":
            return 200, {"build_version": "v45.0", "version": "45.0", "pid": 1, "features": ["kvm"]}
        if what == "vm.info":
            parts = self.memory["zones"] or [self.memory]
            actual = sum(part["size"] + (part["hotplugged_size"] or 0) for part in parts) - self.balloon
            return 200, {"config": {"memory": self.memory}, "state": "Running", "memory_actual_size": actual}
        return 404, None

    def put(self, what: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append((what, body))
        part = next((zone for zone in self.memory["zones"] if zone["id"] == body.get("id")), self.memory)
        extra = body["desired_ram"] - part["size"]
        if what not in ("vm.resize", "vm.resize-zone") or not 0 <= extra <= (part["hotplug_size"] or 0):
            return 500, ["Error resizing VM: desired size is out of range"]
        if self.memory["hotplug_method"] == "Acpi":
            part["size"] = body["desired_ram"]
        else:
            part["hotplugged_size"] = extra
        return 204, None


@contextmanager
def served(path: Path, vmm: Vmm) -> Iterator[Path]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, found: Any) -> None:
            data = b"" if found is None else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.answer(*vmm.get(self.path.removeprefix("/api/v1/")))

        def do_PUT(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(*vmm.put(self.path.removeprefix("/api/v1/"), body))

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:
            return

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield path
        server.shutdown()


def test_memory_of_a_machine_without_zones(tmp_path: Path) -> None:
    with served(tmp_path / "ch", Vmm()) as path:
        status = CloudHypervisorVm(path).status()
    assert (status.monitor, status.base, status.most) == ("Cloud Hypervisor 45.0", GiB, 5 * GiB)
    assert [(d.id, d.kind, d.size, d.most) for d in status.devices] == [("ram", "virtio-mem", 0, 4 * GiB)]


def test_what_is_asked_for_is_all_ram_of_the_machine(tmp_path: Path) -> None:
    vmm = Vmm(balloon=GiB // 2)
    with served(tmp_path / "ch", vmm) as path:
        machine = CloudHypervisorVm(path)
        change = resize(machine, None, 2 * GiB, patience=Patience(5, 5))
        assert [(each.size, each.requested) for each in machine.status().devices] == [(2 * GiB, 2 * GiB)]
    assert (change.ended, change.now, change.wanted) == ("requested", 0, 2 * GiB)
    assert vmm.asked == [("vm.resize", {"desired_ram": 3 * GiB})]


def test_a_zone_is_resized_by_its_name(tmp_path: Path) -> None:
    vmm = Vmm(zones=True)
    with served(tmp_path / "ch", vmm) as path:
        machine = CloudHypervisorVm(path)
        with pytest.raises(BadInput, match="which of its 2"):
            resize(machine, None, GiB, patience=None)
        change = resize(machine, "mem1", GiB, patience=Patience(5, 5))
    assert (change.device, change.ended, change.wanted) == ("mem1", "requested", GiB)
    assert vmm.asked == [("vm.resize-zone", {"id": "mem1", "desired_ram": 2 * GiB})]


def test_a_refusal_is_told_in_its_words(tmp_path: Path) -> None:
    with served(tmp_path / "ch", Vmm()) as path, pytest.raises(VmRefused, match="desired size is out of range"):
        CloudHypervisorVm(path).request("ram", 64 * GiB)


def test_the_command_rehearses_and_changes_nothing_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vmm = Vmm()
    with served(tmp_path / "ch", vmm) as path:
        assert main(["vm", "resize", f"ch:{path}", "1G"]) == 0
        out = capsys.readouterr().out
        assert "✓ rehearsed" in out
        assert "nothing was changed in ch: --yes does it" in out
        assert vmm.asked == []
        assert main(["vm", "resize", f"ch:{path}", "1G", "--yes"]) == 0
        assert "· ram: 0 B, 1 GiB requested; what the guest takes of it is not told here" in capsys.readouterr().out
    assert vmm.asked == [("vm.resize", {"desired_ram": 2 * GiB})]


def test_dimms_grow_and_never_shrink(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vmm = Vmm(method="Acpi")
    with served(tmp_path / "ch", vmm) as path:
        assert main(["vm", "resize", f"ch:{path}", "1G", "--dry-run", "--yes"]) == 0
        assert main(["vm", "resize", f"ch:{path}", "0", "--yes"]) == 2
        assert "cannot shrink" in capsys.readouterr().err
        assert vmm.asked == []
        machine = CloudHypervisorVm(path)
        resize(machine, None, GiB, patience=Patience(5, 5))
        assert (machine.status().base, machine.status().device(None).size) == (GiB, GiB)
        resize(machine, None, 2 * GiB, patience=Patience(5, 5))
    assert [body["desired_ram"] for _, body in vmm.asked] == [2 * GiB, 3 * GiB]


def test_a_socket_where_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in (f"ch:{tmp_path / 'none'}", str(tmp_path / "none"), "vmware:x"):
        assert main(["vm", "status", address]) == 2
        assert capsys.readouterr().err.count("\n") == 1
