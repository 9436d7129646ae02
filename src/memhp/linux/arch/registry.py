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

Arch = str
"""The name of an architecture, one of `ARCHES`."""

FOLDERS: dict[Arch, str] = {"riscv64": "riscv", "arm64": "arm64", "x86_64": "x86", "loongarch64": "loongarch"}
"""Name → folder of the kernel's ``arch``, whose module ``port`` holds the port as ``PORT``."""

ARCHES: tuple[Arch, ...] = tuple(FOLDERS)


def port(arch: Arch) -> Port:
    """The port of an architecture. Raises :class:`BadInput`, with those that there are."""
    if arch not in FOLDERS:
        raise BadInput(f"no architecture {arch!r}", where="arch", fix=one_of(arch, ARCHES))
    return _loaded(FOLDERS[arch])


def ports() -> tuple[Port, ...]:
    """The ports of all architectures, in the order of the list."""
    return tuple(port(arch) for arch in ARCHES)


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


def _module(folder: str, name: str) -> ModuleType:
    return import_module(f"memhp.linux.arch.{folder}.{name}")
