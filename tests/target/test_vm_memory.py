"""Page tables of a machine behind QEMU's monitor: its RAM is found by asking, its registers too."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from captures import DATA
from cores import elf_note, table_frames
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.target.vm_memory import open_vm_tables, ram_of
from memhp.target.vm_qmp import QemuVm
from target.test_vm_qmp import Qemu, Refusal, served

CORE = DATA / "ptcores" / "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level" / "0-before" / "pt.elf.xz"
SIZE = 1 << 30
LOW = 512 << 20
MTREE = f"""FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000000000000-{LOW - 1:016x} (prio 0, ram): ram0
  {LOW:016x}-{SIZE - 1:016x} (prio 0, ram): ram0 @{LOW:016x}
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
"""
REGISTERS = "\nCPU#0\nCR0=80050033 CR2=0000000000f58ce8 CR3=000000000322a000 CR4=00750ef0\n"


class QemuWithRam(Qemu):
    """A machine of 1 GiB whose RAM lies in `file`, or in a memfd of this process (None)."""

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        self.file = file

    def answer(self, command: str, arguments: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        if command == "query-memdev":
            return [{"id": "ram0", "size": SIZE, "share": True}, {"size": 1 << 24, "share": False}], []
        if command == "qom-get" and arguments["property"] == "mem-path":
            return str(self.file) if self.file else Refusal("Property 'memory-backend-memfd.mem-path' not found"), []
        if command == "human-monitor-command":
            return MTREE if "mtree" in arguments["command-line"] else REGISTERS, []
        return super().answer(command, arguments)


@pytest.fixture
def frames() -> dict[int, bytes]:
    return table_frames(ElfCore(CORE))


def write_ram(fd: int, frames: dict[int, bytes], *, note: bool) -> None:
    os.ftruncate(fd, SIZE)
    for pa, data in frames.items():
        os.pwrite(fd, data, pa)
    if note:
        notes = next(note.desc for note in ElfCore(CORE).notes if note.name == "VMCOREINFO")
        os.pwrite(fd, elf_note(notes), 0x10_0000)


def shown(capsys: pytest.CaptureFixture[str], source: Path | str) -> str:
    assert main(["pagetables", str(source), "--area", "vmemmap", "--area", "direct map"]) == 0
    return capsys.readouterr().out


def test_a_running_machines_tables_are_those_of_its_dump(
    tmp_path: Path, frames: dict[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "ram").open("wb") as file:
        write_ram(file.fileno(), frames, note=True)
    with served(tmp_path / "qmp", QemuWithRam(tmp_path / "ram")) as path:
        same = shown(capsys, path) == shown(capsys, CORE)
    assert same


def test_a_file_is_named_from_the_folder_in_which_qemu_was_started(tmp_path: Path) -> None:
    (tmp_path / "ram").touch()
    qemu = QemuWithRam(Path("ram"))

    class Vm(QemuVm):
        """The machine of a process that was started elsewhere."""

        def ask(self, command: str, **arguments: Any) -> Any:
            found, _ = qemu.answer(command, {name.replace("_", "-"): value for name, value in arguments.items()})
            return found

    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as child:
        vm = Vm.__new__(Vm)
        vm.process = child.pid
        paths = {piece.path.resolve() for piece in ram_of(vm, tmp_path)}
        child.kill()
    assert paths == {tmp_path / "ram"}


def test_a_memfd_is_found_in_the_process_by_its_size(tmp_path: Path, frames: dict[int, bytes]) -> None:
    memfd = os.memfd_create("memory-backend-memfd")
    write_ram(memfd, frames, note=True)
    with served(tmp_path / "qmp", QemuWithRam(None)) as path:
        source = open_vm_tables(Path(path))
    os.close(memfd)
    assert source.info is not None
    assert (source.info.release, source.root.pfn) == ("7.2.13+deb14-cloud-amd64", 0x322A)


def test_without_a_note_a_cpus_registers_say_where_the_tables_are(tmp_path: Path, frames: dict[int, bytes]) -> None:
    with (tmp_path / "ram").open("wb") as file:
        write_ram(file.fileno(), frames, note=False)
    with served(tmp_path / "qmp", QemuWithRam(tmp_path / "ram")) as path:
        source = open_vm_tables(Path(path))
    assert (source.info, source.root.pfn, source.root.fmt.name) == (None, 0x322A, "x86_64-4level")


def test_ram_that_nobody_else_sees_is_told_with_what_helps(tmp_path: Path) -> None:
    with served(tmp_path / "qmp", QemuWithRam(None)) as path, pytest.raises(BadInput, match="memory-backend-memfd"):
        open_vm_tables(Path(path))


def test_the_kernel_that_a_rehearsal_models_is_the_one_in_ram(
    tmp_path: Path, frames: dict[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "ram").open("wb") as file:
        write_ram(file.fileno(), frames, note=True)
    for ram, assumed in ((tmp_path / "ram", False), (None, True)):
        with served(tmp_path / f"qmp{assumed}", QemuWithRam(ram)) as path:
            assert main(["vm", "resize", path, "1G", "--dry-run"]) == 0
        assert ("assumed: the guest runs Linux" in capsys.readouterr().out) is assumed
