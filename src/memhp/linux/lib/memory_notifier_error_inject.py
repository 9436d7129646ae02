"""Errors put into the chain of memory notifiers, through debugfs: ``lib/memory-notifier-error-inject.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass, field
from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.drivers.base.notify import Chains, Refusal
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "lib/memory-notifier-error-inject.c"
MAX_ERRNO = 4095

ACTIONS = ("MEM_GOING_ONLINE", "MEM_GOING_OFFLINE")
_NUMBER = re.compile(r"[-+]?\d+\n?")


@dataclass
class MemoryNotifierErrInject:
    """``memory_notifier_err_inject``: the error of each action, 0 or a negative errno."""

    actions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))


def err_inject_init(k: Kernel) -> None:
    """The module is loaded: it hears of memory that goes online and offline, and refuses as it was told."""
    k.statics(Chains).memory.append(notifier_err_inject_callback)


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
    """Write to an action's ``error``: what is beyond an errno becomes the nearest that is one. Raises EINVAL."""
    if _NUMBER.fullmatch(text) is None:
        raise KernelError(EINVAL, f"{text!r} is no number", place=here())
    k.statics(MemoryNotifierErrInject).actions[action] = min(max(int(text), -MAX_ERRNO), 0)
