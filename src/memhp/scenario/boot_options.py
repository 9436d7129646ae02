"""A kernel's command line as a scenario writes it: the options of memory hotplug, their values read as the kernel does.

Where an option stands twice the last counts, but ``kernelcore=mirror`` stays; ``-`` and ``_`` are the same, and a value
that the kernel does not take leaves the default (``kernel/params.c:parse_args``, ``lib/kstrtox.c``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from memhp.errors import KernelError
from memhp.facts.cmdline import Cmdline
from memhp.facts.memory_blocks import ONLINE_TYPES
from memhp.linux.lib.kstrtox import kstrtobool
from memhp.linux.mm.memory_hotplug_params import PARSERS
from memhp.scenario.boot import mirrors
from memhp.scenario.schema import Boot


class Options(NamedTuple):
    """What a command line says, and the words in it whose values the kernel does not take."""

    boot: Boot
    refused: tuple[str, ...]


def _memmap_on_memory(text: str) -> str | None:
    """mm/memory_hotplug.c: ``set_memmap_mode()``."""
    if text == "force":
        return text
    value = kstrtobool(text)
    return None if value is None else "NY"[value]


def _online_type(text: str) -> str | None:
    return text if text in ONLINE_TYPES else None


def _amount(text: str) -> str | None:
    return text if text[:1].isdigit() else None


def _kernelcore(text: str) -> str | None:
    return text if mirrors("kernelcore", text) else _amount(text)


def _flag(text: str) -> bool | None:
    """An option without a value, whatever is written behind it (``mm/memory_hotplug.c:cmdline_parse_movable_node``)."""
    del text
    return True


READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "memory_hotplug.memmap_on_memory": ("memmap_on_memory", _memmap_on_memory),
    **{f"memory_hotplug.{name}": (name, read) for name, read in PARSERS.items()},
    "memhp_default_state": ("memhp_default_state", _online_type),
    "movable_node": ("movable_node", _flag),
    "kernelcore": ("kernelcore", _kernelcore),
    "movablecore": ("movablecore", _amount),
    "cma": ("cma", _amount),
}
"""Options by the key of ``[machine.boot]`` that says the same, and how their values are read."""


def boot_options(cmdline: Cmdline) -> Options:
    """The options of a command line that decide about memory hotplug."""
    found: dict[str, Any] = {}
    refused = []
    for option, value in cmdline.options:
        key, read = READERS.get(option.replace("-", "_"), ("", _flag))
        if not key:
            continue
        try:
            taken = read(value or "")
        except KernelError:
            taken = None
        if taken is None:
            refused.append(option if value is None else f"{option}={value}")
        elif not mirrors(key, found.get(key)):
            found[key] = taken
    return Options(msgspec.convert(found, Boot), tuple(refused))
