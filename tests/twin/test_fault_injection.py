"""Trouble on demand, what happens by a script, the record, and what a run is expected to have been like."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import msgspec
import pytest

from memhp.cli.twin import value_of
from memhp.errors import BadInput, KernelError
from memhp.linux.lib.kobject_uevent import Uevent
from memhp.scenario import schema
from memhp.twin.boot import boot
from memhp.twin.control import Answer, answer
from memhp.twin.expectations import Expectation, load_expectation, unmet
from memhp.twin.fault_injection import LoseUevents, Refuse, Slow
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.fuse.server import Later
from memhp.twin.machine import SECOND, Twin
from memhp.twin.record import Record
from memhp.twin.result import block_ranges
from memhp.twin.script import Cue, Pattern, Script, cues, load_script
from memhp.twin.tree import Attribute, Folder, resolve
from memhp.twin.uevents import text_of
from twin_machines import SMALL
from twin_runs import scenario

MEMORY = "/sys/devices/system/memory"


class Tool:
    """Something that reads and writes a twin's files; `answers` are what slow writes ended in, by path."""

    def __init__(self, folder: Path, text: str = SMALL) -> None:
        self.twin: Twin = boot(scenario(folder, text), speed=0).twin
        self.root: Folder = twin_root(twin_files(self.twin, ""))
        self.answers: dict[str, int] = {}

    def read(self, name: str) -> str:
        path = f"{MEMORY}/{name}"
        entry = resolve(self.root, path)
        assert isinstance(entry, Attribute) and entry.show is not None
        text = entry.show()
        self.twin.read(1, path, text)
        return text.strip()

    def write(self, name: str, text: str) -> str:
        """What a write ends in: "ok", an errno's name, or "later"."""
        path = f"{MEMORY}/{name}"
        entry = resolve(self.root, path)
        assert isinstance(entry, Attribute) and entry.store is not None
        try:
            self.twin.wrote(1, path, text, entry.store)
        except KernelError as error:
            return error.name
        except Later as later:
            later.begin(lambda code: self.answers.__setitem__(name, code))
            return "later"
        return "ok"

    def wait(self, seconds: float) -> None:
        self.twin.session.k.hw.advance(round(seconds * SECOND))
        self.twin.rest()


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


def test_a_block_that_refuses_does_so_with_the_errno_and_as_often_as_told(tool: Tool) -> None:
    tool.twin.trouble.add(Refuse(blocks=[36], errno="EAGAIN", reason="busy with DMA", count=2))
    assert [tool.write("memory36/state", "offline") for _ in range(3)] == ["EAGAIN", "EAGAIN", "ok"]
    assert tool.write("memory37/state", "offline") == "ok"
    refused = [entry for entry in tool.twin.record.entries if entry.result == "EAGAIN"]
    assert [entry.reason for entry in refused] == ["notifier failure"] * 2
    assert refused[0].place == "mm/memory_hotplug.c:offline_pages"


def test_a_slow_write_shows_going_offline_and_later_ones_wait_their_turn(tool: Tool) -> None:
    tool.twin.trouble.add(Slow(blocks=[36], seconds=5))
    assert tool.write("memory36/state", "offline") == "later"
    assert tool.read("memory36/state") == "going-offline"
    assert tool.write("memory37/state", "offline") == "later"
    assert tool.read("memory37/state") == "online"
    tool.wait(4)
    assert tool.answers == {}
    tool.wait(1)
    assert tool.answers == {"memory36/state": 0, "memory37/state": 0}
    assert (tool.read("memory36/state"), tool.read("memory37/state")) == ("offline", "offline")


def test_a_slow_write_that_is_refused_leaves_the_block_online(tool: Tool) -> None:
    tool.twin.trouble.add(Slow(seconds=1))
    tool.twin.trouble.add(Refuse(errno="EBUSY"))
    assert tool.write("memory36/state", "offline") == "later"
    tool.wait(1)
    assert tool.answers == {"memory36/state": 16}
    assert tool.read("memory36/state") == "online"


