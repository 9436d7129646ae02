"""The guest agent's protocol against a server that follows its schema: stale answers, refusals, silence."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.report.changes import changes
from memhp.target.vm import VmDevice, VmLost, VmRefused
from memhp.target.vm_agent import GuestAgent, brings_online, follow_plugged, why_with
from memhp.target.vm_rehearse import Guest, rehearse_plug, rehearse_request
from memhp.target.vm_resize import Patience
from memhp.units import GiB, MiB
from target.vm_fakes import STATUS, VIRTIO_MEM

BLOCKS = [
    {"phys-index": number, "online": number != 33, "can-offline": number > 1} for number in (*range(16), 32, 33, 34)
]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What qemu-ga answers: qga/qapi-schema.json."""
    arguments = request.get("arguments", {})
    if request["execute"] == "guest-sync-delimited":
        return {"return": arguments["id"]}
    if request["execute"] == "guest-get-memory-block-info":
        return {"return": {"size": 128 * MiB}}
    if request["execute"] == "guest-get-memory-blocks":
        return {"return": BLOCKS}
    if request["execute"] == "guest-set-memory-blocks":
        known = {block["phys-index"] for block in BLOCKS}
        said = [
            {"phys-index": each["phys-index"], "response": "success"}
            if each["phys-index"] in known and (each["online"] or each["phys-index"] > 1)
            else {"phys-index": each["phys-index"], "response": "operation-failed", "error-code": 16}
            if each["phys-index"] in known
            else {"phys-index": each["phys-index"], "response": "not-found"}
            for each in arguments["mem-blks"]
        ]
        return {"return": said}
    return {"error": {"class": "CommandNotFound", "desc": f"The command {request['execute']} has not been found"}}


