"""A folder is replaced only if everything in it was written by memhp and is still as it was."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.outputs import tree as writer
from memhp.outputs.tree import MARK, write_tree

FILES = {"/proc/iomem": "0-1 : a\n", "/sys/devices/b": "b\n"}
LINKS = {"/sys/link": "devices/b"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.name != MARK
    }


def test_a_tree_written_here_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "root"
    write_tree(target, FILES, LINKS)
    assert contents(target) == {"proc/iomem": "0-1 : a\n", "sys/devices/b": "b\n", "sys/link": "devices/b"}
    write_tree(target, {"/proc/iomem": "new\n"}, {})
    assert contents(target) == {"proc/iomem": "new\n"}
    assert names(tmp_path) == ["root"]


def add_file(root: Path) -> str:
    (root / "sys" / "thesis.tex").write_text("years of work", encoding="utf-8")
    return "sys/thesis.tex: would be lost, and was not written by memhp"


def add_folder(root: Path) -> str:
    (root / "sys" / "mine").mkdir()
    return "sys/mine: would be lost, and was not written by memhp"


def change_file(root: Path) -> str:
    (root / "proc" / "iomem").write_text("0-1 : a, my note\n", encoding="utf-8")
    return "proc/iomem: would be lost, and was changed since memhp wrote it"


def point_elsewhere(root: Path) -> str:
    (root / "sys" / "link").unlink()
    (root / "sys" / "link").symlink_to("/etc")
    return "sys/link: would be lost, and was changed since memhp wrote it"


def pipe_for_file(root: Path) -> str:
    (root / "proc" / "iomem").unlink()
    os.mkfifo(root / "proc" / "iomem")
    return "proc/iomem: would be lost, and was changed since memhp wrote it"


def lose_the_list(root: Path) -> str:
    (root / MARK).unlink()
    return "proc: would be lost, and was not written by memhp"


def spoil_the_list(root: Path) -> str:
    (root / MARK).write_text("[" * 100_000, encoding="utf-8")
    return "proc: would be lost, and was not written by memhp"


@pytest.mark.parametrize(
    "change",
    [add_file, add_folder, change_file, point_elsewhere, pipe_for_file, lose_the_list, spoil_the_list],
    ids=lambda each: each.__name__,
)
def test_what_somebody_put_there_is_named_and_stays(change: Callable[[Path], str], tmp_path: Path) -> None:
    target = tmp_path / "root"
    write_tree(target, FILES, LINKS)
    said = change(target)
    before = sorted(str(path) for path in target.rglob("*"))
    with pytest.raises(BadInput) as caught:
        write_tree(target, {"/proc/iomem": "new\n"}, {})
    assert str(caught.value).startswith(f"{target}/{said}")
    assert sorted(str(path) for path in target.rglob("*")) == before
    assert names(tmp_path) == ["root"]


def test_what_somebody_puts_there_at_the_last_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "root"
    write_tree(target, FILES, LINKS)
    real = writer._replaceable

    def late(path: Path) -> bool:
        found = real(path)
        (target / "late").write_text("mine", encoding="utf-8")
        return found

    monkeypatch.setattr(writer, "_replaceable", late)
    with pytest.raises(BadInput, match="late: would be lost"):
        write_tree(target, {"/proc/iomem": "new\n"}, {})
    assert (target / "late").read_text(encoding="utf-8") == "mine"
    assert (target / "proc" / "iomem").read_text(encoding="utf-8") == "0-1 : a\n"
    assert names(tmp_path) == ["root"]


def test_the_folder_stays_the_one_that_somebody_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "root"
    target.mkdir()
    monkeypatch.chdir(target)
    before = target.stat().st_ino
    for text in ("first\n", "second\n"):
        write_tree(Path(), {"/proc/iomem": text}, {"/sys/link": "x"})
        assert target.stat().st_ino == before == Path().stat().st_ino
        assert Path("proc/iomem").read_text(encoding="utf-8") == text
        assert names(Path()) == [MARK, "proc", "sys"]
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    with pytest.raises(BadInput, match="sub: would be lost"):
        write_tree(Path(".."), {"/proc/iomem": "third\n"}, {})
    assert names(tmp_path) == ["root"]


def test_what_fails_half_way_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "root"
    write_tree(target, FILES, LINKS)
    before = contents(target)
    real = Path.rename
    done: list[Path] = []

    def fails_at_fourth(path: Path, to: Path) -> Path:
        done.append(path)
        if len(done) == 4:
            raise OSError(5, "Input/output error")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", fails_at_fourth)
    with pytest.raises(BadInput, match="root: cannot write: Input/output error"):
        write_tree(target, {"/proc/iomem": "new\n"}, {})
    assert contents(target) == before
    assert names(target) == [MARK, "proc", "sys"]


def test_an_empty_folder_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "root"
    target.mkdir(mode=0o700)
    write_tree(target, FILES, LINKS)
    assert target.stat().st_mode & 0o777 == 0o700


def test_a_missing_folder_above_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such folder"):
        write_tree(tmp_path / "new" / "root", FILES, LINKS)
    assert names(tmp_path) == []