def test_events_are_told_as_linux_sends_them_and_can_get_lost(tool: Tool) -> None:
    heard: list[Uevent] = []
    tool.twin.uevents.append(heard.append)
    tool.write("memory36/state", "offline")
    tool.twin.trouble.add(LoseUevents(action="online", count=1))
    tool.write("memory36/state", "online")
    tool.write("memory37/uevent", "change")
    assert [(event.action, event.devpath.rpartition("/")[2]) for event in heard] == [
        ("offline", "memory36"),
        ("change", "memory37"),
    ]
    lost = [entry for entry in tool.twin.record.entries if entry.result == "lost"]
    assert [entry.path for entry in lost] == ["/devices/system/memory/memory36"]
    head, *rest = heard[0].message.split(b"\0")
    assert head == b"offline@/devices/system/memory/memory36"
    assert rest[:3] == [b"ACTION=offline", b"DEVPATH=/devices/system/memory/memory36", b"SUBSYSTEM=memory"]
    assert heard[1].seqnum == heard[0].seqnum + 2
    assert text_of(heard[0], 1_500_000).startswith(
        "KERNEL[0.001500] offline  /devices/system/memory/memory36 (memory)\nACTION=offline\n"
    )


def test_memory_that_comes_and_goes_is_told_block_by_block(tool: Tool) -> None:
    heard: list[Uevent] = []
    tool.twin.uevents.append(heard.append)
    tool.twin.do(schema.Plug(size="256M"))
    tool.twin.do(schema.Remove())
    assert [(event.action, event.devpath.rpartition("/")[2]) for event in heard] == [
        ("add", "memory56"), ("add", "memory57"), ("remove", "memory56"), ("remove", "memory57"),
    ]  # fmt: skip


def test_a_policy_changes_behind_the_tools_back(tool: Tool) -> None:
    set_policy = schema.Set(parameter="auto_online_blocks", to="online_movable")
    Script(tool.twin, [Cue(then=set_policy, when=Pattern(what="write", path="*/memory36/state"), times=2)])
    assert tool.read("auto_online_blocks") == "offline"
    tool.write("memory36/state", "offline")
    assert tool.read("auto_online_blocks") == "offline"
    tool.write("memory36/state", "online")
    assert tool.read("auto_online_blocks") == "online_movable"


def test_something_happens_after_so_much_machine_time(tool: Tool) -> None:
    Script(tool.twin, cues([{"after": 10, "then": {"do": "plug", "size": "128M"}}], where="here"))
    tool.wait(9)
    assert tool.twin.session.k.memory_blocks.get(56) is None
    tool.wait(1)
    assert tool.twin.session.k.memory_blocks.get(56) is not None


def test_a_scenario_says_what_happens_meanwhile(tmp_path: Path) -> None:
    text = SMALL + '[[twin]]\nthen = { do = "refuse", blocks = [36] }\n'
    booted = boot(scenario(tmp_path, text), speed=0)
    assert booted.cues == [Cue(then=Refuse(blocks=[36]))]


def test_slips_in_scripts_and_expectations_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text('[[twin]]\nthen = { do = "refuse", block = 3 }\n')
    with pytest.raises(BadInput, match="block") as raised:
        load_script(path)
    assert str(path) in str(raised.value)
    path.write_text('[[twin]]\nafter = 3\nwhen = { what = "write" }\nthen = { do = "clear" }\n')
    with pytest.raises(BadInput, match="two things to wait for"):
        load_script(path)
    path.write_text("exits = 0\n")
    with pytest.raises(BadInput, match="exits"):
        load_expectation(path)
    path.write_text("exit = " + "1" * 5000)
    with pytest.raises(BadInput, match="not TOML that can be read"):
        load_expectation(path)
    with pytest.raises(BadInput, match="no errno"):
        Tool(tmp_path).twin.trouble.add(Refuse(errno="EBUZY"))


