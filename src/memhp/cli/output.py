"""What every command renders with: JSON on stdout, the terminal, a progress line, the options they share."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
"""The ``--json`` that every reporting command has; it arrives as the argument `as_json`."""


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
    return msgspec.json.format(msgspec.json.encode(report, enc_hook=_plain, order="sorted"), indent=2) + b"\n"


def emit_json(report: object) -> None:
    """Write a report to stdout, as :func:`json_bytes` gives it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json_bytes(report))
    sys.stdout.buffer.flush()


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

    from memhp.cli.patience import PatientProgress

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
