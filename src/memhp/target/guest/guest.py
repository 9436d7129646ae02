"""A running guest: QEMU as a child that dies with this process, its monitor, its agent, its RAM in sight.

Nothing of it is on a disk: RAM, console and sockets are anonymous, so that nothing is left whatever ends it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from memhp.errors import BadInput
from memhp.target.guest.agent import Agent, GuestSlow
from memhp.target.guest.busy import GuestClock
from memhp.target.guest.cache import Cache
from memhp.target.guest.initramfs import initramfs
from memhp.target.guest.launch import end, start
from memhp.target.guest.monitor import Monitor
from memhp.target.guest.pmem import device_tree
from memhp.target.guest.qemu import GuestSpec, Lines, Qemu, command_line

BOOT_SECONDS = 100
"""How long a guest may take to boot, of its own time: software emulation needs ten to thirty seconds."""
DUMP_SECONDS = 300
"""How long QEMU may take to say what device tree it would give to a machine."""
_log = logging.getLogger(__name__)

DEBUGGED = (
    "memory_hotplug.c",
    "page_isolation.c",
    "memory.c",
    "acpi_memhotplug.c",
    "virtio_mem.c",
    "kmem.c",
    "sparse-vmemmap.c",
)
"""Kernel files whose debug messages are switched on: they tell of altmaps, offlined ranges and reasons."""


@dataclass(frozen=True)
class Resumed:
    """What a guest that need not boot goes on from: `fill` writes a file of RAM by QEMU's name of it, `load` lets QEMU
    read the state of its devices and run.
    """

    release: str
    modules: frozenset[str]
    """What was loaded on demand."""
    fill: Callable[[str, int], None]
    load: Callable[[Monitor], None]


class Guest:
    """A guest that has booted. To be closed."""

    def __init__(self, cache: Cache, qemu: Qemu, spec: GuestSpec, resumed: Resumed | None = None) -> None:
        self.cache, self.qemu, self.spec = cache, qemu, spec
        self.boot_seconds = 0.0
        self.ram: list[int] = []
        self._open: list[socket.socket] = []
        self._console = os.memfd_create("memhp-console")
        self._tree = -1
        """The file that holds the device tree, where it is not QEMU's own."""
        began = time.monotonic()
        self.image = spec.initrd or initramfs(cache, spec.kernel)
        self.modules = resumed.modules if resumed is not None else frozenset[str]()
        self.shared: dict[str, int] = {}
        """The files that hold the guest's memory, by QEMU's name of it."""
        for name, size in spec.memory():
            self.ram.append(self.share(name, size))
            if resumed is not None:
                resumed.fill(name, self.ram[-1])
        monitor, far_monitor = socket.socketpair()
        agent, far_agent = socket.socketpair()
        self._open = [monitor, agent]
        paths = tuple(f"/proc/self/fd/{fd}" for fd in self.ram)
        lines = Lines(far_monitor.fileno(), far_agent.fileno(), self._console)
        self.command = command_line(qemu, replace(spec, ram_paths=paths), self.image, lines)
        if resumed is not None:
            self.command += ["-incoming", "defer"]
        passed = (*self.ram, self._console, far_monitor.fileno(), far_agent.fileno())
        if spec.regions:
            self._tree = os.memfd_create("memhp-tree")
            plain = command_line(qemu, replace(spec, ram_paths=paths), self.image, None)
            os.write(self._tree, device_tree(dumped_tree(plain, self.ram), spec.regions))
            self.command += ["-dtb", f"/proc/self/fd/{self._tree}"]
            passed += (self._tree,)
        try:
            self.child = start(self.command, output=self._console, pass_fds=passed)
        finally:
            far_monitor.close()
            far_agent.close()
        self.clock = GuestClock(self.child.pid)
        """What its limits are told by."""
        try:
            self.monitor = Monitor(monitor, self.explain, self.clock)
            self.agent = Agent(agent, self.explain, self.clock)
            if resumed is None:
                self.release = self.agent.wait(BOOT_SECONDS)
            else:
                resumed.load(self.monitor)
                self.release = resumed.release
        except BaseException:
            if "monitor" in vars(self):
                self.monitor.close()
            end(self.child)
            self._close_files()
            raise
        self.boot_seconds = time.monotonic() - began
        if resumed is not None:
            return
        for file in DEBUGGED:
            self.agent.write("/sys/kernel/debug/dynamic_debug/control", f"file {file} +p")

    def console(self) -> str:
        """All that the console showed, and QEMU's own complaints."""
        size = os.fstat(self._console).st_size
        return os.pread(self._console, size, 0).decode("utf-8", "replace")

    def explain(self) -> str:
        """The last lines of the console, for an error."""
        lines = [line.strip() for line in self.console().splitlines() if line.strip()]
        return f"; its console ends: {' | '.join(lines[-8:])}" if lines else ""

    def share(self, name: str, size: int) -> int:
        """A file without a name for memory that QEMU will know by `name`: it can be read while the guest runs."""
        fd = os.memfd_create(f"memhp-{name}")
        os.ftruncate(fd, size)
        self.shared[name] = fd
        return fd

    def forget(self, name: str) -> None:
        """Memory that QEMU has no more."""
        os.close(self.shared.pop(name))

    def load(self, module: str) -> None:
        """Load a module with what it needs, if the kernel has it as a module."""
        if module in self.modules:
            return
        self.modules |= {module}
        needs = f"$(cat /modules/{module}.needs 2>/dev/null)"
        self.agent.run(f"for m in {needs}; do grep -q ^$m' ' /proc/modules || insmod /modules/$m.ko; done")

    def close(self) -> None:
        """End the guest; a second time does nothing."""
        if self._console < 0:
            return
        try:
            self.monitor.close()
        finally:
            end(self.child)
            self._close_files()

    def _close_files(self) -> None:
        for line in self._open:
            line.close()
        for fd in (*self.shared.values(), self._console, self._tree):
            if fd >= 0:
                os.close(fd)
        self._console = -1


