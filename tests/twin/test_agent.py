"""The guest agent of a twin answers as qemu-ga 7.2 did that ran on the same twin (``memhp twin … -- qemu-ga``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest

from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.qemu.agent import Agent
from twin_machines import SMALL
from twin_runs import on_twin, scenario

REPLIES = Path(__file__).parents[1] / "data/twin/qemu-ga-7.2-small.jsonl.xz"
UNLIKE = {"nonsense": "QEMU 7.2 told no line and column of an error yet"}
"""Requests that are answered otherwise, and why."""


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    twin = boot(scenario(tmp_path, SMALL), speed=0).twin
    return Agent(twin, twin_root(twin_files(twin, "")))


def unordered(reply: Any) -> Any:
    """Blocks have no order: qemu-ga reads a folder."""
    found = reply.get("return")
    if isinstance(found, list):
        return {**reply, "return": sorted(found, key=lambda block: int(block["phys-index"]))}
    return reply


def test_replies_are_those_of_a_real_agent(agent: Agent) -> None:
    rows = [json.loads(line) for line in lzma.decompress(REPLIES.read_bytes()).decode().splitlines()]
    assert len(rows) > 20
    differ = []
    for request, reply in rows:
        got = json.loads(agent.line(request.encode()))
        if unordered(got) != unordered(reply) and request not in UNLIKE:
            differ.append((request, reply, got))
    assert differ == []


def test_a_client_that_starts_in_the_middle_of_a_line_finds_its_answer_behind_the_delimiter(agent: Agent) -> None:
    sync = b'{"execute":"guest-sync-delimited","arguments":{"id":12}}'
    stray, answer = agent.line(b'{"execute":\xff' + sync).splitlines()
    assert json.loads(stray) == {"error": {"class": "GenericError", "desc": "JSON parse error, stray '\\uFFFD'"}}
    assert answer == b'\xff{"return": 12}'


CLIENT = """
import sys
from pathlib import Path
from memhp.target.vm_agent import GuestAgent
agent = GuestAgent(Path(sys.argv[1]))
print([block.number for block in agent.blocks() if not block.online])
print(agent.ask("guest-set-memory-blocks", mem_blks=[{"phys-index": 36, "online": False}]))
print(open("/sys/devices/system/memory/memory36/state").read().strip())
"""


def test_our_own_client_sees_through_the_socket_what_the_files_say(tmp_path: Path) -> None:
    qga = tmp_path / "qga"
    done = on_twin(["--qga", str(qga), scenario(tmp_path, SMALL)], [sys.executable, "-c", CLIENT, str(qga)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(list(range(48, 56))), "[{'phys-index': 36, 'response': 'success'}]", "offline",
    ]  # fmt: skip
