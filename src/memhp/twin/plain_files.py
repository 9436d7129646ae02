"""A twin as plain files in a folder, for places without FUSE: what is written to them is noticed, and then done.

A lesser mode. A write has succeeded before the kernel's path runs, so no tool hears an errno: the file says afterwards
what it said before, and the record tells why. Which bytes were written is worked out from what stands in the file
then. Files that are no texts, such as ``/proc/kpageflags`` and ``/dev/kmsg``, are not there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct

from memhp.errors import BadInput, KernelError
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.twin import syscalls
from memhp.twin.fuse.server import Later
from memhp.twin.loop import Loop
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Entry, Folder, Link, resolve

EVENT = Struct("=iIII")
"""``struct inotify_event``: watch, mask, cookie, and how long the name behind it is."""
AT_ONCE = 1 << 16
TAMPERED = frozenset({errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""What it ends in to write a file where something else stands, or nothing to put it in."""
LEFT_OUT = frozenset({"power"})
"""Folders that nobody writes to for memory's sake: each would take a watch, of which a user has so many."""


class PlainFiles:
    """The texts, links and folders of a tree, in a folder that is empty at first. To be closed."""

    def __init__(self, folder: Path, root: Folder, twin: Twin) -> None:
        if not folder.is_dir() or any(folder.iterdir()):
            raise BadInput("want an empty folder", where=str(folder))
        self._folder, self._root, self._twin = folder, root, twin
        self._said: dict[str, str] = {}
        """What stands at each path: a file's text, where a link points, "" for a folder."""
        self._watched: dict[int, str] = {}
        self.fd = syscalls.inotify_init()
        self.refresh()

    def refresh(self) -> None:
        """Have all files say what they say now."""
        found: set[str] = set()
        self._put("", self._root, found)
        for path in sorted(self._said.keys() - found, reverse=True):
            place = self._folder / path
            with suppress(OSError):
                place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
            del self._said[path]

    def _put(self, path: str, entry: Entry, found: set[str]) -> None:
        place, before = self._folder / path, self._said.get(path)
        if isinstance(entry, Folder):
            if before is None:
                with _left_as_it_is():
                    place.mkdir(exist_ok=True)
                    self._watched[syscalls.inotify_add_watch(self.fd, str(place), syscalls.IN_CLOSE_WRITE)] = path
            text = ""
            for name in (name for name in entry.names() if name not in LEFT_OUT):
                child = entry.child(name)
                if child is not None:
                    self._put(f"{path}/{name}".lstrip("/"), child, found)
        elif isinstance(entry, Link):
            text = entry.target
            if before is None:
                with _left_as_it_is():
                    place.symlink_to(text)
        elif isinstance(entry, Attribute):
            text = _text_of(entry)
            if before != text:
                with _left_as_it_is():
                    # In place, as somebody may have the file open.
                    file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, entry.mode | 0o600)
                    os.write(file, text.encode())
                    os.close(file)
        else:
            return
        self._said[path] = text
        found.add(path)

    def heard(self) -> None:
        """Do what was written since the last time."""
        data = os.read(self.fd, AT_ONCE)
        at = 0
        while at < len(data):
            watch, mask, _, length = EVENT.unpack_from(data, at)
            name = data[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0").decode(errors="surrogateescape")
            at += EVENT.size + length
            if mask & syscalls.IN_Q_OVERFLOW:
                for path in list(self._said):
                    self._look(path)
            elif watch in self._watched:
                self._look(f"{self._watched[watch]}/{name}")

    def _look(self, path: str) -> None:
        """See whether something else stands in a file than was put there, and do what that asks for."""
        entry, before = resolve(self._root, path), self._said.get(path)
        if before is None or not isinstance(entry, Attribute) or entry.store is None:
            return
        try:
            now = (self._folder / path).read_text(errors="surrogateescape")
        except OSError:
            return
        if now == before:
            return
        # It is put there anew, whatever comes of it.
        self._said[path] = now
        try:
            self._twin.wrote(0, f"/{path}", written(now, before), entry.store)
        except Later as later:
            later.begin(lambda _: None)
        except KernelError:
            pass
        self.refresh()

    def close(self) -> None:
        """Let go of the folder, which is empty again."""
        os.close(self.fd)
        self._root = Folder(lambda: (), lambda _: None)
        self.refresh()


@contextmanager
def _left_as_it_is() -> Iterator[None]:
    """Let be what somebody took away, or put something else, such as a link, in place of: it is theirs."""
    try:
        yield
    except OSError as error:
        if error.errno not in TAMPERED:
            raise


def _text_of(entry: Attribute) -> str:
    """What a file says; one that cannot be read, or not now, is empty."""
    if entry.show is None:
        return ""
    try:
        return entry.show()
    except KernelError:
        return ""


def written(now: str, before: str) -> str:
    """What was written to a file that said something and says something else now.

    Who opens it without truncating it leaves the end of a longer text there; tools do so with such words.
    """
    for word in ONLINE_TYPES:
        if len(word) < len(before) and now == word + before[len(word) :]:
            return word
    return now


@contextmanager
def plain_files(loop: Loop, folder: Path, root: Folder) -> Iterator[None]:
    """Have plain files say what a twin says, and it do what is written to them, as long as this lasts."""
    files = PlainFiles(folder, root, loop.twin)
    loop.add(files.fd, files.heard)
    loop.twin.moved.insert(0, files.refresh)
    try:
        yield
    finally:
        loop.twin.moved.remove(files.refresh)
        loop.remove(files.fd)
        files.close()
