"""What is written through, what is replaced and how, and that nothing of the user's becomes anything else by it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import pty
import resource
import secrets
import stat
import threading
from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.outputs import file
from memhp.outputs.file import write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_gets_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "page", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "page").read_text(encoding="utf-8") == "text"
    assert mode(tmp_path / "page") == 0o640
    assert names(tmp_path) == ["page"]


def test_a_name_may_be_as_long_as_the_file_system_has_it(tmp_path: Path) -> None:
    target = tmp_path / ("\U0001f4be" * 63)
    write_file(target, "text")
    assert names(tmp_path) == [target.name]


def test_a_file_is_replaced_and_keeps_its_mode_owner_and_attributes(tmp_path: Path) -> None:
    target = tmp_path / "page"
    target.write_text("before", encoding="utf-8")
    target.chmod(0o600)
    os.setxattr(target, "user.note", b"mine")
    owner = (1234, 4321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(target, *owner)
    inode = target.stat().st_ino
    write_file(target, "after")
    assert target.read_text(encoding="utf-8") == "after"
    assert target.stat().st_ino != inode
    assert (target.stat().st_uid, target.stat().st_gid) == owner
    assert mode(target) == 0o600
    assert os.getxattr(target, "user.note") == b"mine"


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "page").write_text("before", encoding="utf-8")
    (tmp_path / "link").symlink_to("far/page")
    (tmp_path / "dangling").symlink_to("far/new")
    write_file(tmp_path / "link", "after")
    write_file(tmp_path / "dangling", "fresh")
    assert (tmp_path / "link").readlink() == Path("far/page")
    assert (tmp_path / "far" / "page").read_text(encoding="utf-8") == "after"
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "far" / "new").read_text(encoding="utf-8") == "fresh"


def test_a_file_that_looks_like_a_draft_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "page.part").write_text("mine", encoding="utf-8")
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / ".page.part").symlink_to(victim)
    write_file(tmp_path / "page", "text")
    assert (tmp_path / "page.part").read_text(encoding="utf-8") == "mine"
    assert victim.read_text(encoding="utf-8") == "mine"


def test_a_name_already_taken_by_a_draft_is_refused_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "00")
    (tmp_path / ".page.00").symlink_to(victim)
    with pytest.raises(BadInput, match="File exists"):
        write_file(tmp_path / "page", "text")
    assert victim.read_text(encoding="utf-8") == "mine"
    assert names(tmp_path) == [".page.00", "victim"]


@pytest.mark.parametrize("through_link", [False, True])
def test_a_pipe_is_written_to_and_stays_a_pipe(through_link: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_file(tmp_path / "link" if through_link else pipe, "text")
    reader.join()
    assert got == ["text"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert names(tmp_path) == ["link", "pipe"]


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        name = Path(os.ttyname(theirs))
        (tmp_path / "link").symlink_to(name)
        node = name.stat()
        write_file(tmp_path / "link", "text")
        assert os.read(ours, 100) == b"text"
        assert (name.stat().st_ino, name.stat().st_rdev) == (node.st_ino, node.st_rdev)
    finally:
        os.close(ours)
        os.close(theirs)
    assert names(tmp_path) == ["link"]


def test_an_open_file_of_this_process_is_written_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b", buffering=0) as file:
        file.write(b"before ")
        write_file(Path(f"/dev/fd/{file.fileno()}"), "one ")
        write_file(Path(f"/proc/self/fd/{file.fileno()}"), "two")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "before one two"
    assert names(tmp_path) == ["log"]


def test_when_writing_fails_the_file_is_as_it_was_and_no_draft_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page"
    target.write_text("before", encoding="utf-8")

    def full_disk(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full_disk)
            with pytest.raises(BadInput, match="page: cannot write: No space left on device"):
                write_file(target, "after")
        assert target.read_text(encoding="utf-8") == "before"
        assert names(tmp_path) == ["page"]


@pytest.mark.parametrize("function", ["open", "fsync", "replace", "fchmod"])
def test_an_interrupt_leaves_the_file_whole_and_no_draft(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page"
    target.write_text("before", encoding="utf-8")
    real = getattr(os, function)

    def interrupted(*args: object, **more: object) -> object:
        done = real(*args, **more)
        if function != "open" or "dir_fd" in more:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_file(target, "after")
    assert target.read_text(encoding="utf-8") == ("after" if function == "replace" else "before")
    assert names(tmp_path) == ["page"]


def test_where_a_folder_takes_no_draft_the_file_itself_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page"
    target.write_text("something longer before", encoding="utf-8")
    inode = target.stat().st_ino

    def mounted(*_: object, **__: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", mounted)
    write_file(target, "after")
    assert target.read_text(encoding="utf-8") == "after"
    assert target.stat().st_ino == inode
    assert names(tmp_path) == ["page"]


def test_where_a_folder_takes_no_draft_and_there_is_no_room_the_file_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page"
    target.write_text("before", encoding="utf-8")

    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file, "_write_draft", closed)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(BadInput, match="cannot write: File too large"):
            write_file(target, "x" * (1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_text(encoding="utf-8") == "before"
    write_file(target, "now")
    assert target.read_text(encoding="utf-8") == "now"
    write_file(target, "")
    assert target.read_text(encoding="utf-8") == ""
