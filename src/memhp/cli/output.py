"""What every command renders with: JSON on stdout, the terminal, a progress line, the options they share."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from memhp.json_text import json_encoded
from memhp.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

HEX = "memhp.json-hex"
"""Where the context of a command keeps whether ``--json=hex`` was given."""


def json_option(command: Command) -> Command:
    """The ``--json`` that every reporting command has; it arrives as the argument `as_json`.

    With ``--json=hex`` integers from 2^53 on, which are all addresses, are printed as text, ``"0xffffffc600000000"``.
    """

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[HEX] = value

    help = "Print the report as JSON; --json=hex: integers from 2^53 on as hexadecimal text."
    hidden = click.option("--json-hex", is_flag=True, hidden=True, expose_value=False, callback=remember)
    return click.option("--json", "as_json", is_flag=True, help=help)(hidden(command))


def output_option(name: str, *, metavar: str = "FILE", help: str) -> Callable[[Command], Command]:
    """An option that names something to write; :func:`memhp.outputs.check.check_outputs` is to look at it."""
    return click.option(name, type=click.Path(path_type=Path), metavar=metavar, help=help)


PIPE_WIDTH = 120
"""Columns when the output is not a terminal: the same on every machine."""


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as Python numbers and lists; anything else that msgspec cannot encode as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def json_bytes(report: object) -> bytes:
    """A report as indented JSON with sorted keys and a final newline: equal reports give equal bytes."""
    return msgspec.json.format(json_encoded(report, enc_hook=_plain, order="sorted"), indent=2) + b"\n"


def emit_json(report: object) -> None:
    """Write a report to stdout, as :func:`json_bytes` gives it, or as ``--json=hex`` wants it."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.meta.get(HEX):
        from memhp.report.json_hex import hexadecimal

        report = hexadecimal(msgspec.to_builtins(report, enc_hook=_plain))
    sys.stdout.flush()
    sys.stdout.buffer.write(json_bytes(report))
    sys.stdout.buffer.flush()


def echo_lines(lines: Iterable[str], *, fold: bool = True) -> None:
    """Print lines, each as soon as it is there, and none that steers the terminal.

    One that is too long for the terminal goes on below, further in, at a word; not with `fold` off, for what has
    columns.
    """
    width = get_terminal_size().columns if fold and sys.stdout.isatty() else 0
    for line in (printable(each, keep="\n") for each in lines):
        click.echo("\n".join(_folded(line, width)) if 0 < width < len(line) else line)


def _folded(line: str, width: int) -> list[str]:
    """A line in pieces of so many columns; a word that is longer, such as a path, stays whole."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def console(*, stderr: bool = False) -> "Console":
    """The terminal to print tables and colours to; plain text `PIPE_WIDTH` wide when it is none.

    Nothing that is printed there can steer it: text is shown as it is (:func:`memhp.printable.printable`).
    """
    from memhp.cli.terminal import Terminal

    stream = sys.stderr if stderr else sys.stdout
    return Terminal(file=stream, highlight=False, markup=False, width=None if stream.isatty() else PIPE_WIDTH)


def progress() -> "Progress":
    """A progress line on stderr that leaves no trace; where stderr is no terminal, one line about work that is long."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from memhp.cli.progress_notice import PatientProgress

    if not sys.stderr.isatty():
        return PatientProgress(console(stderr=True))
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
