"""Kernel modules for a guest: found in a tree, decompressed, in the order in which they load."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import re
import shutil
import subprocess
import zlib
from pathlib import Path

from memhp.errors import BadInput

FIRST = ("virtio_pci", "virtio_console")
"""What the agent's line to the outside needs: built in on most kernels, modules on Debian's 6.1."""

ON_DEMAND = (
    "virtio_mem",
    "dax",
    "kmem",
    "device_dax",
    "dax_pmem",
    "nd_pmem",
    "nd_btt",
    "of_pmem",
    "nfit",
    "nd_e820",
    "dax_hmem",
    "qemu_fw_cfg",
    "notifier_error_inject",
    "memory_notifier_error_inject",
)
"""What steps need, and whoever dumps a guest: loaded when one does."""

_FILE = re.compile(r"(.+)\.ko(\.xz|\.gz|\.zst)?")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def module_files(tree: Path) -> dict[str, Path]:
    """The modules below a folder by name, with underscores as the kernel knows them."""
    found = {}
    for path in sorted(tree.rglob("*.ko*")):
        if match := _FILE.fullmatch(path.name):
            found[match[1].replace("-", "_")] = path
    return found


def contents(path: Path) -> bytes:
    """A module as the kernel loads it. Raises :class:`BadInput` for one that cannot be decompressed here."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return zlib.decompress(data, wbits=31)
    if path.suffix == ".zst":
        if shutil.which("zstd") is None:
            raise BadInput("is compressed by zstd", where=str(path), fix="install zstd")
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    return data


def depends(module: bytes) -> list[str]:
    """The modules that one needs, as its ``.modinfo`` says."""
    match = _DEPENDS.search(b"\0" + module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


def load_order(names: tuple[str, ...], files: dict[str, Path]) -> dict[str, bytes]:
    """The modules among `names` that there are with all that they need, each after what it needs; the rest is built in,
    or not there at all.
    """
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        data = contents(files[name])
        for needed in depends(data):
            add(needed)
        ordered[name] = data

    for name in names:
        add(name)
    return ordered


def needs(name: str, modules: dict[str, bytes]) -> list[str]:
    """What must be loaded for a module among some, itself last; nothing for one that is not among them."""
    found: list[str] = []
    for each in [*depends(modules[name]), name] if name in modules else ():
        found += [other for other in ([each] if each == name else needs(each, modules)) if other not in found]
    return found
