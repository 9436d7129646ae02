"""Outputs that take nothing's place: built under a name that nobody can foresee, and named when they are whole."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memhp.errors import BadInput
from memhp.outputs.ending_signals import uninterrupted
from memhp.outputs.file import write_file
from memhp.outputs.place import place_of
from memhp.outputs.staging import check_beside, staging


def check_new(out: Path) -> None:
    """Raise :class:`BadInput` where there is something already, or nothing could be made."""
    if str(out) == "-":
        raise BadInput("this cannot go to stdout", where="-", fix="name a file or a folder")
    if out.exists() or out.is_symlink():
        raise BadInput("is there already", where=str(out), fix="give a name that is free")
    check_beside(out)


def _name(draft: Path, target: Path) -> None:
    """Give a file its name unless another has it: FileExistsError. Where files have one name only, by renaming."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError from None
        draft.rename(target)


def write_new(out: Path, text: str) -> None:
    """Write text as UTF-8 to a file that is not there yet, or through what is no file. Raises :class:`BadInput`."""
    if not place_of(out).replaced:
        write_file(out, text)
        return
    with new_place(out) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def new_place(out: Path) -> Iterator[Path]:
    """Where to build what is to be `out` (a file or a folder): it gets that name when the block is done, or goes.

    Raises :class:`BadInput` as :func:`check_new` does.
    """
    check_new(out)
    target = out.absolute()
    try:
        with staging(target) as beside:
            draft = beside / "new"
            yield draft
            with uninterrupted():
                if draft.is_dir():
                    draft.rename(target)  # refused where something but an empty folder has come meanwhile
                else:
                    _name(draft, target)
    except FileExistsError:
        raise BadInput("is there already", where=str(out), fix="give a name that is free") from None
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}", where=str(out)) from None
