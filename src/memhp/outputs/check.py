"""What is refused before anything runs: an output in the place of an input or of another, or that cannot be written."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from memhp.errors import BadInput
from memhp.outputs.place import STDOUT, Place, place_of
from memhp.outputs.tree import check_tree


def check_outputs(
    files: Mapping[str, Path | None],
    *,
    inputs: Iterable[Path | None],
    folders: Mapping[str, Path | None] | None = None,
    stdout: str = "",
) -> bool:
    """Look at every output of a run, option → path (None: not asked for), and at what the run reads.

    Of `inputs` some need not be there; ``ARCHIVE/STEP`` stands for the archive. `stdout` names the option that has
    taken stdout, if one has. Returns whether an output goes to stdout, so that a report for people has to go
    elsewhere. Raises :class:`BadInput` naming the option.
    """
    trees = {option: path for option, path in (folders or {}).items() if path is not None}
    places = {option: place_of(path) for option, path in files.items() if path is not None}
    sources = [path for path in map(_read, inputs) if path is not None and path.resolve() != Path("/")]
    for path in trees.values():
        check_tree(path)
    for place in places.values():
        _check_place(place)
    _check_inputs(places, trees, sources)
    _check_each_other(places, trees)
    return _check_stdout(places, stdout)


def _read(path: Path | None) -> Path | None:
    """What a run reads by this name; None if nothing is there."""
    if path is None or path.exists():
        return path
    return path.parent if path.parent.is_file() else None


def _check_place(place: Place) -> None:
    """Raise where nothing can be written to."""
    where = str(place.path)
    if place.status is None and place.descriptor is not None:
        raise BadInput("cannot write: stdout is closed", where=where, fix="name a file")
    if place.descriptor is not None:
        return
    folder = place.target.parent
    if not folder.is_dir():
        named = place.path.parent if not place.path.is_symlink() else folder
        raise BadInput("cannot write: there is no such folder", where=where, fix=f"create {named} first")
    if place.status is None:
        allowed = os.access(folder, os.W_OK | os.X_OK)
    else:
        if stat.S_ISDIR(place.status.st_mode):
            raise BadInput("cannot write: it is a folder", where=where, fix="name a file in it")
        allowed = os.access(place.target, os.W_OK)
    if not allowed:
        raise BadInput("cannot write: not allowed there", where=where, fix="name another file")


def _check_inputs(places: Mapping[str, Place], trees: Mapping[str, Path], sources: Iterable[Path]) -> None:
    """Raise for an output that is read, or that lies in a folder that is."""
    for source in sources:
        status = source.stat()
        read = (status.st_dev, status.st_ino)
        for option, place in places.items():
            if place.identity == read and not place.discards:
                raise BadInput(f"{place.path} is read by this run", where=option, fix="name another file")
            if place.replaced and stat.S_ISDIR(status.st_mode):
                _refuse_within(option, place.target, source, "the machine that is read")
        for option, tree in trees.items():
            if tree.exists() and os.path.samestat(tree.stat(), status):
                raise BadInput(f"{tree} is read by this run", where=option, fix="name another folder")
            if stat.S_ISDIR(status.st_mode):
                _refuse_within(option, tree, source, "the machine that is read")


def _refuse_within(option: str, path: Path, folder: Path, what: str) -> None:
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise BadInput(f"{path} lies in {folder}, {what}", where=option, fix="name a place outside")


def _check_each_other(places: Mapping[str, Place], trees: Mapping[str, Path]) -> None:
    """Raise for two outputs in one place."""
    taken: dict[tuple[object, ...], str] = {}
    for option, place in places.items():
        other = taken.setdefault(place.identity, option)
        if other != option and not place.discards:
            raise BadInput(f"{place.path} is where {other} goes", where=option, fix="name another file")
        for folder_option, tree in trees.items():
            if place.replaced:
                _refuse_within(option, place.target, tree, f"which {folder_option} writes as a whole")
    resolved: dict[Path, str] = {}
    for option, tree in trees.items():
        other = resolved.setdefault(Path(os.path.realpath(tree)), option)
        if other != option:
            raise BadInput(f"{tree} is where {other} goes", where=option, fix="name another folder")


def _check_stdout(places: Mapping[str, Place], stdout: str) -> bool:
    """Whether an output goes to stdout. Raises if that is taken, or is a file that an output would replace."""
    try:
        status = os.fstat(STDOUT)
    except OSError:
        return False
    goes = False
    for option, place in places.items():
        same = place.status is not None and os.path.samestat(place.status, status)
        if not same or place.discards:
            continue
        if place.descriptor is None and place.replaced:
            raise BadInput(f"{place.path} is where stdout goes", where=option, fix="name another file, or -")
        if stdout:
            raise BadInput(f"stdout is where {stdout} goes", where=option, fix="name a file")
        goes = True
    return goes
