"""A guest at one moment, to begin from again and again: its RAM in files, and the state of its devices.

QEMU writes the state as for a migration that leaves out memory that both ends share (``x-ignore-shared``). Each return
is a QEMU of its own with a copy of the RAM, so what was plugged in one life is not there in the next, and nothing is
left of a guest that hung or panicked. Only pages that were ever written take part in the copy.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from memhp.target.guest.agent import GuestLost, GuestSlow
from memhp.target.guest.cache import Cache
from memhp.target.guest.guest import Guest, Resumed
from memhp.target.guest.monitor import Monitor
from memhp.target.guest.qemu import GuestSpec, Qemu

LOOK = 0.01
"""Seconds between two looks at a migration that is under way."""
PATIENCE = 120
"""Seconds until a state that is not written or read is given up."""
CHUNK = 1 << 30


def copy_data(source: int, target: int) -> None:
    """Copy one file into another that is empty, holes left as they are."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            at += os.sendfile(target, source, at, min(CHUNK, end - at))


def migrated(monitor: Monitor) -> None:
    """Wait until a state is written or read. Raises :class:`GuestLost` when it cannot be."""
    end = monitor.clock() + PATIENCE
    while monitor.clock() < end:
        seen = monitor.execute("query-migrate")
        match seen.get("status"):
            case "completed":
                return
            case "failed":
                raise GuestLost(f"QEMU cannot move its state: {seen.get('error-desc', 'no reason given')}")
        time.sleep(LOOK)
    raise GuestSlow(f"QEMU did not move its state in {PATIENCE} s")


@dataclass(frozen=True)
class Snapshot:
    """A guest as it was. `ram` holds files by QEMU's names. To be closed, after every guest that began from it."""

    cache: Cache
    qemu: Qemu
    spec: GuestSpec
    release: str
    modules: frozenset[str]
    ram: Mapping[str, int]
    state: int

    @classmethod
    def of(cls, guest: Guest) -> "Snapshot":
        """What a guest is now; that guest ends. Raises :class:`GuestLost` for a machine that cannot be saved."""
        state = os.memfd_create("memhp-state")
        try:
            guest.monitor.execute("stop")
            shared_ram_stays(guest.monitor)
            guest.monitor.execute("migrate", uri=f"file:/proc/{os.getpid()}/fd/{state}")
            migrated(guest.monitor)
        except BaseException:
            os.close(state)
            raise
        ram = {name: os.dup(fd) for name, fd in guest.shared.items()}
        guest.close()
        spec = replace(guest.spec, initrd=guest.image)
        return cls(guest.cache, guest.qemu, spec, guest.release, guest.modules, ram, state)

    def resume(self) -> Guest:
        """A guest that goes on from here."""

        def load(monitor: Monitor) -> None:
            shared_ram_stays(monitor)
            monitor.execute("migrate-incoming", uri=f"file:/proc/{os.getpid()}/fd/{self.state}")
            migrated(monitor)
            monitor.execute("cont")

        def fill(name: str, file: int) -> None:
            copy_data(self.ram[name], file)

        return Guest(self.cache, self.qemu, self.spec, Resumed(self.release, self.modules, fill, load))

    def close(self) -> None:
        """Forget it."""
        for fd in (*self.ram.values(), self.state):
            os.close(fd)


def shared_ram_stays(monitor: Monitor) -> None:
    """Leave memory in shared files out of what is saved or loaded."""
    ignore = {"capability": "x-ignore-shared", "state": True}
    monitor.execute("migrate-set-capabilities", capabilities=[ignore])


@contextmanager
def resumed(snapshot: Snapshot) -> Iterator[Guest]:
    """A guest from a snapshot for as long as the block runs."""
    guest = snapshot.resume()
    try:
        yield guest
    finally:
        guest.close()
