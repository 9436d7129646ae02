"""A twin as plain files: what is written to them is done, and they say what came of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.linux.drivers.base.memory_state import state_store
from memhp.scenario import schema
from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.loop import Loop
from memhp.twin.machine import Twin
from memhp.twin.plain_files import plain_files, written
from twin_machines import SMALL
from twin_runs import scenario

MEMORY = "sys/devices/system/memory"


class Served:
    """A twin whose files stand in a folder."""

    def __init__(self, folder: Path, twin: Twin, loop: Loop) -> None:
        self.folder, self.twin, self.loop = folder, twin, loop

    def write(self, name: str, text: str, *, flags: int = os.O_TRUNC) -> None:
        """Write as a tool does, and let the twin take note."""
        file = os.open(self.folder / MEMORY / name, os.O_WRONLY | flags)
        os.write(file, text.encode())
        os.close(file)
        self.loop.turn(0)

    def read(self, name: str) -> str:
        return (self.folder / MEMORY / name).read_text()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    twin = boot(scenario(tmp_path, SMALL), speed=0).twin
    folder = tmp_path / "files"
    folder.mkdir()
    loop = Loop(twin)
    with plain_files(loop, folder, twin_root(twin_files(twin, "quiet"))):
        yield Served(folder, twin, loop)
    assert list(folder.iterdir()) == []


def test_the_folder_is_a_sysroot_of_the_same_machine(served: Served) -> None:
    assert observe(open_source(str(served.folder))).memory == derive(served.twin.session.k).memory
    assert (served.folder / MEMORY / "memory36/node0").readlink() == Path("../../node/node0")


def test_a_write_is_done_and_what_follows_from_it_stands_in_other_files(served: Served) -> None:
    served.write("memory36/state", "offline\n")
    assert (served.read("memory36/state"), served.read("memory36/online")) == ("offline\n", "0\n")
    served.write("auto_online_blocks", "online_movable\n")
    served.twin.do(schema.Plug(size="128M"))
    assert served.read("memory56/state") == "online\n"
    served.write("memory56/state", "offline")
    assert served.twin.do(schema.Remove()).result == "ok"
    assert not (served.folder / MEMORY / "memory56").exists()


def test_a_write_that_the_kernel_refuses_is_taken_back_and_told_by_the_record(served: Served) -> None:
    served.write("memory0/state", "offline")
    assert served.read("memory0/state") == "online\n"
    last = [entry for entry in served.twin.record.entries if entry.what == "write"][-1]
    assert (last.path, last.text, last.result) == (f"/{MEMORY}/memory0/state", "offline", "EINVAL")


def test_a_tool_that_does_not_truncate_is_understood(served: Served) -> None:
    served.write("memory36/state", "offline", flags=0)
    served.write("memory36/state", "online", flags=0)
    texts = [entry.text for entry in served.twin.record.entries if entry.what == "write"]
    assert texts == ["offline", "online"]
    assert served.read("memory36/state") == "online\n"


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        ("onlinee\n", "offline\n", "online"), ("offline", "online\n", "offline"),
        ("online_movable", "offline\n", "online_movable"),
    ],
)  # fmt: skip
def test_what_was_written_is_told_from_what_stands_there(now: str, before: str, text: str) -> None:
    assert written(now, before) == text


def test_a_command_finds_the_folder_and_its_exit_code_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    script = f"cat $MEMHP_FILES/{MEMORY}/memory48/state; exit 7"
    words = [sys.executable, "-m", "memhp", "twin", "--files", str(folder), scenario(tmp_path, SMALL)]
    done = subprocess.run([*words, "--", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "offline\n"), done.stderr
    (folder / "here").touch()
    with pytest.raises(BadInput, match="empty folder"), plain_files(
        Loop(boot(scenario(tmp_path, SMALL)).twin), folder, twin_root({})
    ):
        pass


def test_what_a_tool_took_away_or_put_elsewhere_is_let_be(served: Served, tmp_path: Path) -> None:
    folder, other = served.folder / MEMORY, tmp_path / "other"
    other.write_text("precious")
    shutil.rmtree(folder / "memory48")
    (folder / "memory49/state").unlink()
    (folder / "memory49/state").symlink_to(other)
    (folder / "memory50/state").unlink()
    (folder / "memory50/state").mkdir()
    for block in range(48, 52):
        state_store(served.twin.session.k, block, "online")
    served.twin.changed()
    assert served.read("memory51/state") == "online\n"
    assert other.read_text() == "precious" and not (folder / "memory48").exists()
    for place in (folder / "memory49/state", folder / "memory50/state"):
        place.unlink() if place.is_symlink() else place.rmdir()