@contextmanager
def running(cache: Cache, qemu: Qemu, spec: GuestSpec) -> Iterator[Guest]:
    """A guest for as long as the block runs.

    One that gets stuck on its way up is started once more, which the log tells: emulated timers do get lost on a
    machine that is busy.
    """
    try:
        guest = Guest(cache, qemu, spec)
    except GuestSlow as error:
        _log.warning("memhp: the guest did not come up and is started once more: %s", error)
        guest = Guest(cache, qemu, spec)
    try:
        yield guest
    finally:
        guest.close()


def shell(cache: Cache, qemu: Qemu, spec: GuestSpec) -> int:
    """A guest whose console is this terminal, until its shell ends; QEMU's exit code."""
    image: Path = spec.initrd or initramfs(cache, spec.kernel)
    plain = replace(spec, shell=True)
    fds = []
    for name, size in spec.memory():
        fds.append(os.memfd_create(f"memhp-{name}"))
        os.ftruncate(fds[-1], size)
    words = command_line(qemu, replace(plain, ram_paths=tuple(f"/proc/self/fd/{fd}" for fd in fds)), image, None)
    child = start(words, stdin=0, output=1, pass_fds=fds, own_group=False)
    try:
        return child.wait()
    finally:
        end(child)


def dumped_tree(command: Sequence[str], files: Sequence[int]) -> bytes:
    """The device tree that QEMU would give to the machine of a command.

    Raises :class:`BadInput` if it gives none, and :class:`GuestSlow`.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dtb"
        child = start([*command, "-machine", f"dumpdtb={path}"], pass_fds=files)
        try:
            child.wait(DUMP_SECONDS)
        except subprocess.TimeoutExpired:
            raise GuestSlow(f"QEMU did not tell its device tree in {DUMP_SECONDS} s") from None
        finally:
            end(child)
        if not path.is_file():
            raise BadInput("QEMU tells no device tree of this machine", where="device tree")
        return path.read_bytes()
