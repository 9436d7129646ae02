"""``memhp twin``: unmodified tools on a rehearsed machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os

import click


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("machine")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--step", help="Which moment of a capture to start from.")
@click.option(
    "--speed",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Machine time by time outside; 0: it stands still.",
)
def twin(machine: str, command: tuple[str, ...], step: str | None, speed: float) -> int:
    """Run COMMAND with the memory files of MACHINE: a scenario, a preset's name, a capture or a sysroot.

    The steps of a scenario are carried out before.
    """
    from memhp.twin.boot import boot
    from memhp.twin.loop import Loop
    from memhp.twin.run import run_command

    words = command[1:] if command[:1] == ("--",) else command
    made, cmdline = boot(machine, step=step, speed=speed)
    return run_command(made, Loop(made), words, os.environ, cmdline)
