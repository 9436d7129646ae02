"""The whole tree of a twin's files, each where Linux has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL

from memhp.errors import KernelError
from memhp.facts.source import SYS_MEMORY, SYS_NODE
from memhp.linux.lib.kstrtox import kstrtouint
from memhp.twin.files.dax import dax_files
from memhp.twin.files.kmsg import kmsg
from memhp.twin.files.memory import memory_root
from memhp.twin.files.module import DEBUG, error_injection, parameters
from memhp.twin.files.node import node_root
from memhp.twin.files.proc import proc_files
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Entry, Folder, folder, planted

ACPI_HOTPLUG = "/sys/firmware/acpi/hotplug/memory"
PARAMETERS = "/sys/module/memory_hotplug/parameters"


def twin_files(twin: Twin, cmdline: str) -> dict[str, Entry]:
    """Files and folders of the twin by path: each replaces the host's at that place, the rest is the host's."""
    k = twin.session.k
    return {
        ACPI_HOTPLUG: acpi_hotplug(twin),
        SYS_MEMORY: memory_root(k),
        SYS_NODE: node_root(k),
        PARAMETERS: parameters(k),
        DEBUG: folder({"notifier-error-inject": folder({"memory": error_injection(k)})}),
        **proc_files(k, cmdline),
        **dax_files(twin.session),
        "/dev/kmsg": kmsg(k),
    }


def acpi_hotplug(twin: Twin) -> Folder:
    """``/sys/firmware/acpi/hotplug/memory``: whether DIMMs may be ejected, as ``drivers/acpi/sysfs.c`` has it."""

    def store(text: str) -> None:
        number = None if "x" in text.lower() else kstrtouint(text)
        if number not in (0, 1):
            place = "drivers/acpi/sysfs.c:enabled_store"
            raise KernelError(EINVAL, f"{text!r} is neither 0 nor 1", place=place)
        twin.eject_enabled = bool(number)

    return folder({"enabled": Attribute(0o644, lambda: f"{int(twin.eject_enabled)}\n", store)})


def twin_root(files: dict[str, Entry]) -> Folder:
    """The tree that these files make."""
    return planted(files)
