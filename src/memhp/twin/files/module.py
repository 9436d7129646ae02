"""Parameters of modules, and what debugfs offers to put errors into memory notifiers."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.facts.derive import params_of
from memhp.linux.lib.memory_notifier_error_inject import ACTIONS, MemoryNotifierErrInject, debugfs_errno_set
from memhp.linux.mm.memory_hotplug_params import PARSERS, param_attr_store
from memhp.linux.state import Kernel
from memhp.twin.tree import Attribute, Entry, Folder, folder

DEBUG = "/sys/kernel/debug"


def parameters(k: Kernel) -> Folder:
    """``/sys/module/memory_hotplug/parameters``: those that this kernel has."""

    def child(name: str) -> Entry | None:
        if name not in params_of(k).files():
            return None
        show = lambda: params_of(k).files()[name]  # noqa: E731
        if name not in PARSERS:
            return Attribute(0o444, show)
        return Attribute(0o644, show, lambda text: param_attr_store(k, name, text))

    return Folder(lambda: params_of(k).files(), child)


def error_injection(k: Kernel) -> Folder:
    """``notifier-error-inject/memory``: an error for each action."""

    def error(action: str) -> Entry:
        return folder(
            {
                "error": Attribute(
                    0o600,
                    lambda: f"{k.statics(MemoryNotifierErrInject).actions[action]}\n",
                    lambda text: debugfs_errno_set(k, action, text),
                    size=0,
                )
            }
        )

    return folder({"actions": folder({action: error(action) for action in ACTIONS})})
