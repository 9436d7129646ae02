"""The RAM of a machine that QEMU runs, found by asking QEMU: which backend lies where, and which file holds it.

Only memory that others can see is found: files (``memory-backend-file,share=on``), and memfds of a QEMU that runs on
this host, which are reached through ``/proc``. Where the guest's kernel left no VMCOREINFO note, a CPU's registers say
where page tables are.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from memhp.errors import BadInput
from memhp.facts.ram_image import Piece, RamImage
from memhp.facts.table_source import TableSource, open_tables
from memhp.linux.release import known_release, parse_release
from memhp.target.guest.memory import pieces
from memhp.target.vm import Vm, VmLost, VmRefused
from memhp.target.vm_qmp import QemuVm, connect
from memhp.units import GiB

_REGISTER = re.compile(r"\b(CR3|CR4|satp|TTBR1_EL1|TCR_EL1)\s*=?\s*([0-9a-fA-F]{8,16})\b")
SEARCHED = 16 * GiB
"""In RAM that is larger no note is searched for without need."""
_MEMFD = "memfd:memory-backend-memfd"


def open_vm_tables(path: Path, *, registers: dict[str, int] | None = None, arch: str | None = None) -> TableSource:
    """The page tables of the machine behind QEMU's monitor. Raises BadInput where its RAM cannot be seen."""
    vm = connect(path)
    try:
        ram = ram_of(vm, path)
        if not registers:
            try:
                return open_tables(path, arch=arch, ram=ram)
            except BadInput as error:
                registers = registers_of(vm)
                if "VMCOREINFO" not in error.message or not registers:
                    raise
        return open_tables(path, registers=registers, arch=arch or vm.status().arch, ram=ram)
    except (VmLost, VmRefused) as error:
        raise BadInput(str(error), where=str(path)) from None
    finally:
        vm.close()


def kernel_of(vm: Vm) -> str | None:
    """The release of the guest's kernel, as its VMCOREINFO note in RAM tells.

    None where that cannot be seen, is not known here, or would take long to find.
    """
    if not isinstance(vm, QemuVm):
        return None
    try:
        ram = ram_of(vm, Path(vm.where))
        if sum(piece.size for piece in ram) > SEARCHED:
            return None
        info = RamImage(vm.where, ram).info
    except (BadInput, VmRefused):
        return None
    release = None if info is None else parse_release(info.release)
    return None if release is None or not known_release(release) else str(release)


def ram_of(vm: QemuVm, path: Path) -> list[Piece]:
    """Where each part of the machine's RAM is: QEMU's flat view of physical memory, and the files of its backends."""
    backends = {str(each["id"]): each for each in vm.ask("query-memdev") if each.get("id")}
    files = dict(_files(vm, backends))
    names = list(files)
    mtree = vm.ask("human-monitor-command", command_line="info mtree -f")
    found = pieces(mtree, {name: number for number, name in enumerate(names)})
    if not found:
        raise BadInput(
            "none of its RAM can be seen from outside",
            where=str(path),
            fix="start QEMU with -object memory-backend-memfd,id=ram,size=…,share=on -machine memory-backend=ram",
        )
    return [Piece(files[names[each.fd]], each.start, each.offset, each.end - each.start) for each in found]


def _files(vm: QemuVm, backends: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """The file of each backend that has one."""
    memfds = _memfds(vm.process) if vm.process else []
    for name, each in backends.items():
        try:
            file = str(vm.ask("qom-get", path=f"/objects/{name}", property="mem-path"))
        except VmRefused:
            same = [fd for fd in memfds if fd.stat().st_size == int(each["size"])]
            alike = sum(int(other["size"]) == int(each["size"]) for other in backends.values())
            if len(same) == alike == 1:
                yield name, same[0]
            continue
        its = f"/proc/{vm.process}"
        yield name, Path(f"{its}/cwd", file.replace("/proc/self/", f"{its}/")) if vm.process else Path(file)


def _memfds(process: int) -> list[Path]:
    """The memfds that hold memory of a QEMU; none where its files may not be looked at."""
    found = []
    with suppress(PermissionError, FileNotFoundError):
        for fd in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):
                if _MEMFD in str(fd.readlink()):
                    found.append(fd)
    return found


def registers_of(vm: QemuVm) -> dict[str, int]:
    """The registers of a CPU that say where page tables are, by lower-case name, as far as QEMU shows them."""
    text = str(vm.ask("human-monitor-command", command_line="info registers"))
    return {name.lower(): int(value, 16) for name, value in reversed(_REGISTER.findall(text))}
