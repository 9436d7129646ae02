"""The ``memhp`` command: a table of sub-commands, loaded only when called, and how a run ends.

Exit codes: what the command returns (0: all as expected; 1: a step, a law or a claim was not), 2 for input that
cannot be used, 130 when interrupted (143 when asked to terminate), 141 when the reader of the output went away.
Whatever goes wrong with the input is told in one line on stderr.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

import click

from memhp import __version__
from memhp.cli import signals
from memhp.errors import BadInput, one_of
from memhp.printable import printable, replaced

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
_EMPTY = re.compile(r"--[a-z-]+=")
"""An option with an empty value."""
COMPLETE = "_MEMHP_COMPLETE"
"""The environment variable by which the scripts of ``memhp completion`` ask."""

NO_THREAD = "can't start new thread"
"""What CPython says where the system starts no thread: Modules/_threadmodule.c:thread_PyThread_start_new_thread()."""

LONGEST_COMPLAINT = 800
"""Characters of a complaint; a longer one loses its middle, which is some value that was far too long."""


@dataclass(frozen=True)
class LazyCommand:
    """A row of the table: where a sub-command lives, as ``module:name``, and the line that tells what it does."""

    target: str
    help: str


COMMANDS = {
    "rehearse": LazyCommand("memhp.cli.rehearse:rehearse", "Do to a modelled machine what the kernel would do."),
    "matrix": LazyCommand("memhp.cli.matrix:matrix", "Take every configuration through the whole life cycle."),
    "claims": LazyCommand("memhp.cli.claims:claims", "Decide every claim of the source documents."),
    "explore": LazyCommand("memhp.cli.explore:explore", "Decide a race, and trace what goes wrong step by step."),
    "races": LazyCommand("memhp.cli.races:races", "Decide every race, each variant on every configuration."),
    "capture": LazyCommand("memhp.cli.capture:capture", "Keep a machine's facts as files that every command reads."),
    "guest": LazyCommand("memhp.cli.guest:guest", "Boot real kernels in QEMU, without installing anything."),
    "device": LazyCommand("memhp.cli.device:device", "Serve a virtio-mem device to QEMU, with faults on demand."),
    "twin": LazyCommand("memhp.cli.twin:twin", "Run unmodified tools on a rehearsed machine."),
    "conform": LazyCommand("memhp.cli.conform:conform", "Hold the model against real kernels, fact by fact."),
    "vm": LazyCommand("memhp.cli.vm:vm", "See, rehearse and change the memory of a running virtual machine."),
    "pagetables": LazyCommand("memhp.cli.pagetables:pagetables", "Show a real kernel's page tables, from dump or RAM."),
    "blocks": LazyCommand("memhp.cli.blocks:blocks", "List memory blocks: state, zone, use, and who added them."),
    "choices": LazyCommand("memhp.cli.choices:choices", "Tell the decisions in which kernels differ, and since when."),
    "fixes": LazyCommand("memhp.cli.fixes:fixes", "List what was mended in hotplug, and what a kernel lacks of it."),
    "schema": LazyCommand("memhp.cli.schema:schema", "Print the JSON Schemas of what --json prints."),
    "why": LazyCommand("memhp.cli.why:why", "Tell why memory will not go offline, and what to do."),
    "plan": LazyCommand("memhp.cli.plan:plan", "Plan a change of a host's memory, as rehearsed on it."),
    "apply": LazyCommand("memhp.cli.apply:apply", "Carry out a plan on a host, with a journal."),
    "lint": LazyCommand("memhp.cli.lint:lint", "Find settings of memory hotplug that fight or have no effect."),
    "geometry": LazyCommand("memhp.cli.geometry:geometry", "Show the sizes that hotplug works in, everywhere."),
    "example": LazyCommand("memhp.cli.example:example", "List, print or copy the scenarios that come with memhp."),
    "completion": LazyCommand("memhp.cli.completion:completion", "Print the completion script of a shell."),
    "man": LazyCommand("memhp.cli.man:man", "Print the manual page."),
}
"""The sub-commands by name, in the order in which ``--help`` lists them."""


class LazyGroup(click.Group):
    """A group whose commands are rows of `COMMANDS`: listing them imports none of their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, or None when there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].target.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; of a name that there is not, say which one it may be a slip of."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"No such command {args[0]!r}: {one_of(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for ``--help`` from the table alone."""
        if COMMANDS:
            with formatter.section("Commands"):
                formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="memhp", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Memory hot(un)plug, rehearsed before it is real.

    An executable, bit-exact model of what Linux does on riscv64, arm64, x86-64 and loongarch64.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds, and not a long one."""
    text = printable(" ".join(message.split()))
    if len(text) > LONGEST_COMPLAINT:
        text = f"{text[: LONGEST_COMPLAINT // 2]} … {text[-LONGEST_COMPLAINT // 2 :]}"
    print("memhp:", text, file=sys.stderr)


def usage(error: click.ClickException) -> str:
    """A click error in one line, with where to read on."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None and isinstance(error, click.NoSuchOption) and error.possibilities:
        shown = {name for each in ctx.command.get_params(ctx) if each.get_help_record(ctx) for name in each.opts}
        named = [name for name in error.possibilities if name in shown]
        error = click.NoSuchOption(error.option_name, possibilities=named, ctx=ctx)
    return f"{error.format_message()} (see {ctx.command_path} --help)" if ctx else error.format_message()


def _ours(args: Sequence[str]) -> list[str]:
    """The arguments up to ``--``: what stands behind it, ``memhp twin`` hands on to a command."""
    words = list(args)
    return words[: words.index("--")] if "--" in words else words


def with_hex(args: Sequence[str]) -> list[str]:
    """The arguments with ``--json=hex`` as two options: one that takes a value would swallow a file's name."""
    ours = _ours(args)
    other = next((arg for arg in ours if arg.startswith("--json=") and arg != "--json=hex"), None)
    if other is not None:
        raise BadInput(f"cannot be {other.removeprefix('--json=')!r}", where="--json", fix="--json, or --json=hex")
    told = [each for arg in ours for each in (("--json", "--json-hex") if arg == "--json=hex" else (arg,))]
    return [*told, *args[len(ours) :]]


def refuse_empty(args: Sequence[str]) -> None:
    """Raise :class:`BadInput` for an empty argument: as a path it would be the current folder, and nobody means that.

    What ``memhp twin`` hands on to a command may be empty.
    """
    ours = _ours(args)
    if ours[:1] == ["twin"] and ours[1:2] != ["ctl"]:
        ours = ours[:2]
    for before, arg in zip(["", *ours], ours, strict=False):
        if not arg or _EMPTY.fullmatch(arg):
            where = before if before.startswith("--") and not arg else arg.removesuffix("=")
            raise BadInput("an argument is empty", where=where, fix="is a variable of the shell not set?")


def run(args: Sequence[str]) -> int:
    """Parse and run; a command's return value, when it is an int, is the exit code."""
    if COMPLETE in os.environ:
        # A shell asks what may stand at the cursor: click answers and leaves.
        cli.main(prog_name="memhp", complete_var=COMPLETE)
    try:
        refuse_empty(args)
        with cli.make_context("memhp", with_hex(args)) as ctx:
            result = cli.invoke(ctx)
    except click.exceptions.Exit as done:
        result = done.exit_code
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def main(args: Sequence[str] | None = None) -> int:
    """The ``memhp`` command: run with these arguments (the process's own by default) and give the exit code."""
    try:
        _check_stdout()
        return run(sys.argv[1:] if args is None else args)
    except BadInput as error:
        complain(str(error))
    except click.ClickException as error:
        complain(usage(error))
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return signals.exit_code() or EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        complain(_told(error))
    except RecursionError:
        complain("the input is nested too deep")
    except MemoryError:
        complain("there is not enough memory for this")
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        complain("no thread can be started here: raise the limits of processes and memory (ulimit -u, ulimit -v)")
    return EXIT_BAD_INPUT


def _told(error: OSError) -> str:
    """What to say of an error of the system that nobody else has dealt with: where, and what."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in {errno.ENOMEM, errno.EAGAIN}:
        return f"there is not enough memory, or there are too many processes: {error.strerror}"
    try:
        os.getcwd()  # noqa: PTH109 (it is the error that counts)
    except OSError as gone:
        return f"the current folder: {gone.strerror} (cd to one that is there, or write whole paths)"
    _discard_stdout()
    return f"stdout: cannot write: {error.strerror}"


def _check_stdout() -> None:
    """See to it that stdout takes whatever is printed. Raises :class:`BadInput` if it is closed."""
    if sys.stdout is None:
        raise BadInput("stdout is closed", fix="redirect it to a file, or to the null device")
    codecs.register_error("memhp", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="memhp")


def _discard_stdout() -> None:
    """What is still buffered must not fail a second time when the interpreter flushes it at exit."""
    with suppress(io.UnsupportedOperation):
        number = sys.stdout.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
