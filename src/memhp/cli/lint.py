"""``memhp lint``: what is wrong with how a machine is set up for memory hotplug."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

import click

from memhp.cli.machine_options import machine_options, opened
from memhp.cli.output import emit_json, json_option


@click.command()
@machine_options
@click.option("--sarif", is_flag=True, help="Print SARIF 2.1.0.")
@json_option
def lint(sysroot: str | None, machine: str | None, sarif: bool, as_json: bool) -> int:
    """Tell who brings memory online on a machine, and which settings fight, have no effect or strand memory.

    Exit code 0: nothing worse than a note; 1: something is.
    """
    from memhp.operate.lint import lint as look
    from memhp.operate.lint_report import sarif as as_sarif
    from memhp.operate.lint_report import text_of

    if sarif and as_json:
        raise click.UsageError("give --json or --sarif, not both")
    document = look(opened(sysroot, machine))
    if as_json:
        emit_json(document)
    elif sarif:
        emit_json(as_sarif(document))
    else:
        sys.stdout.write(text_of(document))
    return 0 if document.verdict == "clean" else 1
