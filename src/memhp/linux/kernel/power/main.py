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


PM_CHAIN = "pm_chain_head.rwsem"
"""The chain's lock, shared while notifiers are told, alone while one comes or goes."""


@dataclass
class PmChain:
    """``pm_chain_head``."""

    notifiers: list[PmNotifier] = field(default_factory=list)
    """In the order in which they are called."""


def register_pm_notifier(k: Kernel, notifier: PmNotifier) -> None:
    """Somebody wants to hear of sleep from now on, before those who have asked before."""
    with k.hw.locked(PM_CHAIN):
        k.statics(PmChain).notifiers.insert(0, notifier)


def unregister_pm_notifier(k: Kernel, notifier: PmNotifier) -> None:
    """Somebody does not any more."""
    with k.hw.locked(PM_CHAIN):
        k.statics(PmChain).notifiers.remove(notifier)


def pm_notifier_call_chain_robust(k: Kernel, up: PmAction, down: PmAction, place: str) -> None:
    """Ask the notifiers; when one refuses, tell those asked before it that nothing comes of it. Raises EPERM then.

    A refusal is ``NOTIFY_BAD``.
    """
    with k.hw.locked(PM_CHAIN, write=False):
        notifiers = k.statics(PmChain).notifiers
        for asked, notifier in enumerate(notifiers):
            refusal = notifier(k, up)
            if refusal:
                for earlier in notifiers[:asked]:
                    earlier(k, down)
                raise KernelError(EPERM, refusal, place=place)


def pm_notifier_call_chain(k: Kernel, action: PmAction) -> None:
    """Tell the notifiers."""
    with k.hw.locked(PM_CHAIN, write=False):
        for notifier in k.statics(PmChain).notifiers:
            notifier(k, action)
