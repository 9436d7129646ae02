"""``memhp man``: the manual page, made of the same commands and options that ``--help`` shows."""
# SPDX-License-Identifier: GPL-2.0-or-later

import inspect
from collections.abc import Iterator

import click

from memhp import __version__

EXITS = (
    ("0", "All was as expected."),
    ("1", "A step, a law, a race or a claim was not."),
    ("2", "The input cannot be used: one line on the standard error says why."),
    ("130, 143, 129", "Interrupted by SIGINT, SIGTERM, SIGHUP."),
    ("141", "Whoever read the standard output went away."),
    ("70", "A defect of memhp itself."),
)


@click.command()
def man() -> int:
    """Print the manual page: memhp man | man -l -"""
    from memhp.cli.main import cli

    click.echo("\n".join(page(cli)))
    return 0


def page(group: click.Group) -> Iterator[str]:
    """The page in man(7), line by line: a section for each command with its options."""
    ctx = click.Context(group, info_name="memhp")
    yield f'.TH MEMHP 1 "" "memhp {__version__}" "User Commands"'
    yield from (".SH NAME", "memhp \\- memory hot(un)plug, rehearsed before it is real")
    yield from (".SH SYNOPSIS", ".B memhp", ".I COMMAND", "[\\fIOPTION\\fR]...")
    yield from (".SH DESCRIPTION", *_paragraphs(group.help))
    yield ".SH COMMANDS"
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None:
            yield from _command(command, click.Context(command, info_name=name, parent=ctx))
    yield ".SH EXIT STATUS"
    for code, text in EXITS:
        yield from (".TP", f".B {code}", escape(text))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f".SS memhp {escape(ctx.info_name or '')} {escape(usage)}"
    yield from _paragraphs(command.help)
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            yield from (".TP", f".B {escape(record[0])}", escape(record[1] or "\\&"))


def _paragraphs(text: str | None) -> Iterator[str]:
    for number, paragraph in enumerate(inspect.cleandoc(text or "").replace("\b", "").split("\n\n")):
        if number:
            yield ".PP"
        yield escape(" ".join(paragraph.split()))


def escape(text: str) -> str:
    """Text without what roff would read as a request or an escape, in ASCII, which every roff reads."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    safe = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in safe)
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
