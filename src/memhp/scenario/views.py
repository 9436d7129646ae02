"""Files that show a modelled machine as Linux shows a real one: a sysroot, a page-table dump."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.ptdump_model import model_ptdump
from memhp.facts.sysroot import check_sysroot
from memhp.facts.sysroot import write_sysroot as write_tree
from memhp.linux.state import Kernel


def check_targets(*, sysroot: Path | None, files: list[Path]) -> None:
    """Refuse places that nothing can be written to, before anything is done or written anywhere.

    Raises :class:`BadInput` for the first of them.
    """
    if sysroot is not None:
        check_sysroot(sysroot)
    for path in files:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise BadInput("cannot write: there is no such folder", where=str(path), fix=f"create {path.parent} first")
        if not os.access(folder, os.W_OK | os.X_OK) or path.is_dir():
            raise BadInput("cannot write: not allowed there", where=str(path), fix="name another file")


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
