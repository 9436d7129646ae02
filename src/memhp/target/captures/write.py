"""Capture steps onto disk: a folder of folders, or an archive of it, whole or not at all."""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from memhp import __version__
from memhp.errors import BadInput
from memhp.outputs.exclusive_create import new_place
from memhp.target.captures.flatten import FORMAT

MODES = {".tar.xz": "w:xz", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar": "w"}
"""How an archive is written, by the end of its name."""


MOST_NAME = 255
"""Bytes of a folder's name: ``include/uapi/linux/limits.h:NAME_MAX``."""


def record(kind: str, left_out: tuple[str, ...]) -> str:
    """``capture.json``: the format's version, what was captured by whom, and what was left out."""
    said = {"format": FORMAT, "kind": kind, "left_out": list(left_out), "memhp": __version__}
    return msgspec.json.format(msgspec.json.encode(said), indent=1).decode() + "\n"


def check_step(name: str, where: str) -> None:
    """Raise :class:`BadInput` for what cannot be the name of a moment: it is a folder's name within the capture."""
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(name.encode()) > MOST_NAME:
        wanted = f"want a name of {MOST_NAME} bytes at most, without / and control characters"
        raise BadInput(f"{wanted}, got {name[:80]!r}", where=where, fix="0-before, 1-plugged, ...")


def write(steps: Mapping[str, Mapping[str, str | bytes]], out: Path) -> None:
    """Write steps by name: an archive where the name ends like one, else a folder.

    Raises :class:`memhp.errors.BadInput` where there is something already, or nothing can be written.
    """
    for step in steps:
        check_step(step, str(out))
    mode = next((mode for end, mode in MODES.items() if out.name.endswith(end)), None)
    with new_place(out) as draft:
        if mode is None:
            _write_folder(steps, draft)
        else:
            _write_archive(steps, draft, mode)


def data_of(content: str | bytes) -> bytes:
    """A file's bytes."""
    return content.encode() if isinstance(content, str) else content


def _write_folder(steps: Mapping[str, Mapping[str, str | bytes]], folder: Path) -> None:
    for step, files in steps.items():
        (folder / step).mkdir(parents=True)
        for name, text in files.items():
            (folder / step / name).write_bytes(data_of(text))


def _write_archive(steps: Mapping[str, Mapping[str, str | bytes]], path: Path, mode: str) -> None:
    """Equal steps give equal bytes: members carry no time and no owner."""
    with path.open("wb") as file, tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for step, files in steps.items():
            for name, text in files.items():
                data = data_of(text)
                member = tarfile.TarInfo(f"{step}/{name}")
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
