"""``memhp device``: a device served, asked and changed from another command."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from memhp.cli.main import main
from memhp.hw.devices.virtio_mem import Geometry
from memhp.report.documents import DOCUMENTS
from memhp.target.device.server import Server
from memhp.units import GiB


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    """The control socket of a device that is served."""
    server = Server(Geometry(8 * GiB, 2 * GiB), tmp_path / "s", tmp_path / "c", say=lambda _: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield tmp_path / "c"
    server.stop()
    thread.join()
    server.close()


def test_a_device_is_changed_and_shown(control: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fault = "request=PLUG answer=BUSY count=2"
    assert main(["device", "ctl", str(control), "requested=512M", "--fault", fault]) == 0
    assert capfd.readouterr().out == (
        "0 B plugged, 512 MiB requested; 2 GiB at 0x200000000 by 2 MiB; waiting\n"
        "fault: request=PLUG first=1 count=2 answer=BUSY; 0 requests matched\n"
    )
    assert main(["device", "ctl", str(control), "--clear", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert msgspec.convert(found, DOCUMENTS["device"])
    assert (found["requested_size"], found["faults"], found["verdict"]) == (512 << 20, [], "waiting")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["requested=3G"], "is more than the device has"),
        (["requested=1M"], "is not made of device blocks"),
        (["requested=many"], "want a size such as 128M"),
        (["size=1G"], "a device has no 'size' to change"),
        (["--fault", "requested=4G"], "is no size of this device"),
        (["--fault", "answer=NO"], "Invalid enum value"),
    ],
)
def test_what_the_device_cannot_be_is_refused_in_one_line_and_changes_nothing(
    words: list[str], complaint: str, control: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "ctl", str(control), "--fault", "answer=NACK", *words]) == 2
    told = capfd.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert main(["device", "ctl", str(control), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["requested_size"], found["faults"]) == (0, [])


def test_nobody_at_the_control_socket_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "ctl", str(tmp_path / "c")]) == 2
    assert "No such file or directory (start memhp device virtio-mem" in capfd.readouterr().err


DEEP = b'{"a":' * 9000 + b"\n"


@pytest.mark.parametrize("sent", [b"{", b'{"requested": "x"}\n', b'{"more": 1}\n', b"\xff\n", b"x" * 70000, DEEP])
def test_a_control_request_that_cannot_be_read_is_answered_with_one_line(sent: bytes, control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(str(control))
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        assert b'{"error":"the request cannot be read: ' in line.recv(4096)


def test_a_device_is_served_with_what_qemu_wants_to_be_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s"

    def come_and_go() -> None:
        while not path.exists():
            threading.Event().wait(0.01)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(path))

    thread = threading.Thread(target=come_and_go)
    thread.start()
    words = ["--guest", "riscv64:1G", "--size", "2G", "--requested", "512M", "--once", "--json"]
    assert main(["device", "virtio-mem", "--socket", str(path), *words]) == 0
    thread.join()
    told = capfd.readouterr()
    found = json.loads(told.out)
    assert (found["addr"], found["requested_size"]) == (0xC0000000, 512 << 20)
    assert "memory-backend-memfd,id=ram,size=3200M,share=on" in told.err
    assert f"socket,id=vm0-line,path={path}" in told.err
    assert told.err.endswith("-append mem=1024M\na front end is connected\nthe front end has gone\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--at", "0xffffffff00000000", "--size", "8G"], "--at: 0x200000000 bytes from 0xffffffff00000000 on end bey"),
        (["--at", "0x100001", "--size", "1G"], "--at: 0x100001 is not made of device blocks"),
        (["--at", "8G", "--size", "1M"], "--size: 0x100000 is not made of device blocks"),
        (["--at", "8G", "--size", "1G", "--block-size", "3M"], "--block-size: 0x300000 is no power of two"),
        (["--guest", "toaster:1G", "--size", "1G"], "--guest: no device is served to a guest of toaster"),
        (["--guest", "riscv64", "--size", "1G"], "--guest: "),
        (["--at", "8G", "--size", "1G", "--requested", "1M"], "--requested: 0x100000 is not made of device blocks"),
        (["--at", "8G", "--size", "1G", "--requested", "2G"], "--requested: 0x80000000 is more than the device has"),
        (["--at", "8G", "--size", "1G", "--fault", "requested=4G"], "--fault[0].requested"),
    ],
)
def test_a_device_that_cannot_be_is_refused_by_the_option_that_says_so(
    words: list[str], complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "virtio-mem", "--socket", str(tmp_path / "s"), *words]) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"memhp: {complaint}"), told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
