"""Files that show a modelled machine as Linux shows a real one: a sysroot, a page-table dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.ptdump_model import model_ptdump
from memhp.facts.sysroot import write_sysroot as write_tree
from memhp.linux.state import Kernel


def write_sysroot(k: Kernel, path: Path) -> None:
    """Write ``/sys/devices/system/memory``, ``/proc/iomem`` and their kin under `path`, as a whole or not at all."""
    write_tree(derive(k), path)


def write_ptdump(k: Kernel, path: Path) -> None:
    """Write the kernel's page tables in the kernel's own dump format to a file, as a whole or not at all."""
    write_whole(path, model_ptdump(k))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that nobody ever sees half of it. Raises :class:`BadInput` when it cannot be written."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BadInput(f"cannot write: {error.strerror}", where=str(path)) from None
