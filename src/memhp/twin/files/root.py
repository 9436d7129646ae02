"""The whole tree of a twin's files, each where Linux has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel
from memhp.twin.files.kmsg import kmsg
from memhp.twin.files.memory import SYS_MEMORY, memory_root
from memhp.twin.files.module import DEBUG, error_injection, parameters
from memhp.twin.files.node import SYS_NODE, node_root
from memhp.twin.files.proc import proc_files
from memhp.twin.tree import Entry, Folder, folder, planted

PARAMETERS = "/sys/module/memory_hotplug/parameters"


def twin_files(k: Kernel, cmdline: str) -> dict[str, Entry]:
    """Files and folders of the twin by path: each replaces the host's at that place, the rest is the host's."""
    return {
        SYS_MEMORY: memory_root(k),
        SYS_NODE: node_root(k),
        PARAMETERS: parameters(k),
        DEBUG: folder({"notifier-error-inject": folder({"memory": error_injection(k)})}),
        **proc_files(k, cmdline),
        "/dev/kmsg": kmsg(k),
    }


def twin_root(files: dict[str, Entry]) -> Folder:
    """The tree that these files make."""
    return planted(files)
