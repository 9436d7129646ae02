"""Facts written as a tree and read back; what is in the way stays untouched."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path

import pytest

from captures import every_step, facts
from memhp.errors import BadInput
from memhp.facts.observed import Facts, observe
from memhp.facts.open_source import open_source
from memhp.facts.sysroot import write_sysroot

NAME = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default"


def as_a_tree_can_show(machine: Facts) -> Facts:
    """A machine without what stands in no such file: what QEMU said, the bus of DAX devices, a later moment's log."""
    return replace(machine, boot_log=machine.log, qemu=None, dax=())


@pytest.mark.parametrize(("name", "step"), every_step())
def test_every_capture_is_read_back_from_its_tree_as_it_was(name: str, step: str, tmp_path: Path) -> None:
    machine = facts(name, step)
    write_sysroot(machine, tmp_path / "root")
    again = observe(open_source(tmp_path / "root"))
    assert replace(again, release=machine.release) == as_a_tree_can_show(machine)
    assert again.release == machine.release


def test_blocks_and_nodes_are_linked_both_ways(tmp_path: Path) -> None:
    write_sysroot(facts(NAME, "1-plugged"), tmp_path / "root")
    system = tmp_path / "root" / "sys" / "devices" / "system"
    assert (system / "memory" / "memory32" / "node0").resolve() == (system / "node" / "node0").resolve()
    assert (system / "node" / "node0" / "memory32").resolve() == (system / "memory" / "memory32").resolve()
    assert (system / "node" / "node0" / "memory32" / "valid_zones").read_text(encoding="utf-8") == "Normal\n"
    assert (system / "memory" / "memory32" / "node0").readlink() == Path("../../node/node0")


def test_an_empty_folder_is_filled_and_an_own_tree_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "root"
    target.mkdir()
    write_sysroot(facts(NAME, "1-plugged"), target)
    assert (target / "sys/devices/system/memory/memory32").is_dir()
    write_sysroot(facts(NAME, "0-before"), target)
    assert not (target / "sys/devices/system/memory/memory32").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(BadInput, match=r"thesis\.tex: would be lost, and was not written by memhp"):
        write_sysroot(facts(NAME, "1-plugged"), tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["thesis.tex"]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_file_or_a_link_in_the_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "link"):
        with pytest.raises(BadInput, match="is there already, and no folder"):
            write_sysroot(facts(NAME, "1-plugged"), tmp_path / name)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    assert list((tmp_path / "folder").iterdir()) == []


def test_missing_parents_are_refused_as_for_any_output(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such folder"):
        write_sysroot(facts(NAME, "1-plugged"), tmp_path / "new" / "root")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="there is no such folder"):
        write_sysroot(facts(NAME, "1-plugged"), tmp_path / "file" / "root")


def test_when_writing_fails_nothing_is_left_and_the_old_tree_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "root"
    write_sysroot(facts(NAME, "1-plugged"), target)

    def full_disk(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(BadInput, match="No space left on device"):
        write_sysroot(facts(NAME, "0-before"), target)
    assert (target / "sys/devices/system/memory/memory32").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
