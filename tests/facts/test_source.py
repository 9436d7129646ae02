"""Every layout that a machine's files come in is opened, and what is none of them is refused with a reason."""
# SPDX-License-Identifier: GPL-2.0-or-later

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from captures import DATA, all_captures, archive, captures, facts, open_capture
from memhp.errors import BadInput
from memhp.facts import memory_blocks
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import natural_order
from memhp.facts.sysroot import write_sysroot
from memhp.linux.arch.registry import ARCHES
from memhp.target.captures.take import take

NAME = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The capture as a folder of step folders."""
    with tarfile.open(archive(NAME)) as tar:
        tar.extractall(tmp_path / NAME, filter="data")
    return tmp_path / NAME


def test_an_archive_holds_its_steps_in_order() -> None:
    assert steps(archive(NAME)) == (
        "0-before",
        "1-plugged",
        "2-onoff",
        "3-offline-boot-tried",
        "4-unplug-to-128M",
        "5-unplugged",
    )


def test_a_step_is_the_same_from_an_archive_a_capture_folder_and_its_own_folder(folder: Path) -> None:
    wanted = facts(NAME, "4-unplug-to-128M")
    assert observe(open_source(folder, step="4-unplug-to-128M")) == wanted
    assert observe(open_source(folder / "4-unplug-to-128M")) == wanted
    assert observe(open_source(f"{archive(NAME)}/4-unplug-to-128M")) == wanted


def test_without_a_step_the_first_is_taken(folder: Path) -> None:
    assert open_source(folder).step == "0-before"
    assert open_source(archive(NAME)).step == "0-before"


def test_one_step_has_no_steps_of_its_own(folder: Path) -> None:
    assert steps(folder) == steps(archive(NAME))
    assert steps(folder / "1-plugged") == ()


def test_a_step_without_a_log_learns_of_its_boot_from_a_later_one(folder: Path) -> None:
    before = open_source(folder / "0-before")
    assert before.get("/var/log/dmesg") is None
    assert "Linux version 6.12.107+deb13-cloud-amd64" in (before.boot_log() or "")


def test_the_log_of_another_boot_is_not_believed(folder: Path) -> None:
    (folder / "0-before" / "proc_cmdline").write_text("console=ttyS0 mem=512M\n", encoding="utf-8")
    assert open_source(folder / "0-before").boot_log() is None


def test_linux_paths_lead_to_the_flat_files_of_a_capture() -> None:
    source = open_capture(NAME)["1-plugged"]
    assert source.read("/sys/devices/system/memory/memory32/valid_zones") == "Normal\n"
    assert source.read("/sys/module/memory_hotplug/parameters/auto_movable_ratio") == "301\n"
    assert source.read("/sys/devices/system/node/possible") == "0\n"
    assert source.listdir("/sys/devices/system/node/node0") == ("cpulist", "cpumap", "distance", "meminfo", "numastat")
    blocks = [name for name in source.listdir("/sys/devices/system/memory") if name.startswith("memory")]
    assert blocks == [f"memory{index}" for index in (*range(8), *range(32, 36))]
    assert source.where("/sys/devices/system/memory/memory0/online").endswith("1-plugged/sys_memory.tsv:4")
    assert source.where("/proc/iomem").endswith("1-plugged/proc_iomem")


def test_an_attribute_that_the_guest_could_not_read_is_missing() -> None:
    source = open_capture(NAME)["1-plugged"]
    assert source.get("/sys/devices/system/memory/power/autosuspend_delay_ms") is None
    assert source.get("/sys/devices/system/node/node0/compact") is None


def test_a_sysroot_and_an_archive_of_it_are_the_same_machine(tmp_path: Path) -> None:
    machine = facts(NAME, "1-plugged")
    write_sysroot(machine, tmp_path / "root")
    with tarfile.open(tmp_path / "root.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "root", "some/where")
    assert open_source(tmp_path / "root").kind == "sysroot"
    assert observe(open_source(tmp_path / "root.tar.xz")) == observe(open_source(tmp_path / "root"))


def test_a_sysroot_with_nothing_but_memory_blocks_shows_these() -> None:
    source = open_source(DATA / "lsmem" / "s390-zvm-6g.tar.bz2")
    assert source.kind == "sysroot"
    assert len(memory_blocks.read(source).blocks) == 24
    shown = observe(source)
    assert (shown.iomem, shown.zones) == ((), ())
    assert shown.memory == memory_blocks.read(source)


def test_folders_beside_the_files_of_sysfs_are_no_files(tmp_path: Path) -> None:
    """Kernels with CONFIG_PM have ``power`` in the folder of each device."""
    name = all_captures()[0]
    write_sysroot(facts(name, next(iter(open_capture(name)))), tmp_path)
    before = take(open_source(tmp_path), private=True, pages=True)
    for folder in ("memory", "memory/memory0", "node", "node/node0"):
        (tmp_path / "sys/devices/system" / folder / "power").mkdir(parents=True)
    assert open_source(tmp_path).get("/sys/devices/system/memory/power") is None
    assert take(open_source(tmp_path), private=True, pages=True) == before


def test_the_live_machine_is_the_root_folder() -> None:
    source = open_source("/")
    assert source.kind == "live"
    assert source.read("/proc/cmdline") == Path("/proc/cmdline").read_text(encoding="utf-8")
    assert source.get("/proc/no-such-file") is None
    assert "cpuinfo" in source.listdir("/proc")
    assert source.where("/proc/iomem") == "/proc/iomem"


def test_every_capture_can_be_opened() -> None:
    assert {name.split("-")[0] for name in captures()} == set(ARCHES)
    assert all(open_capture(name) for name in all_captures())


@pytest.mark.parametrize(
    ("make", "problem", "fix"),
    [
        (lambda path: path / "nothing-here", "no such file or folder", ""),
        (lambda path: path, "holds neither a machine's files nor capture steps", "give /"),
        (lambda path: _file(path / "notes.txt", b"hello\n"), "is a file, not a machine", "what lsmem printed"),
        (lambda path: _file(path / "cut.tar.xz", archive(NAME).read_bytes()[:900]), "cannot be read", "complete"),
        (lambda path: _file(path / "empty.tar.xz", b""), "cannot be read", "complete"),
    ],
)
def test_what_is_no_machine_is_refused(tmp_path: Path, make: Callable[[Path], Path], problem: str, fix: str) -> None:
    path = make(tmp_path)
    with pytest.raises(BadInput) as refused:
        open_source(path)
    assert problem in refused.value.message
    assert fix in refused.value.fix
    assert refused.value.where == str(path)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_step_that_is_not_there_is_refused_with_those_that_are(folder: Path) -> None:
    for path, step in ((str(folder), "9-gone"), (f"{archive(NAME)}/9-gone", None)):
        with pytest.raises(BadInput, match="has no step '9-gone'") as refused:
            open_source(path, step=step)
        assert "one of: 0-before, 1-plugged" in refused.value.fix
    with pytest.raises(BadInput, match="no such file") as refused:
        open_source(folder / "9-gone")
    assert "one of: 0-before, 1-plugged" in refused.value.fix


def test_an_archive_with_no_capture_or_two_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "notes").mkdir()
    with tarfile.open(tmp_path / "none.tar", "w") as tar:
        tar.add(tmp_path / "notes", "notes")
    with tarfile.open(tmp_path / "two.tar", "w") as tar:
        tar.add(folder / "0-before", "one/0-before")
        tar.add(folder / "0-before", "two/0-before")
    with pytest.raises(BadInput, match="holds no machine"):
        open_source(tmp_path / "none.tar")
    with pytest.raises(BadInput, match="holds more than one capture"):
        open_source(tmp_path / "two.tar")


def test_a_live_machine_or_a_sysroot_has_no_steps(tmp_path: Path) -> None:
    write_sysroot(facts(NAME, "1-plugged"), tmp_path / "root")
    for path in ("/", tmp_path / "root"):
        with pytest.raises(BadInput, match="not a capture with steps"):
            open_source(path, step="0-before")


@pytest.mark.parametrize("gone", ["proc_iomem", "proc_zoneinfo", "proc_meminfo", "proc_vmstat"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_capture_that_lacks_a_file_is_refused_by_its_name(folder: Path, gone: str, how: str) -> None:
    if how == "missing":
        (folder / "1-plugged" / gone).unlink()
    else:
        (folder / "1-plugged" / gone).write_bytes(b"")
    with pytest.raises(BadInput) as refused:
        observe(open_source(folder / "1-plugged"))
    assert refused.value.where == str(folder / "1-plugged" / gone)
    assert refused.value.fix.startswith("take the capture again")


@pytest.mark.parametrize("gone", ["proc_cmdline", "proc_buddyinfo"])
def test_a_capture_may_lack_command_line_and_free_lists_but_have_none_that_is_empty(folder: Path, gone: str) -> None:
    file = folder / "1-plugged" / gone
    file.write_bytes(b"")
    with pytest.raises(BadInput) as refused:
        observe(open_source(folder / "1-plugged"))
    assert refused.value.where == str(file)
    file.unlink()
    found = observe(open_source(folder / "1-plugged"))
    assert (found.cmdline is None, found.buddyinfo == ()) == (gone == "proc_cmdline", gone == "proc_buddyinfo")


@pytest.mark.parametrize("name", ["sys_memory.tsv", "memory_hotplug_params.tsv", "sys_node.txt", "qmp.json"])
@pytest.mark.parametrize("share", [0.21, 0.5, 0.83])
def test_a_table_cut_within_a_line_is_refused_by_its_name(folder: Path, name: str, share: float) -> None:
    file = folder / "1-plugged" / name
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: int(len(text) * share)].rstrip("\n") + ("" if name == "qmp.json" else "x"), encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        observe(open_source(folder / "1-plugged"))
    assert refused.value.where.startswith(str(file))


def test_a_list_of_blocks_cut_between_lines_is_told_by_the_memory_that_has_none(folder: Path) -> None:
    file = folder / "1-plugged" / "sys_memory.tsv"
    kept = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if "memory33" not in line]
    file.write_text("".join(kept), encoding="utf-8")
    with pytest.raises(BadInput, match="memory33 is missing, though /proc/iomem has") as refused:
        observe(open_source(folder / "1-plugged"))
    assert "cut off" in refused.value.fix


def test_a_block_cut_between_its_attributes_is_told_by_the_others(folder: Path) -> None:
    file = folder / "1-plugged" / "sys_memory.tsv"
    file.write_text(file.read_text(encoding="utf-8").partition("memory35/valid_zones")[0], encoding="utf-8")
    with pytest.raises(BadInput, match="memory35 has no valid_zones, other blocks have"):
        observe(open_source(folder / "1-plugged"))


def test_other_files_beside_the_flat_ones_do_not_matter(folder: Path) -> None:
    (folder / "1-plugged" / "pt.elf.xz").write_bytes(b"\xfd7zXZ\x00\xff")
    (folder / "notes").mkdir()
    assert observe(open_source(folder, step="1-plugged")) == facts(NAME, "1-plugged")
    assert "notes" not in steps(folder)


def test_bytes_that_are_no_text_are_refused_with_their_line(folder: Path) -> None:
    file = folder / "1-plugged" / "proc_iomem"
    file.write_bytes(file.read_bytes().replace(b"Video ROM", b"Video \xff\xfe"))
    with pytest.raises(BadInput, match="is not text") as refused:
        open_source(folder / "1-plugged")
    assert refused.value.where == f"{file}:5"


def test_names_are_ordered_by_their_numbers() -> None:
    assert natural_order(["memory10", "memory2", "memory1", "power"]) == ("memory1", "memory2", "memory10", "power")
