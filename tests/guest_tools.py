"""Unmodified programs in a real guest and on a twin of it, the same commands: python tests/guest_tools.py --help.

The guest gets this machine's own programs with their libraries. The twin is made of a capture of the guest as it
booted; then both have DIMMs plugged by their monitors, and a shell each carries out every command.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memhp.target.captures.write import write
from memhp.target.guest import cpio
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import running
from memhp.target.guest.initramfs import initramfs
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.modules import load_order, module_files
from memhp.target.guest.observe import step_files
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.versions import newest
from memhp.units import MiB
from session_sides import Side, TwinSide, guest_side, second_monitor, twin_side
from tool_sessions import Act

PROGRAMS = ("lsmem", "chmem", "bash")
INJECTORS = ("notifier_error_inject", "memory_notifier_error_inject")
"""Modules that ``mem-on-off-test.sh`` asks for."""
MODPROBE = """#!/bin/busybox sh
case "$*" in
*-r*) rmmod memory_notifier_error_inject notifier_error_inject ;;
*) insmod /modules/notifier_error_inject.ko && insmod /modules/memory_notifier_error_inject.ko ;;
esac 2> /dev/null
"""
"""A modprobe that knows these two."""
WITHOUT_MODPROBE = "/sbin/modprobe: No such file or directory"
"""What the script's shell says on a host that has none: a twin needs no module for its files."""
_LIBRARY = re.compile(r"(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)")

FIRST = 32
"""The first memory block of the DIMMs."""
DIMMS = (384 * MiB, 256 * MiB)
COLUMNS = "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES"
LSMEM = tuple(
    f"lsmem {options}"
    for options in (
        "", "-a", "-b", "-a -b", "-J", "-J -a", "-P", "-r", "-n", "-a -n", f"-o {COLUMNS}", f"-a -J -b -o {COLUMNS}",
        "--output-all", "-a -P --output-all", "-r -n -o BLOCK", "-S STATE,ZONES", "-S NODE -r", "-S none", "--summary",
        "--summary=only", "--summary=never", "--summary=always -r", "-o NOTHING", "--nothing",
    )
)  # fmt: skip
CHMEM = tuple(
    f"chmem {options}"
    for options in (
        f"-e -z Movable -b {FIRST}", f"-e -b {FIRST}", f"-e -v -z Movable -b {FIRST + 1}-{FIRST + 2}",
        f"-d -b {FIRST + 1}", "-d -b 0", "-d -b 900", "-e -z Movable 0x118000000-0x11fffffff",
        "-e 0x118000001-0x11fffffff", "-d -v 0x118000000-0x11fffffff", "-e -z Movable 256M", "-d 128M", "-d -v 256M",
        "-e -z Movable 128M", "-z Movable -e -b 33", "-e -z Normal -b 33", "-e -z Nowhere -b 34", "-e 0", "-e 100",
        "-d nonsense", "-e", "128M", "-b 33", "-d 0x100000000-0x127ffffff", "-e -z DMA -b 32", "-e -z Normal -b 32",
        "-e -v 640M", "-e 128M", "-e 1G", "-d -v -b 34-36", "-e -v -b 34-36",
    )
)  # fmt: skip


def on_off(script: str) -> tuple[str, ...]:
    """The kernel's own test, with numbers that are drawn alike, for several shares of the memory."""
    runs = ("-r 2", "-r 30", "-e -16 -r 20", "-e 5", "-r 101", "-h")
    return tuple(f"bash -c 'RANDOM=1; . {script} {options}' {script}" for options in runs)


@dataclass
class Compared:
    """What came of a command on both sides."""

    command: str
    guest: Any
    twin: Any


@dataclass
class Result:
    """All commands on a kernel."""

    release: str
    compared: list[Compared] = field(default_factory=list)

    @property
    def differing(self) -> list[Compared]:
        """Those with another output or exit code."""
        return [each for each in self.compared if each.guest != each.twin]

    def report(self) -> str:
        """Commands by program, and what differed."""
        names = [each.command.split()[0] for each in self.compared]
        programs = {name: "mem-on-off-test.sh" if name == "bash" else name for name in names}
        wrong = Counter(each.command.split()[0] for each in self.differing)
        lines = [f"Linux {self.release}, {program_version('lsmem')}"]
        for name, count in Counter(names).items():
            same = f"{count - wrong[name]:>3} the same on guest and twin"
            lines.append(f"  {programs[name]:<20} {count:>3} commands, {same}")
        for each in self.differing:
            lines += [f"{each.command}", f"  guest {each.guest}", f"  twin  {each.twin}"]
        return "\n".join(lines)


