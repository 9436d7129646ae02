"""``memhp twin``: unmodified tools on a rehearsed machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import gc
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memhp.cli import offered
from memhp.cli.finite import FiniteRange
from memhp.cli.output import console, emit_json, json_option, output_option
from memhp.errors import BadInput, slip_of
from memhp.printable import printable

if TYPE_CHECKING:
    from memhp.twin.result import TwinRun

PATH = click.Path(path_type=Path)
OBJECTS = 20_000
"""New objects after which cycles are looked for: those of a twin's files live as long as it does."""


class TwinGroup(click.Group):
    """``ctl`` is a command; whatever else comes first belongs to ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say ``run`` where nobody does, but for what is a slip of ``ctl`` or ``run`` and no machine."""
        first = args[0] if args else ""
        meant = None if first in self.commands or first.startswith("-") else slip_of(first, self.commands)
        if meant is not None and not Path(first).exists() and (len(args) < 2 or args[1] != "--"):
            raise click.UsageError(f"No such command {first!r}. Did you mean {meant!r}?", ctx)
        told = args[:1] in ([], ["ctl"], ["run"], ["-h"], ["--help"])
        return super().parse_args(ctx, args if told else ["run", *args])


@click.group(cls=TwinGroup, invoke_without_command=True)
@click.pass_context
def twin(ctx: click.Context) -> None:
    """Run unmodified tools on a rehearsed machine: memhp twin [OPTIONS] MACHINE -- COMMAND...

    The options are those of memhp twin run, which may be left out; ctl changes a twin that runs.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@twin.command(context_settings={"allow_interspersed_args": False})
@click.argument("machine", shell_complete=offered.PRESETS)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--step", help="Which moment of a capture to start from.")
@click.option("--speed", type=FiniteRange(0, 1e9), default=1.0, show_default=True, metavar="FACTOR",
              help="Machine time by time outside; 0: it stands still.")  # fmt: skip
@click.option("--exact", is_flag=True, help="Have each open and read heard, as for --record, --expect, --ctl.")
@click.option("--mount", type=PATH, metavar="DIR", help="Without a COMMAND: where to mount the files.")
@click.option("--files", type=PATH, metavar="DIR", help="Where plain files are to be, where there is no FUSE.")
@click.option("--ctl", "control", type=PATH, metavar="SOCKET", help="Where memhp twin ctl asks.")
@click.option("--qmp", type=PATH, metavar="SOCKET", help="Where QEMU's monitor is.")
@click.option("--qga", type=PATH, metavar="SOCKET", help="Where the guest agent is.")
@click.option("--slots", type=click.IntRange(1, 256), default=16, show_default=True, help="QEMU's slots for DIMMs.")
@click.option("--maxmem", metavar="SIZE", help="QEMU's most memory.  [default: 64G more than the machine has]")
@click.option("--uevents", type=PATH, metavar="FILE", help="A file or pipe for events of devices.")
@click.option("--script", type=PATH, metavar="FILE", help="What happens meanwhile: tables [[twin]] in TOML.")
@click.option("--expect", type=PATH, metavar="FILE", help="What the run is to have been like, in TOML.")
@output_option("--record", metavar="FILE", help="Write what was read, written and done: .json, .html or text.")
def run(
    machine: str,
    command: tuple[str, ...],
    step: str | None,
    speed: float,
    exact: bool,
    mount: Path | None,
    files: Path | None,
    control: Path | None,
    qmp: Path | None,
    qga: Path | None,
    slots: int,
    maxmem: str | None,
    uevents: Path | None,
    script: Path | None,
    expect: Path | None,
    record: Path | None,
) -> int:
    """Run COMMAND with the memory files of MACHINE: a scenario, a preset's name, a capture or a sysroot.

    The steps of a scenario are carried out before. The exit code is the command's; 1 where all is well with that and
    the run was not as expected.
    """
    from memhp.outputs.check import check_outputs
    from memhp.twin.boot import boot, scenario_of
    from memhp.twin.expectations import Expectation, load_expectation
    from memhp.twin.run import Wanted
    from memhp.twin.run import run as run_twin
    from memhp.twin.script import load_script
    from memhp.units import parse_size

    words = command[1:] if command[:1] == ("--",) else command
    if command[:1] != ("--",) and words and words[0].startswith("-"):
        raise click.UsageError(f"{words[0]} stands behind MACHINE, where COMMAND begins: options come before MACHINE")
    if words and mount is not None:
        raise click.UsageError("--mount is for twins without a COMMAND, which has the files where Linux has them")
    if not words and not (mount or files or control or qmp or qga):
        raise click.UsageError("give a COMMAND to run, or --mount DIR, or a socket")
    scenario = scenario_of(machine, step)
    source = scenario.machine.source
    read = [Path(machine), None if source is None else Path(source), script, expect]
    check_outputs({"--record": record, "--uevents": uevents}, inputs=read)
    wanted = Wanted(
        command=words,
        environment=os.environ,
        mount=mount,
        plain=files,
        control=control,
        qmp=qmp,
        qga=qga,
        slots=slots,
        max_memory=parse_size(maxmem, where="--maxmem") if maxmem is not None else 0,
        uevents=uevents,
        cues=load_script(script) if script is not None else [],
        expectation=load_expectation(expect) if expect is not None else Expectation(),
        heard=exact or record is not None or expect is not None,
    )
    gc.set_threshold(OBJECTS)
    done = run_twin(boot(machine, speed=speed, scenario=scenario), wanted)
    if record is not None:
        write_record(done, record)
    for text in done.unmet:
        click.echo(f"memhp: not as expected: {printable(text)}", err=True)
    if done.dead:
        click.echo(f"memhp: the machine died: {printable(done.dead)}", err=True)
    return done.exit_code or (0 if done.fine else 1)


def write_record(done: "TwinRun", path: Path) -> None:
    """Write a record in the form that its name says."""
    from memhp.cli.output import json_bytes
    from memhp.outputs.file import write_file

    if path.suffix == ".json":
        from memhp.report.documents import twin_document

        write_file(path, json_bytes(twin_document(done)).decode())
    elif path.suffix in (".html", ".htm"):
        from memhp.report.twin import write_twin_page

        write_twin_page(done, path)
    else:
        from memhp.report.twin import twin_text

        write_file(path, twin_text(done))


@twin.command()
@click.argument("control", type=PATH, metavar="SOCKET")
@click.argument("what", metavar="WHAT")
@click.argument("keys", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
def ctl(control: Path, what: str, keys: tuple[str, ...], as_json: bool) -> int:
    """Ask a twin that runs for WHAT: a step of a scenario, trouble, speed, or status.

    Steps and their keys are those of scenarios: plug size=1G, wait seconds=5, pin tag=a. Trouble: refuse blocks=[40]
    errno=EAGAIN, slow seconds=2, lose-uevents, clear. The exit code is 1 where the kernel refuses.
    """
    from memhp.twin.control import ask

    asked: dict[str, Any] = {"do": what}
    for word in keys:
        key, equals, text = word.partition("=")
        if not equals:
            raise BadInput(f"{word!r} is no KEY=VALUE", where="KEY=VALUE")
        if key in asked:
            raise BadInput("is there twice", where=key, fix="write it once" if key != "do" else "WHAT says it")
        asked[key] = value_of(text)
    found = ask(control, asked)
    if as_json:
        emit_json(found)
    else:
        out = console()
        out.print(" ".join(filter(None, (found.result, found.reason, f"({found.place})" if found.place else ""))))
        for line in found.notes:
            out.print(line)
        if what == "status":
            out.print(f"{found.time / 1e9:.6f} s of machine time, speed {found.speed:g}, {found.entries} entries")
    return 0 if found.result == "ok" else 1


def value_of(text: str) -> object:
    """A value as TOML has it; anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
