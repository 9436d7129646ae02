"""Where an output is built before it gets its name: a folder beside it under a name that nobody can foresee."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memhp.errors import BadInput
from memhp.outputs.ending_signals import uninterrupted


def check_beside(out: Path) -> None:
    """Raise :class:`BadInput` where nothing could be made beside an output."""
    parent = out.absolute().parent
    if not parent.is_dir():
        raise BadInput("cannot write: there is no such folder", where=str(out), fix=f"create {out.parent} first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"cannot write: not allowed in {parent}", where=str(out), fix="name another folder")


def check_folder(out: Path) -> None:
    """Raise :class:`BadInput` where files could not be written into a folder, which need not be there yet."""
    if not os.path.lexists(out):
        check_beside(out)
    elif not out.is_dir():
        raise BadInput("cannot write: it is no folder", where=str(out), fix="name a folder")
    elif not os.access(out, os.W_OK | os.X_OK):
        raise BadInput("cannot write: not allowed there", where=str(out), fix="name another folder")


@contextmanager
def staging(target: Path, *, within: Path | None = None) -> Iterator[Path]:
    """Such a folder beside `target`, or within another one, with all that is still in it gone when the block is done.

    Raises OSError.
    """
    folder: Path | None = None
    try:
        with uninterrupted():
            folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=within or target.parent))
        yield folder
    finally:
        if folder is not None:
            with uninterrupted():
                shutil.rmtree(folder)