def program_version(name: str) -> str:
    """What a program says that it is."""
    return subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def found(name: str) -> str | None:
    """Where a program of this machine is."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def carried(programs: Iterable[str]) -> Iterator[cpio.Entry]:
    """Programs of this machine and all that they load, for a guest's first file system."""
    folders, files = {"lib", "lib64", "sbin"}, dict[str, bytes]()
    for name in programs:
        path = found(name)
        assert path is not None, name
        files[f"bin/{name}"] = Path(path).read_bytes()
        told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for wanted, place in _LIBRARY.findall(told):
            files[f"lib/{wanted}" if wanted else place.lstrip("/")] = Path(place).read_bytes()
    yield from map(cpio.folder, sorted(folders))
    for name, data in files.items():
        yield cpio.file(name, data, executable=True)


def image(kernel: Kernel, folder: Path, programs: Sequence[str], script: Path | None) -> Path:
    """The first file system of a guest with programs of this machine."""
    modules = module_files(kernel.modules) if kernel.modules is not None else {}
    entries = [*carried(programs), cpio.file("sbin/modprobe", MODPROBE.encode(), executable=True)]
    entries += [cpio.file(f"modules/{name}.ko", data) for name, data in load_order(INJECTORS, modules).items()]
    if script is not None:
        entries.append(cpio.file(script.name, script.read_bytes()))
    path = folder / "initramfs"
    path.write_bytes(initramfs(user_cache(), kernel).read_bytes() + gzip.compress(cpio.archive(entries), 1))
    return path


def in_the_way(kernel: Kernel, folder: Path, programs: Sequence[str]) -> Path:
    """A folder that has the guest's busybox and programs of this machine, as a shell's PATH."""
    busybox, links = user_cache().busybox / kernel.deb_arch / "usr/bin/busybox", folder / "bin"
    links.mkdir()
    subprocess.run([busybox, "--install", "-s", links], check=True)
    for program in programs:
        (links / program).unlink(missing_ok=True)
        (links / program).symlink_to(str(found(program)))
    return links


@contextmanager
def both(kernel: Kernel, script: Path | None) -> Iterator[tuple[Side, TwinSide]]:
    """A guest and a twin of it, with the same programs in their shells' way."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        second = folder / "second"
        spec = GuestSpec(
            kernel, append="memhp_default_state=offline", dimms=True, extra=second_monitor(second),
            initrd=image(kernel, folder, PROGRAMS, script),
        )  # fmt: skip
        guest = stack.enter_context(running(user_cache(), find_qemu(user_cache(), kernel.arch), spec))
        guest.agent.run("busybox --install -s /bin; export LC_ALL=C")
        write({"0-boot": step_files(guest, pages=True)}, folder / "captured")
        real = stack.enter_context(guest_side(guest, second))
        options = ("--maxmem", str(GuestSpec.max_memory))
        twin = stack.enter_context(twin_side(folder / "captured", folder, exact=True, options=options))
        if script is not None:
            shutil.copy(script, folder)
        twin.agent.run(f"export LC_ALL=C PATH={in_the_way(kernel, folder, PROGRAMS)}; cd {folder}")
        yield real, twin


def compare(kernel: Kernel, script: Path | None = None) -> Result:
    """Carry out everything on both sides; `script` is the kernel's ``mem-on-off-test.sh``."""
    result = Result(kernel.release)
    with both(kernel, script) as (real, twin):
        for act in plugged():
            assert real.do(act) == twin.do(act), act
        logged = len(real.log())
        for command in commands(script):
            theirs, log = real.shell(command), real.log()
            twin.tell(real, log[logged:])
            logged = len(log)
            status, lines = twin.shell(command)
            ours = [status, [line for line in lines if line != WITHOUT_MODPROBE]]
            result.compared.append(Compared(command, theirs, ours))
    return result


def plugged() -> Iterator[Act]:
    """DIMMs come."""
    for number, size in enumerate(DIMMS):
        backend = {"qom-type": "memory-backend-ram", "id": f"m{number}", "size": size}
        yield Act(ask=("object-add", backend))
        dimm = {"driver": "pc-dimm", "id": f"d{number}", "memdev": f"m{number}"}
        yield Act(ask=("device_add", dimm), then=("answered",))


def commands(script: Path | None) -> Sequence[str]:
    """What is carried out: each look after each change as well."""
    words = list(LSMEM)
    for command in CHMEM:
        words += [command, "lsmem -a -n -o RANGE,STATE,ZONES"]
    words += LSMEM
    if script is not None:
        words += on_off(f"./{script.name}")
    return words


def main() -> int:
    """Compare, and print what came of it; 1 if anything differed."""
    parser = argparse.ArgumentParser(description="unmodified programs in a real guest and on a twin of it")
    parser.add_argument("--script", type=Path, help="the kernel's mem-on-off-test.sh")
    parser.add_argument("--kernel", default="", help="the release begins so (default: the newest that is fetched)")
    told = parser.parse_args()
    kernels = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    kernels = {release: each for release, each in kernels.items() if release.startswith(told.kernel)}
    if not kernels:
        sys.exit("no such kernel of x86_64: memhp guest fetch 7.2:x86_64")
    result = compare(kernels[newest(kernels)], told.script)
    print(result.report())
    return int(bool(result.differing))


if __name__ == "__main__":
    sys.exit(main())
