"""Who is told before the machine sleeps, and after: kernel/power/main.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EPERM
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.state import Kernel

KERNEL_FILE = "kernel/power/main.c"
PmAction = Literal[
    "PM_SUSPEND_PREPARE", "PM_POST_SUSPEND", "PM_HIBERNATION_PREPARE", "PM_POST_HIBERNATION", "PM_RESTORE_PREPARE"
]

PmNotifier = Callable[[Kernel, PmAction], str]
"""``(k, action) -> "" or why not``: a power-management notifier."""


@dataclass
class PmChain:
    """``pm_chain_head``."""

    notifiers: list[PmNotifier] = field(default_factory=list)
    """In the order in which they are called."""


def pm_notifier_call_chain_robust(k: Kernel, up: PmAction, down: PmAction, place: str) -> None:
    """Ask the notifiers; when one refuses, tell those asked before it that nothing comes of it. Raises EPERM then.

    A refusal is ``NOTIFY_BAD``.
    """
    notifiers = k.statics(PmChain).notifiers
    for asked, notifier in enumerate(notifiers):
        refusal = notifier(k, up)
        if refusal:
            for earlier in notifiers[:asked]:
                earlier(k, down)
            raise KernelError(EPERM, refusal, place=place)


def pm_notifier_call_chain(k: Kernel, action: PmAction) -> None:
    """Tell the notifiers."""
    for notifier in k.statics(PmChain).notifiers:
        notifier(k, action)
