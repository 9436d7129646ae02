"""What a machine has of what guests need, and the command that mends what it lacks."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.linux.arch.registry import arch_called
from memhp.target.guest.cache import Cache
from memhp.target.guest.flavours import DEFAULTS, wanted
from memhp.target.guest.kernel import fetched
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.qemu import find_qemu
from memhp.target.guest.repository import FIX
from memhp.target.guest.sources import own_archive

BY_DEFAULT = frozenset(wanted(text).flavour.arch for text in DEFAULTS)
"""The architectures that ``memhp guest fetch`` fetches without being asked for them: guests of others need nothing
until somebody wants them.
"""
SPACE = 3 << 30
"""Bytes that the default kernels and QEMU take, unpacked, with the package lists."""


@dataclass(frozen=True)
class Check:
    """One thing: whether it is there, what was found, and what to do."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def examine(cache: Cache, host: str) -> list[Check]:
    """Look for everything that a guest needs on a `host` (as ``uname -m`` prints it)."""
    return [_packages(), _archive(), _host(host), _space(cache), *(_arch(cache, arch) for arch in MACHINES)]


def _packages() -> Check:
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    return Check(
        "package manager", not missing, f"no {', '.join(missing)}" if missing else "apt", FIX if missing else ""
    )


def _archive() -> Check:
    try:
        own_archive()
    except (BadInput, OSError) as error:
        return Check("package sources", False, str(error))
    return Check("package sources", True, "this machine's own, with its keyring")


def _host(host: str) -> Check:
    known = arch_called(host) is not None
    return Check("host", known, host, "" if known else "give --qemu of your own")


def _space(cache: Cache) -> Check:
    folder = cache.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    enough = free >= SPACE
    return Check(
        "space", enough, f"{free >> 30} GiB free in {folder}", "" if enough else "set XDG_CACHE_HOME elsewhere"
    )


def _arch(cache: Cache, arch: str) -> Check:
    kernels = [kernel.release for kernel in fetched(cache) if kernel.arch == arch]
    try:
        find_qemu(cache, arch)
        qemu = "QEMU"
    except BadInput:
        qemu = "no QEMU"
    complete = bool(kernels) and qemu == "QEMU"
    left_out = not kernels and arch not in BY_DEFAULT
    found = f"{qemu}, {', '.join(kernels) if kernels else 'no kernel'}" + (" (only when asked for)" if left_out else "")
    return Check(arch, complete or left_out, found, "" if complete else f"memhp guest fetch 7.2:{arch}")
