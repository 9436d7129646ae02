"""New files and folders: whole or not at all, under a name that was free, and nobody's file is touched on the way."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.outputs.exclusive_create import check_new, new_place


def test_a_file_and_a_folder_get_their_names_when_they_are_done(tmp_path: Path) -> None:
    with new_place(tmp_path / "file") as draft:
        draft.write_text("whole")
        assert not (tmp_path / "file").exists()
    with new_place(tmp_path / "folder") as draft:
        draft.mkdir()
        (draft / "inside").write_text("whole")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_place(tmp_path / "file") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_what_is_there_stays(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="is there already"):
        check_new(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="is there already"), new_place(out) as draft:
        draft.write_text("ours")
        out.write_text("theirs")
    assert out.read_text() == "theirs"


def test_a_link_planted_under_a_name_that_can_be_foreseen_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".out.partial", "out.part", ".out.part"):
        (tmp_path / name).symlink_to(victim)
    with new_place(tmp_path / "out") as draft:
        draft.write_text("ours")
    assert victim.read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        check_new(tmp_path / "no" / "out")
    assert refused.value.fix == f"create {tmp_path / 'no'} first"
