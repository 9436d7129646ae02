"""Fetching what guests need: QEMU with its firmware, kernels, and a static busybox of each architecture.

Each is unpacked beside its place and moved there whole, so that what is there is complete; what is there is not fetched
again.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from memhp.errors import BadInput
from memhp.linux.arch.registry import arch_called
from memhp.target.guest.cache import Cache
from memhp.target.guest.flavours import Wanted
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.repository import Progress, Repository, unpack
from memhp.target.guest.versions import newest, version_key

KERNEL = re.compile(r"linux-image-(?P<release>(?P<version>\d+\.\d+(?:\.\d+)?[^-]*(?:-\d+)?)-(?P<flavour>.+))")
"""Image packages carry the release that ``uname -r`` prints."""

FRESH = 24 * 60 * 60
"""Seconds for which package lists are good: an archive keeps the packages that they name for longer."""


def fetch(cache: Cache, kernels: Iterable[Wanted], host: str, progress: Progress) -> list[str]:
    """Fetch QEMU, busybox and the newest kernel of each series asked for; the kernels' releases.

    `host` is the machine that QEMU runs on, as ``uname -m`` prints it. Raises :class:`BadInput` for a kernel that no
    suite has, and for whatever apt could not do.
    """
    releases = []
    with cache.locked():
        repositories: dict[str, Repository] = {}
        for kernel in kernels:
            release = _fetch_kernel(cache, kernel, repositories, progress)
            releases.append(release)
            _fetch_busybox(cache, kernel.flavour.deb_arch, repositories, progress)
            _fetch_qemu(cache, kernel.flavour.arch, host, repositories, progress)
    return releases


def _repository(cache: Cache, deb_arch: str, known: dict[str, Repository], progress: Progress) -> Repository:
    """The packages of an architecture, their lists fetched when they are a day old."""
    if deb_arch not in known:
        repository = Repository(cache.repository(deb_arch), deb_arch)
        if repository.age() > FRESH:
            repository.update(progress)
        progress(f"reading the package lists of {deb_arch}", 0.0)
        known[deb_arch] = repository
    return known[deb_arch]


def release_of(names: Iterable[str], kernel: Wanted) -> str | None:
    """The newest release among image packages that is of a kernel's series (or is that release) and flavour."""
    found = {}
    for name in names:
        match = KERNEL.fullmatch(name)
        if match and match["flavour"] == kernel.flavour.name:
            version = match["version"]
            if version == kernel.series or re.match(rf"{re.escape(kernel.series)}(?!\d)", version):
                found[version] = match["release"]
    return found[newest(found)] if found else None


def _fetch_kernel(cache: Cache, kernel: Wanted, known: dict[str, Repository], progress: Progress) -> str:
    have = release_of((f"linux-image-{folder.name}" for folder in _folders(cache.kernels)), kernel)
    if have is not None:
        return have
    repository = _repository(cache, kernel.flavour.deb_arch, known, progress)
    names = repository.names(f"linux-image-{kernel.series}")
    release = release_of(names, kernel)
    if release is None:
        others = map(KERNEL.fullmatch, repository.names("linux-image-"))
        series = sorted({match["version"] for match in others if match}, key=version_key)
        raise BadInput(f"no suite has {kernel}", where="memhp guest fetch", fix=f"there are {', '.join(series)}")
    image = f"linux-image-{release}"
    parts = [name for name in repository.depends(image) if name.endswith(f"-{release}")]
    files = repository.download([image, *parts], progress, f"kernel {release}")
    _place(files, cache.kernels / release, progress)
    return release


def _fetch_busybox(cache: Cache, deb_arch: str, known: dict[str, Repository], progress: Progress) -> None:
    if (cache.busybox / deb_arch).is_dir():
        return
    repository = _repository(cache, deb_arch, known, progress)
    files = repository.download(["busybox-static"], progress, f"busybox of {deb_arch}")
    _place(files, cache.busybox / deb_arch, progress)


def _fetch_qemu(cache: Cache, arch: str, host: str, known: dict[str, Repository], progress: Progress) -> None:
    machine = MACHINES[arch]
    folder = cache.qemu / arch
    if folder.is_dir():
        return
    own = arch_called(host)
    if own is None:
        raise BadInput(f"no QEMU is packaged for {host} hosts", where="memhp guest fetch", fix="give --qemu")
    repository = _repository(cache, MACHINES[own].deb_arch, known, progress)
    packages = [*machine.packages, *machine.firmware_packages, "ipxe-qemu-"]
    files = repository.download_with_dependencies(packages, progress, f"QEMU for {arch}")
    _place(files, folder, progress)


def _place(packages: Iterable[Path], folder: Path, progress: Progress) -> None:
    """Unpack packages into a folder that appears when all of them are there; the packages go."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    files = list(packages)
    for number, package in enumerate(files):
        progress(f"unpacking {folder.name}", number / len(files))
        unpack(package, partial)
    for waste in ("usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(partial / waste, ignore_errors=True)
    partial.rename(folder)
    for package in files:
        package.unlink(missing_ok=True)


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.startswith(".")] if folder.is_dir() else []
