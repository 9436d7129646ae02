"""Facts written as a tree of files that Linux tools read: ``lsmem --sysroot``, and our own reader."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts import buddyinfo, counters, iomem, pagetypeinfo, zoneinfo
from memhp.facts.observed import OSRELEASE, Facts
from memhp.facts.params import DIRECTORY as PARAMETERS
from memhp.facts.source import SYS_MEMORY, SYS_NODE

MARK = ".memhp-sysroot"
"""A file in every tree written here: only such trees are ever replaced."""


def files(facts: Facts) -> Iterator[tuple[str, str]]:
    """Every file of the tree: Linux's path and the text. What the facts do not tell is left out."""
    yield "/proc/iomem", iomem.render(facts.iomem)
    yield "/proc/zoneinfo", zoneinfo.render(facts.zones)
    if facts.meminfo:
        yield "/proc/meminfo", counters.render_meminfo(facts.meminfo)
    if facts.vmstat:
        yield "/proc/vmstat", counters.render_vmstat(facts.vmstat)
    if facts.buddyinfo:
        yield "/proc/buddyinfo", buddyinfo.render(facts.buddyinfo)
    if facts.pagetypeinfo:
        yield "/proc/pagetypeinfo", pagetypeinfo.render(facts.pagetypeinfo)
    if facts.cmdline is not None:
        yield "/proc/cmdline", f"{facts.cmdline.text}\n"
    if facts.release is not None:
        yield OSRELEASE, f"{facts.release}\n"
    for name, text in facts.params.files().items():
        yield f"{PARAMETERS}/{name}", text
    for name, text in facts.memory.files().items():
        yield f"{SYS_MEMORY}/{name}", text
    for block in facts.memory.blocks:
        for name, text in block.files().items():
            yield f"{SYS_MEMORY}/{block.name}/{name}", text
    if facts.nodes is not None:
        for name, text in facts.nodes.files().items():
            yield f"{SYS_NODE}/{name}", text
        for node in facts.nodes.nodes:
            for name, text in node.files().items():
                yield f"{SYS_NODE}/node{node.nid}/{name}", text


def links(facts: Facts) -> Iterator[tuple[str, str]]:
    """Every link of the tree: its path and where it points (``do_register_memory_block_under_node()``)."""
    for block in facts.memory.blocks:
        for nid in block.nodes:
            yield f"{SYS_MEMORY}/{block.name}/node{nid}", f"../../node/node{nid}"
            yield f"{SYS_NODE}/node{nid}/{block.name}", f"../../memory/{block.name}"


def write_sysroot(facts: Facts, directory: str | Path) -> None:
    """Write the tree, all of it or nothing: it is built beside and then takes the folder's place.

    An empty folder, or a tree that this function wrote earlier, is replaced. Raises :class:`BadInput` for any other
    folder, for a file in its place and for a place that cannot be written.
    """
    target = Path(directory)
    replaces = _replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(target)) from error
    try:
        tree = staging / "new"
        _fill(facts, tree)
        if replaces:
            _swap(target, tree, staging / "old")
        else:
            tree.rename(target)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(staging)


def check_sysroot(directory: str | Path) -> None:
    """Raise :class:`BadInput` where :func:`write_sysroot` would refuse the folder or could not create it."""
    target = Path(directory)
    _replaceable(target)
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"cannot be written: not allowed in {folder}", where=str(target), fix="name another folder")


def _swap(target: Path, tree: Path, aside: Path) -> None:
    target.rename(aside)
    try:
        tree.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _replaceable(target: Path) -> bool:
    """Whether something is there that may go. Raises :class:`BadInput` where it may not."""
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_dir() or target.is_symlink():
        raise BadInput("is there already, and no folder", where=str(target), fix="name a new folder")
    if any(target.iterdir()) and not (target / MARK).is_file():
        raise BadInput("holds files that memhp did not write", where=str(target), fix="name a new or an empty folder")
    return True


def _fill(facts: Facts, tree: Path) -> None:
    tree.mkdir()
    (tree / MARK).write_text("written by memhp; replaced when it writes here again\n", encoding="utf-8")
    for path, text in files(facts):
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for path, points_to in links(facts):
        link = tree / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(points_to)
