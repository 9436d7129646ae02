"""The DAX bus of a twin, as tests read and write its files."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.errors import KernelError
from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.tree import Attribute, Folder, Link, resolve
from twin_runs import scenario

HMEM, PMEM = "/sys/devices/platform/hmem.0", "/sys/devices/platform/e820_pmem/ndbus0/region1/dax1.0"
"""Where the two regions of :func:`two_regions` are."""


def two_regions(profile: str, mode: str) -> str:
    """A scenario with a region without a namespace, whose device has a mode at first, and one with, in devdax."""
    return f"""
[machine]
arch = "x86_64"
profile = "{profile}"
memory = "4G"
[[steps]]
do = "dax"
device = "dax0.0"
at = "8G"
size = "1G"
namespace = false
mode = "{mode}"
[[steps]]
do = "dax"
device = "dax1.0"
at = "16G"
size = "1G"
mode = "devdax"
"""


class Bus:
    """The files of a machine with dax regions, read and written without a mount."""

    def __init__(self, folder: Path, machine: str) -> None:
        self.twin = boot(scenario(folder, machine), speed=0).twin
        self.root = twin_root(twin_files(self.twin, ""))

    def read(self, path: str) -> str:
        """What a file says, or where a link points."""
        entry = resolve(self.root, path)
        if isinstance(entry, Link):
            return entry.target
        assert isinstance(entry, Attribute) and entry.show is not None, path
        return entry.show()

    def write(self, path: str, text: str) -> str:
        """What comes of a write: the name of an errno, empty for none."""
        entry = resolve(self.root, path)
        assert isinstance(entry, Attribute) and entry.store is not None, path
        try:
            self.twin.wrote(0, path, text, entry.store)
        except KernelError as error:
            return error.name
        return ""

    def names(self, path: str) -> set[str]:
        """What is in a folder."""
        entry = resolve(self.root, path)
        assert isinstance(entry, Folder)
        return set(entry.names())
