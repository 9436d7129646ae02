"""Parameters of ``memory_hotplug`` that may be written at run time (``/sys/module/memory_hotplug/parameters``).

mm/memory_hotplug.c: ``set_online_policy()`` and the ``module_param()`` lines; kernel/params.c for how values are read.
``memmap_on_memory`` is read-only: boot decides about it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from dataclasses import replace
from errno import EACCES, EINVAL
from typing import Any

from memhp.errors import KernelError
from memhp.linux.state import Kernel

ONLINE_POLICIES = ("contig-zones", "auto-movable")
UINT_MAX = (1 << 32) - 1
_NUMBER = re.compile(r"\+?(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")


def _online_policy(text: str) -> str | None:
    return text if text in ONLINE_POLICIES else None


def _uint(text: str) -> int | None:
    """``kstrtouint()`` with the base that the prefix says."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    number = int(match[1], 16) if match[1] else int(match[2], 8) if match[2] else int(match[3])
    return number if number <= UINT_MAX else None


def _bool(text: str) -> bool | None:
    """``kstrtobool()``: the first letter decides, after ``o`` the second.

    Words that begin with ``e`` and ``d``, which 7.2 takes and 6.12 does not, are not taken.
    """
    word = text.lower()
    if word[:1] in {"y", "t", "1"} or word[:2] == "on":
        return True
    return False if word[:1] in {"n", "f", "0"} or word[:2] == "of" else None


PARSERS: dict[str, Callable[[str], Any]] = {
    "online_policy": _online_policy,
    "auto_movable_ratio": _uint,
    "auto_movable_numa_aware": _bool,
}
"""The parameters of mode 0644, and what each takes."""


def param_attr_store(k: Kernel, name: str, text: str) -> None:
    """Write to a parameter. Raises EINVAL for what it does not take, and EACCES where sysfs has no such file."""
    if not k.config.profile.auto_movable:
        raise KernelError(EACCES, f"there is no parameter {name}", place="fs/sysfs/dir.c:sysfs_create_dir_ns")
    value = PARSERS[name](text.strip())
    if value is None:
        raise KernelError(EINVAL, f"{name} does not take {text!r}", place="kernel/params.c:param_attr_store")
    k.config = replace(k.config, **{name: value})
