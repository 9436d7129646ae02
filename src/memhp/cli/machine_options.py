"""The options that name a real machine to read: this host, a tree of its files, or a capture."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from memhp.facts.source import Source

Command = TypeVar("Command", bound=Callable[..., Any])


def machine_options(command: Command) -> Command:
    """``--sysroot DIR`` and ``--machine CAPTURE``; without either, this host. For :func:`opened`."""
    sysroot = click.option("--sysroot", metavar="DIR", help="Read the files of a machine below this folder.")
    machine = click.option("--machine", metavar="CAPTURE", help="Read a capture; CAPTURE/STEP names a moment.")
    return sysroot(machine(command))


def opened(sysroot: str | None, machine: str | None) -> "Source":
    """The machine that the options name. Raises :class:`~memhp.errors.BadInput` for a path that is none."""
    from memhp.facts.open_source import open_source

    if sysroot is not None and machine is not None:
        raise click.UsageError("give --sysroot or --machine, not both")
    return open_source(sysroot or machine or "/")
