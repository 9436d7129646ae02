"""The architectures there are: the only list of them, and where the port of each is found.

A port is loaded by name when a configuration first asks for it. Nothing else names a module below ``arch``, so the
code of the kernel that all architectures share depends on none of them, and a list of names costs no imports.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from memhp.errors import BadInput, one_of

if TYPE_CHECKING:
    from memhp.linux.port import Port
    from memhp.linux.tables_port import ReadTables, TablesPort

Arch = str
"""The name of an architecture, one of `ARCHES`."""

FOLDERS: dict[Arch, str] = {"riscv64": "riscv", "arm64": "arm64", "x86_64": "x86", "loongarch64": "loongarch"}
"""Name → folder of the kernel's ``arch``, whose module ``port`` holds the port as ``PORT``."""

ARCHES: tuple[Arch, ...] = tuple(FOLDERS)


READ_ONLY: dict[Arch, str] = {"s390x": "s390", "ppc64": "powerpc"}
"""Architectures whose page tables are read, and no more; the folder's module ``tables`` has them as ``TABLES``."""


def port(arch: Arch) -> Port:
    """The port of an architecture. Raises :class:`BadInput`, with those that there are."""
    if arch not in FOLDERS:
        raise BadInput(f"no architecture {arch!r}", where="arch", fix=one_of(arch, ARCHES))
    return _loaded(FOLDERS[arch])


def ports() -> tuple[Port, ...]:
    """The ports of all architectures, in the order of the list."""
    return tuple(port(arch) for arch in ARCHES)


def read_only(arch: Arch) -> ReadTables | None:
    """An architecture whose page tables are read and no more; None if it is another."""
    return _tables(READ_ONLY[arch]) if arch in READ_ONLY else None


def tables_port(arch: Arch) -> TablesPort:
    """What an architecture is to a reader of page tables. Raises :class:`BadInput`, with those that there are."""
    if arch not in FOLDERS and arch not in READ_ONLY:
        raise BadInput(f"no architecture {arch!r}", where="arch", fix=one_of(arch, (*ARCHES, *READ_ONLY)))
    return read_only(arch) or port(arch)


def tables_ports() -> tuple[TablesPort, ...]:
    """All whose page tables are read."""
    return tuple(tables_port(arch) for arch in (*ARCHES, *READ_ONLY))


def arch_called(word: str) -> Arch | None:
    """The architecture that a word is a name of: as ``uname -m`` prints it, or its folder in the kernel; else None."""
    return next((each.name for each in ports() if word in (each.name, FOLDERS[each.name], *each.uname_words)), None)


def modules(name: str) -> tuple[ModuleType, ...]:
    """The module of that name in the folder of each architecture, in the order of the list."""
    return tuple(_module(folder, name) for folder in FOLDERS.values())


@cache
def _loaded(folder: str) -> Port:
    loaded: Port = _module(folder, "port").PORT
    return loaded


@cache
def _tables(folder: str) -> ReadTables:
    found: ReadTables = _module(folder, "tables").TABLES
    return found


def _module(folder: str, name: str) -> ModuleType:
    return import_module(f"memhp.linux.arch.{folder}.{name}")
