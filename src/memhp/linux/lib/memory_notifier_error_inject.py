"""Errors put into the chain of memory notifiers, through debugfs: ``lib/memory-notifier-error-inject.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.linux.drivers.base.notify import Refusal, register_memory_notifier
from memhp.linux.lib.kstrtox import kstrtoll
from memhp.linux.place import of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "lib/memory-notifier-error-inject.c"
MAX_ERRNO = 4095

ACTIONS = ("MEM_GOING_ONLINE", "MEM_GOING_OFFLINE")
SET_BUF = 23
"""Bytes of a number that ``fs/libfs.c:simple_attr_write_xsigned()`` reads."""


@dataclass
class MemoryNotifierErrInject:
    """``memory_notifier_err_inject``: the error of each action, 0 or a negative errno."""

    actions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))


def err_inject_init(k: Kernel) -> None:
    """The module is loaded: it hears of memory that goes online and offline, and refuses as it was told."""
    register_memory_notifier(k, notifier_err_inject_callback)


@of_file("lib/notifier-error-inject.c")
def notifier_err_inject_callback(k: Kernel, action: str, _pfn: int, _pages: int) -> str | Refusal:
    """The notifier."""
    error = k.statics(MemoryNotifierErrInject).actions.get(action, 0)
    if not error:
        return ""
    k.hw.log(f"Injecting error ({error}) to {action}")
    return Refusal(f"error {error} is injected", -error)


@of_file("lib/notifier-error-inject.c")
def debugfs_errno_set(k: Kernel, action: str, text: str) -> None:
    """Write to an action's ``error``: what is beyond an errno becomes the nearest that is one.

    As many bytes are looked at as ``struct simple_attr`` has room for. Raises EINVAL and ERANGE (``kstrtoll()``).
    """
    number = kstrtoll(text[:SET_BUF])
    signed = (number + (1 << 31)) % (1 << 32) - (1 << 31)
    k.statics(MemoryNotifierErrInject).actions[action] = min(max(signed, -MAX_ERRNO), 0)
