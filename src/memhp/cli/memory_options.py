"""The options that name a kernel's memory to read: a dump, RAM of a VM in a file, or a running VM through QEMU."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.facts.ram_image import Piece
    from memhp.facts.table_source import TableSource

Command = TypeVar("Command", bound=Callable[..., Any])


def memory_options(help: str) -> Callable[[Command], Command]:
    """``--memory SOURCE`` and ``--ram`` for those that look into it besides; for :func:`memory_of`."""

    def both(command: Command) -> Command:
        memory = click.option("--memory", type=click.Path(path_type=Path), metavar="SOURCE", help=help)
        return memory(ram_option(command))

    return both


def ram_option(command: Command) -> Command:
    """``--ram PA:OFFSET:SIZE``, once for each part of a file with RAM; it arrives as the argument `pieces`."""
    ram = click.option(
        "--ram", "pieces", multiple=True, metavar="PA:OFFSET:SIZE", help="Where part of a RAM file lies."
    )
    return ram(command)


def memory_of(memory: Path | None, pieces: Sequence[str]) -> "TableSource | None":
    """The memory that the options name, if they name any. Raises BadInput for what is none."""
    if memory is None and pieces:
        raise click.UsageError("--ram goes with --memory")
    return None if memory is None else opened_memory(memory, pieces)


def opened_memory(path: Path, pieces: Sequence[str], **options: Any) -> "TableSource":
    """Whatever a path is: a file, or the socket of QEMU's monitor. Raises BadInput for what is neither."""
    if path.is_socket():
        from memhp.target.vm_memory import open_vm_tables

        return open_vm_tables(path, **options)
    from memhp.facts.table_source import open_tables

    return open_tables(path, ram=[_piece(path, text) for text in pieces], **options)


def _piece(path: Path, text: str) -> "Piece":
    from memhp.facts.ram_image import Piece
    from memhp.units import parse_size

    words = text.split(":")
    if len(words) != 3:
        raise BadInput(f"not PA:OFFSET:SIZE: {text!r}", where="--ram", fix="such as 4G:2G:1G")
    pa, offset, size = (parse_size(word, where="--ram") for word in words)
    if not size or pa + size > 1 << 52:
        raise BadInput(f"no physical memory: {text!r}", where="--ram", fix="a size above 0, below 4 PiB")
    return Piece(path, pa, offset, size)
