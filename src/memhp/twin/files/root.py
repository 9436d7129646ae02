"""The whole tree of a twin's files, each where Linux has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.facts.source import SYS_MEMORY, SYS_NODE
from memhp.twin.files.acpi import acpi_files
from memhp.twin.files.bus import bus_files
from memhp.twin.files.dax import dax_files
from memhp.twin.files.kmsg import kmsg
from memhp.twin.files.memory import memory_root
from memhp.twin.files.module import DEBUG, error_injection, parameters
from memhp.twin.files.node import node_root
from memhp.twin.files.proc import proc_files
from memhp.twin.files.virtio import virtio_files
from memhp.twin.machine import Twin
from memhp.twin.tree import Entry, Folder, folder, planted

PARAMETERS = "/sys/module/memory_hotplug/parameters"


def twin_files(twin: Twin, cmdline: str) -> dict[str, Entry]:
    """Files and folders of the twin by path: each replaces the host's at that place, the rest is the host's.

    Folders that a kernel without ``CONFIG_MEMORY_HOTPLUG`` has not are empty.
    """
    k = twin.session.k
    return {
        **acpi_files(twin),
        SYS_MEMORY: memory_root(twin) if k.config.memory_hotplug else folder({}),
        SYS_NODE: node_root(k),
        PARAMETERS: parameters(k) if k.config.memory_hotplug else folder({}),
        DEBUG: folder({"notifier-error-inject": folder({"memory": error_injection(k)})}),
        **bus_files(k),
        **proc_files(k, cmdline),
        **dax_files(twin.session),
        **virtio_files(twin.session),
        "/dev/kmsg": kmsg(k),
    }


def twin_root(files: dict[str, Entry]) -> Folder:
    """The tree that these files make."""
    return planted(files)
