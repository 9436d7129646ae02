"""``write()`` to a file of sysfs, and ``mmap()`` of one: ``fs/kernfs/file.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from errno import ENODEV
from typing import TypeVar

from memhp.errors import KernelError
from memhp.linux.fs.kernfs.dir import KernfsNode, kernfs_get_active, kernfs_put_active
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "fs/kernfs/file.c"
T = TypeVar("T")


def kernfs_fop_write_iter(k: Kernel, kn: KernfsNode, store: Callable[[], bool]) -> None:
    """Call the file's operation from inside, until it does not want the system call to start again.

    `store` answers False for ``-ERESTARTNOINTR``. Raises ENODEV for a file that is gone, and what `store` raises.
    """
    while True:
        if not kernfs_get_active(k.hw, kn):
            raise KernelError(ENODEV, f"{kn.name} is gone", place=here())
        try:
            if store():
                return
        finally:
            kernfs_put_active(k.hw, kn)


def kernfs_fop_mmap(k: Kernel, kn: KernfsNode, mmap: Callable[[], T]) -> T:
    """Call the file's operation from inside. Raises ENODEV for a file that is gone, and what `mmap` raises.

    ``of->mutex``, which only users of one open file meet at, is not here.
    """
    if not kernfs_get_active(k.hw, kn):
        raise KernelError(ENODEV, f"{kn.name} is gone", place=here())
    try:
        return mmap()
    finally:
        kernfs_put_active(k.hw, kn)
