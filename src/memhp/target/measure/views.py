"""Files that show a modelled machine as Linux shows a real one: a sysroot, a page-table dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path

from memhp.facts import cmdline
from memhp.facts.derive import derive
from memhp.facts.dmesg import Dmesg, Line
from memhp.facts.ptdump_model import model_ptdump
from memhp.facts.sysroot import write_sysroot as write_facts
from memhp.linux.state import Kernel
from memhp.outputs.file import write_file


def write_sysroot(k: Kernel, path: Path) -> None:
    """Write ``/sys/devices/system/memory``, ``/proc/iomem`` and their kin under `path`, as a whole or not at all.

    With the kernel log and the options of its command line, so that the tree can be taken for a machine again.
    """
    log = Dmesg(tuple(Line(line.time / 1e9, line.text) for line in k.hw.log_lines))
    options = "movable_node" if k.config.movable_node else ""
    write_facts(replace(derive(k), log=log, boot_log=log, cmdline=cmdline.parse(options)), path)


def write_ptdump(k: Kernel, path: Path) -> None:
    """Write the kernel's page tables in the kernel's own dump format to a file, as a whole or not at all."""
    write_file(path, model_ptdump(k))
