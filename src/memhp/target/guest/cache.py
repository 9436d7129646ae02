"""Where fetched kernels, QEMU and initramfs images are kept: below the user's cache folder, one writer at a time."""
# SPDX-License-Identifier: GPL-2.0-or-later

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cache:
    """The folders below one root."""

    root: Path

    @property
    def kernels(self) -> Path:
        """A folder for each release, as its packages unpack."""
        return self.root / "kernels"

    @property
    def qemu(self) -> Path:
        """QEMU, its libraries and firmware, as their packages unpack."""
        return self.root / "qemu"

    @property
    def busybox(self) -> Path:
        """A folder for each package architecture."""
        return self.root / "busybox"

    @property
    def initramfs(self) -> Path:
        """Images by kernel and content."""
        return self.root / "initramfs"

    def repository(self, deb_arch: str) -> Path:
        """The package manager's state for one architecture."""
        return self.root / "apt" / deb_arch

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cache for writing: a second process waits until the first is done or dead."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def user_cache() -> Cache:
    """The user's own: ``$XDG_CACHE_HOME/memhp``, by default ``~/.cache/memhp`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return Cache(folder / "memhp")
