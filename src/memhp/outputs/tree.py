"""The one writer of output folders: a tree of files and links, with a list of itself, so that no other file ever goes.

The list stands in the tree as `MARK`: a line for each file with the SHA-256 of what was written, and for each link with
where it points. A folder is replaced if everything in it is on its list and is as it was written.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from memhp.errors import BadInput
from memhp.outputs.ending_signals import uninterrupted
from memhp.outputs.staging import check_folder, staging

MARK = ".memhp-sysroot"
"""The list of what was written, in every tree written here."""

MOST_MARK = 1 << 28
"""Bytes of a list that is read, at most."""


def check_tree(directory: Path) -> None:
    """Raise :class:`BadInput` where :func:`write_tree` would refuse the folder or could not create it."""
    _replaceable(directory)
    check_folder(directory)


def write_tree(directory: Path, files: Mapping[str, str], links: Mapping[str, str]) -> None:
    """Write files (path in the tree → text) and links (path → where it points): all of them or nothing.

    They are built beside `directory`, if nothing is there, and get its name. A folder that is there, empty or with a
    tree written here before, stays the folder that it is, as somebody may work in it: what is in it is replaced.
    Raises :class:`BadInput` for any other folder, naming what is in the way, and for a place that cannot be written.
    """
    check_tree(directory)
    try:
        target = Path(os.path.realpath(directory))
        there = target.is_dir()
        with staging(target, within=target if there else target.parent) as draft:
            tree = draft / "new"
            _fill(tree, files, links)
            with uninterrupted():
                if there:
                    _swap(target, tree, draft / "old", besides=draft.name)
                else:
                    tree.rename(target)  # refused where something but an empty folder has come meanwhile
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}", where=str(directory)) from None


def _swap(target: Path, tree: Path, aside: Path, *, besides: str) -> None:
    """Put what is in the tree into the folder, whose `besides` stays. What was there is looked at once more when nobody
    finds it any longer.
    """
    moves: list[tuple[Path, Path]] = []
    try:
        aside.mkdir()
        for path in [each for each in target.iterdir() if each.name != besides]:
            _move(path, aside, moves)
        _refuse_strangers(aside, target)
        for path in [*tree.iterdir()]:
            _move(path, target, moves)
    except BaseException:
        for before, now in reversed(moves):
            now.rename(before)
        raise


def _move(path: Path, folder: Path, moves: list[tuple[Path, Path]]) -> None:
    """Give it a name in the folder that is free, and remember both."""
    to = folder / path.name
    if os.path.lexists(to):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(to))
    path.rename(to)
    moves.append((path, to))


def _replaceable(target: Path) -> bool:
    """Whether something is there that may go. Raises :class:`BadInput` where it may not."""
    try:
        if not target.exists() and not target.is_symlink():
            return False
        if not target.is_dir() or target.is_symlink():
            raise BadInput("is there already, and no folder", where=str(target), fix="name a new folder")
        _refuse_strangers(target, target)
    except OSError as error:
        raise BadInput(f"cannot be looked at: {error.strerror}", where=str(target), fix="name a new folder") from None
    return True


def _refuse_strangers(tree: Path, shown: Path) -> None:
    """Raise :class:`BadInput` for the first file that is not as it was written here; `shown` is the tree's name."""
    written = _written(tree)
    folders = {parent for path in written for parent in _parents(path)}
    for path in _contents(tree):
        if path in folders and (tree / path).is_dir() and not (tree / path).is_symlink():
            continue
        if path != MARK and written.get(path) != _fingerprint(tree / path):
            what = "was changed since memhp wrote it" if path in written else "was not written by memhp"
            raise BadInput(
                f"would be lost, and {what}", where=str(shown / path), fix="move it, or name a new or an empty folder"
            )


def _parents(path: str) -> Iterator[str]:
    return (str(parent) for parent in PurePosixPath(path).parents)


def _contents(tree: Path) -> Iterator[str]:
    """Everything in a tree, by its path from there, in order."""
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in sorted(os.scandir(tree / folder), key=lambda each: each.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield path
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)


def _fingerprint(path: Path) -> str:
    """What the list holds for a file or a link; for anything else what no list holds."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if not stat.S_ISREG(path.lstat().st_mode):
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _written(tree: Path) -> dict[str, str]:
    """What a tree's list says was written there: path → fingerprint; nothing if there is no list."""
    mark = tree / MARK
    if mark.is_symlink() or not mark.is_file() or mark.stat().st_size > MOST_MARK:
        return {}
    try:
        listed = json.loads(mark.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return listed if isinstance(listed, dict) else {}


def _fill(tree: Path, files: Mapping[str, str], links: Mapping[str, str]) -> None:
    tree.mkdir()
    listed: dict[str, str] = {}
    for path, text in files.items():
        file, data = _made(tree, path), text.encode("utf-8", "surrogateescape")
        file.write_bytes(data)
        listed[str(file.relative_to(tree))] = hashlib.sha256(data).hexdigest()
    for path, points_to in links.items():
        link = _made(tree, path)
        link.symlink_to(points_to)
        listed[str(link.relative_to(tree))] = f"-> {points_to}"
    (tree / MARK).write_text(json.dumps(listed, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def _made(tree: Path, path: str) -> Path:
    """The place of a file in the tree, its folder made."""
    place = tree / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