@contextmanager
def agent_at(path: Path, *, stale: bytes = b"", mute: bool = False) -> Iterator[Path]:
    """A guest agent for one session; `stale` is what an earlier session left on the line."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)

    def serve() -> None:
        line, _ = server.accept()
        with line, line.makefile("rb") as requests:
            line.sendall(stale)
            for request in requests:
                if mute:
                    continue
                text = json.loads(request.lstrip(b"\xff"))
                mark = b"\xff" if text["execute"] == "guest-sync-delimited" else b""
                line.sendall(mark + json.dumps(answer(text)).encode() + b"\n")

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield path
    server.close()


def test_blocks_are_read_and_changed(tmp_path: Path) -> None:
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent:
        assert agent.block_size() == 128 * MiB
        assert [(b.number, b.online, b.can_offline) for b in agent.blocks()][:3] == [
            (0, True, False), (1, True, False), (2, True, True),
        ]  # fmt: skip
        said = agent.change([0, 2, 99], online=False)
        assert said == {0: "operation failed, errno 16", 2: "", 99: "not found"}


def test_what_an_earlier_session_left_is_skipped(tmp_path: Path) -> None:
    stale = b'{"return": {"size": 1}}\n{"return": [half'
    with agent_at(tmp_path / "qga", stale=stale) as path, closing(GuestAgent(path)) as agent:
        assert agent.block_size() == 128 * MiB


def test_a_refusal_is_told_in_the_agents_words(tmp_path: Path) -> None:
    refused = pytest.raises(VmRefused, match="guest-nonsense has not been found")
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent, refused:
        agent.ask("guest-nonsense")


@pytest.mark.parametrize(
    "said",
    [{"size": 0}, {"size": "much"}, [], "x" * 1000, None, {"phys-index": 1}],
)
def test_a_guest_that_answers_anything_is_told_so(said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = object.__new__(GuestAgent)
    monkeypatch.setattr(GuestAgent, "ask", lambda self, command, **arguments: said)
    with pytest.raises(VmLost, match="answer is none"):
        agent.block_size()
    if said != []:
        with pytest.raises(VmLost, match="answer is none"):
            agent.blocks()


def test_an_agent_that_says_nothing_is_no_agent(tmp_path: Path) -> None:
    with agent_at(tmp_path / "qga", mute=True) as path, pytest.raises(BadInput, match="no guest agent answers"):
        GuestAgent(path, timeout=0.2)


def test_the_reason_for_a_stop_names_blocks(tmp_path: Path) -> None:
    device = msgspec.structs.replace(VIRTIO_MEM, size=384 * MiB, requested=0)
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent:
        grows = why_with(agent)(STATUS, device, GiB)
        shrinks = why_with(agent)(STATUS, msgspec.structs.replace(device, at=0), 0)
    assert "of its 3 memory blocks of 128 MiB 2 are online: memory33 waits to be brought online" in grows
    assert "2 of them cannot go offline, from memory0 on" in shrinks


@pytest.mark.parametrize(("offline", "named"), [(7, False), (8, True)])
def test_blocks_that_wait_are_the_reason_when_the_driver_adds_no_more_before(
    offline: int, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """drivers/virtio/virtio_mem.c:virtio_mem_could_add_memory with blocks of 128 MiB: no ninth one, at 1 GiB."""
    blocks = [{"phys-index": 32 + at, "online": at >= offline, "can-offline": True} for at in range(12)]
    monkeypatch.setitem(globals(), "BLOCKS", blocks)
    device = msgspec.structs.replace(VIRTIO_MEM, size=12 * 128 * MiB, requested=4 * GiB)
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent:
        why = why_with(agent)(STATUS, device, 4 * GiB)
    assert "memory32 waits to be brought online" in why
    assert ("its driver keeps no more than 1 GiB offline: memory32" in why) is named
    assert ("no memory for struct pages" in why) is not named


@pytest.mark.parametrize(
    ("at", "size", "came", "now", "why"),
    [
        (32, 1, "reached", 1, ""),
        (32, 3, "stuck", 2, "of its 3 memory blocks 3 are there, and memory33 waits to be brought online"),
        (34, 2, "stuck", 1, "of its 2 memory blocks 1 are there: the guest's log says why not the others"),
        (40, 2, "stuck", 0, "the guest did not add it"),
    ],
)
def test_a_dimm_is_seen_through_until_the_guest_has_its_blocks_online(
    at: int, size: int, came: str, now: int, why: str, tmp_path: Path
) -> None:
    block, time = 128 * MiB, [0.0]
    device = VmDevice(id="d0", kind="dimm", at=at * block, size=size * block)
    told: list[int] = []
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent:
        change = follow_plugged(
            agent, device, Patience(300, 3), told.append, clock=lambda: time[0],
            sleep=lambda seconds: time.append(time.pop() + seconds),
        )  # fmt: skip
    assert (change.ended, change.now, change.wanted) == (came, now * block, size * block)
    assert change.why.startswith(why)
    assert told == [now * block]
    assert change.seconds == (0 if came == "reached" else 3)


@pytest.mark.parametrize(("at", "size", "onlines"), [(32, 1, True), (32, 2, False), (34, 1, True), (40, 2, None)])
def test_whether_the_guest_brings_memory_online_is_asked_of_what_it_was_given(
    at: int, size: int, onlines: bool | None, tmp_path: Path
) -> None:
    block = 128 * MiB
    dimm = VmDevice(id="d0", kind="dimm", at=at * block, size=size * block)
    status = msgspec.structs.replace(STATUS, devices=[dimm])
    with agent_at(tmp_path / "qga") as path, closing(GuestAgent(path)) as agent:
        assert brings_online(agent, status) is onlines
    rehearsed = rehearse_plug(status, Guest(onlines=onlines), GiB)
    assert rehearsed.ok
    assert ("leaves added memory offline" in " ".join(rehearsed.assumed)) is (onlines is False)
    assert any("online" in text for name, text in changes(rehearsed.step) if name == "blocks") is (onlines is not False)


def test_a_virtio_mem_device_is_rehearsed_on_a_guest_that_leaves_memory_offline() -> None:
    """drivers/virtio/virtio_mem.c:virtio_mem_could_add_memory: with 1 GiB that is not online yet it adds no more."""
    device = msgspec.structs.replace(VIRTIO_MEM, size=GiB, requested=GiB)
    status = msgspec.structs.replace(STATUS, devices=[device])
    rehearsed = rehearse_request(status, Guest(onlines=False), device, 2 * GiB)
    assert (rehearsed.ok, rehearsed.step.outcome.result) == (False, "ENOSPC")
    assert "leaves added memory offline" in " ".join(rehearsed.assumed)


def test_the_command_shows_runs_of_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with agent_at(tmp_path / "qga") as path:
        assert main(["vm", "blocks", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "19 memory blocks of 128 MiB",
        "  memory0-1: 256 MiB online, cannot go offline",
        "  memory2-15: 1.75 GiB online, may go offline",
        "  memory32: 128 MiB online, may go offline",
        "  memory33: 128 MiB offline",
        "  memory34: 128 MiB online, may go offline",
    ]


def test_blocks_change_only_when_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with agent_at(tmp_path / "a") as path:
        assert main(["vm", "online", str(path), "33"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    with agent_at(tmp_path / "b") as path:
        assert main(["vm", "online", str(path), "33", "99", "--yes"]) == 1
    assert capsys.readouterr().out == "✓ memory33\n✗ memory99: not found\n"
