"""A package manager of one's own: apt with private state, private cache and the machine's sources for other suites.

Nothing is installed and nothing of the machine's own apt is written. Signatures and hashes are checked by apt against
the keyring that the machine's sources name; what was downloaded in part goes on where it stopped.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memhp.errors import BadInput
from memhp.target.guest.flavours import SUITES
from memhp.target.guest.launch import ended, start
from memhp.target.guest.sources import own_archive, rewritten

Progress = Callable[[str, float], None]
"""Called with what is going on and how far it is, 0 to 1."""

_STATUS = re.compile(r"dlstatus:\d+:([\d.]+):(.*)")
MISSING = "apt, which fetches kernels and QEMU, is not on this machine"
FIX = "use a Debian or Ubuntu host, or give --kernel, --initrd and --qemu of your own"


@dataclass(frozen=True)
class Repository:
    """The packages of one architecture, with their state in `folder`."""

    folder: Path
    deb_arch: str

    @property
    def archives(self) -> Path:
        """Where packages are downloaded to."""
        return self.folder / "archives"

    def options(self) -> list[str]:
        """What makes apt keep to this folder (``apt.conf(5)``)."""
        settings = {
            "Dir::State": self.folder,
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder,
            "Dir::Cache::Archives": self.archives,
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": self.folder / "etc",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": self.deb_arch,
            "APT::Architectures": self.deb_arch,
            "APT::Install-Recommends": "false",
            "APT::Keep-Downloaded-Packages": "true",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
        }
        return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]

    def prepare(self) -> None:
        """Write the sources. Raises :class:`BadInput` where the machine has no apt, or no archive."""
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise BadInput(MISSING, where="memhp guest fetch", fix=FIX)
        text = rewritten(own_archive(), SUITES)
        for folder in (self.folder / "lists" / "partial", self.archives / "partial", self.folder / "etc"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        (self.folder / "etc" / "memhp.sources").write_text(text, encoding="utf-8")

    def age(self) -> float:
        """Seconds since the indices were fetched; infinite where they never were."""
        mark = self.folder / "updated"
        return time.time() - mark.stat().st_mtime if mark.is_file() else math.inf

    def update(self, progress: Progress) -> None:
        """Fetch the indices. A suite that does not have this architecture is left out, as long as another does."""
        self.prepare()
        done = self._run("apt-get", ["update"], progress, f"package lists of {self.deb_arch}")
        if not any((self.folder / "lists").glob(f"*_binary-{self.deb_arch}_Packages*")):
            where = f"packages of {self.deb_arch}"
            raise BadInput(_last_error(done.stderr), where=where, fix="is the archive reachable?")
        (self.folder / "updated").touch()

    def names(self, prefix: str) -> list[str]:
        """The names of packages that begin with `prefix`."""
        return self._ask("apt-cache", "pkgnames", prefix).split()

    def depends(self, package: str) -> list[str]:
        """The packages that one depends on itself."""
        text = self._ask("apt-cache", "depends", "--important", package)
        return re.findall(r"^ [ |]?(?:Pre)?Depends: ([^<\s]\S*)", text, re.MULTILINE)

    def download(self, packages: Sequence[str], progress: Progress, what: str) -> list[Path]:
        """Fetch these packages alone, each with its newest version; the files."""
        return self._fetch(["download", *packages], self.archives, packages, progress, what)

    def download_with_dependencies(self, packages: Sequence[str], progress: Progress, what: str) -> list[Path]:
        """Fetch these packages and all they depend on; the files."""
        uris = self._ask("apt-get", "--yes", "--print-uris", "install", *packages)
        files = re.findall(r"^'[^']+' (\S+) \d+", uris, re.MULTILINE)
        arguments = ["--yes", "--download-only", "install", *packages]
        done = self._run("apt-get", arguments, progress, what)
        found = [self.archives / file for file in files]
        if done.returncode or not all(file.is_file() for file in found):
            raise BadInput(_last_error(done.stderr), where=what, fix="try again: what came is kept")
        return found

    def _fetch(
        self, arguments: list[str], folder: Path, packages: Sequence[str], progress: Progress, what: str
    ) -> list[Path]:
        done = self._run("apt-get", arguments, progress, what, cwd=folder)
        found = [sorted(folder.glob(f"{name}_*.deb"), key=lambda file: file.stat().st_mtime) for name in packages]
        if done.returncode or not all(found):
            raise BadInput(_last_error(done.stderr), where=what, fix="try again: what came is kept")
        return [files[-1] for files in found]

    def _ask(self, program: str, *arguments: str) -> str:
        command = [program, *self.options(), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        ).stdout

    def _run(
        self, program: str, arguments: list[str], progress: Progress, what: str, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run with progress read from apt's status pipe."""
        progress(what, 0.0)
        read, write = os.pipe()
        command = [program, *self.options(), "-q", "-o", f"APT::Status-Fd={write}", *arguments]
        with (self.folder / "log").open("w+", encoding="utf-8") as log:
            child = start(command, pass_fds=(write,), stdin=subprocess.DEVNULL, output=log.fileno(), cwd=cwd)
            os.close(write)
            with ended(child), os.fdopen(read, encoding="utf-8", errors="replace") as status:
                for line in status:
                    if match := _STATUS.match(line):
                        progress(what, float(match[1]) / 100)
                child.wait()
            log.seek(0)
            text = log.read()
        progress(what, 1.0)
        return subprocess.CompletedProcess(command, child.returncode, "", text)


def _last_error(text: str) -> str:
    """The last complaint of apt."""
    lines = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("E: ")]
    return lines[-1] if lines else "apt failed without a word"


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package's files; none of its scripts runs."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["dpkg-deb", "-x", package, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        package.unlink(missing_ok=True)
        raise BadInput(done.stderr.strip() or "cannot be unpacked", where=str(package), fix="fetch again")