def test_what_is_asked_at_run_time_is_a_step_trouble_or_speed(tool: Tool) -> None:
    def told(text: str) -> Answer:
        return answer(tool.twin, text.encode())

    assert told('{"do": "plug", "size": "128M", "online": "movable"}').result == "ok"
    assert tool.read("memory56/state") == "online"
    refused = told('{"do": "offline", "blocks": [0]}')
    assert (refused.result, refused.reason) == ("EINVAL", "memory0 has pages of several zones")
    assert told('{"do": "refuse", "blocks": [36], "errno": "EPERM"}').trouble == [Refuse(blocks=[36], errno="EPERM")]
    assert told('{"do": "clear"}').trouble == []
    assert told('{"do": "speed", "factor": 3}').speed == 3
    before = tool.twin.session.k.hw.now
    assert told('{"do": "wait", "seconds": 300}').time >= before + 300 * SECOND
    status = told('{"do": "status", "since": 0}')
    assert status.entries == len(status.record) == len(tool.twin.record.entries)
    assert "cannot be read" in told("plug").error
    assert "nested too deep" in told('{"x": ' + "[" * 100_000).error
    assert "do" in told('{"do": "explode"}').error
    assert "blocks" in told('{"do": "offline", "blocks": [999]}').error
    assert [value_of(text) for text in ("[40]", "2.5", "true", "1G", "EAGAIN")] == [[40], 2.5, True, "1G", "EAGAIN"]


def test_what_timers_do_is_told_and_time_that_only_passes_is_not(tmp_path: Path) -> None:
    twin = boot(scenario(tmp_path, SMALL), speed=1).twin
    told: list[str] = []
    twin.moved.append(lambda: told.append("moved"))
    while twin.session.k.hw.next_due() is not None:
        twin.session.k.hw.advance(SECOND)
    twin.tick()
    assert told == []
    twin.session.k.hw.arm(0, lambda: told.append("timer"))
    twin.tick()
    assert told == ["timer", "moved"]


def test_a_machine_that_died_answers_eio(tool: Tool) -> None:
    outcome = tool.twin.do(schema.Poison(at=0x1000000))
    assert outcome.result == "BUG"
    with pytest.raises(KernelError) as raised:
        tool.read("memory36/state")
    assert raised.value.errno == 5
    assert tool.write("memory36/state", "offline") == "EIO"
    assert tool.twin.do(schema.Online()).result == "not run"


def test_the_same_read_in_a_row_is_counted() -> None:
    record = Record()
    for _ in range(3):
        record.add(0, "read", "/proc/iomem", "x", pid=7)
    record.add(5, "read", "/proc/iomem", "y", pid=7)
    record.add(5, "write", "/a", "1", pid=7)
    record.add(5, "write", "/a", "1", pid=7)
    assert [(entry.what, entry.times) for entry in record.entries] == [
        ("read", 3), ("read", 1), ("write", 1), ("write", 1),
    ]  # fmt: skip
    assert [entry.number for entry in record.entries] == [0, 1, 2, 3]


def test_expectations_are_held_against_record_and_end(tool: Tool) -> None:
    tool.write("memory36/state", "offline\n")
    tool.write("memory0/state", "offline")

    def lacks(**said: object) -> list[str]:
        wanted = msgspec.convert(said, Expectation)
        return unmet(wanted, tool.twin.record.entries, tool.root, 0)

    offline = {"what": "write", "path": "*/memory36/state", "text": "offline", "result": "ok"}
    refused = {"what": "write", "result": "EINVAL"}
    state = f"{MEMORY}/memory36/state"
    assert lacks(exit=0, saw=[offline, refused], end={state: "offline", "/proc/nothing": "-"}) == []
    assert lacks(saw=[refused, offline]) == [
        "no write of */memory36/state text 'offline' result 'ok' after what was to come before it"
    ]
    assert lacks(exit=3) == ["the command ended with 0, not 3"]
    assert len(lacks(never=[{"result": "EINVAL"}])) == 1
    assert lacks(end={f"{MEMORY}/memory36/state": "online"}) == [
        f"{MEMORY}/memory36/state says 'offline', not 'online'"
    ]


def test_blocks_at_the_end_are_told_as_ranges(tool: Tool) -> None:
    tool.write("memory36/state", "offline")
    told = [(each.first, each.last, each.state, each.zone) for each in block_ranges(tool.twin.session.k)]
    assert told[2:] == [
        (32, 35, "online", "Normal"), (36, 36, "offline", ""), (37, 40, "online", "Normal"), (48, 55, "offline", ""),
    ]  # fmt: skip


def test_events_that_get_lost_are_such_that_there_are(tmp_path: Path) -> None:
    tool = Tool(tmp_path)
    said = answer(tool.twin, b'{"do":"lose-uevents","action":"foo"}')
    assert said.verdict == "refused" and "foo" in said.error and tool.twin.trouble.rows == []
