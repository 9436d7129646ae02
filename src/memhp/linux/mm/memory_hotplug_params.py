"""Parameters of ``memory_hotplug`` that may be written at run time (``/sys/module/memory_hotplug/parameters``).

mm/memory_hotplug.c: ``set_online_policy()`` and the ``module_param()`` lines; lib/kstrtox.c for how values are read.
``memmap_on_memory`` is read-only: boot decides about it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace
from errno import EACCES, EINVAL
from typing import Any

from memhp.errors import KernelError
from memhp.linux.lib.kstrtox import kstrtobool, kstrtouint
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel

ONLINE_POLICIES = ("contig-zones", "auto-movable")


def _online_policy(text: str) -> str | None:
    return next((policy for policy in ONLINE_POLICIES if text.removesuffix("\n") == policy), None)


PARSERS: dict[str, Callable[[str], Any]] = {
    "online_policy": _online_policy,
    "auto_movable_ratio": kstrtouint,
    "auto_movable_numa_aware": kstrtobool,
}
"""The parameters of mode 0644, and what each takes."""


@of_file("kernel/params.c")
def param_attr_store(k: Kernel, name: str, text: str) -> None:
    """Write to a parameter.

    Raises EINVAL for what it does not take, ERANGE for a number that is too large, and EACCES where sysfs has no such
    file.
    """
    if not k.config.profile.auto_movable:
        raise KernelError(EACCES, f"there is no parameter {name}", place="fs/sysfs/dir.c:sysfs_create_dir_ns")
    value = PARSERS[name](text)
    if value is None:
        raise KernelError(EINVAL, f"{name} does not take {text!r}", place=here())
    k.config = replace(k.config, **{name: value})
