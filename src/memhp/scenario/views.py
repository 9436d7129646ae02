"""Files that show a modelled machine as Linux shows a real one: a sysroot, a page-table dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.facts.derive import derive
from memhp.facts.ptdump_model import model_ptdump
from memhp.facts.sysroot import write_sysroot as write_facts
from memhp.linux.state import Kernel
from memhp.outputs.file import write_file


def write_sysroot(k: Kernel, path: Path) -> None:
    """Write ``/sys/devices/system/memory``, ``/proc/iomem`` and their kin under `path`, as a whole or not at all."""
    write_facts(derive(k), path)


def write_ptdump(k: Kernel, path: Path) -> None:
    """Write the kernel's page tables in the kernel's own dump format to a file, as a whole or not at all."""
    write_file(path, model_ptdump(k))
