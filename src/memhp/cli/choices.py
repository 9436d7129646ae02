"""``memhp choices``: the decisions in which kernels differ, and which kernel made which since when."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli import offered
from memhp.cli.configurations import arch_option
from memhp.cli.output import console, emit_json, json_option


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=offered.CHOICES)
@arch_option
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Only this kernel, such as 6.6, or 6.1.148.")
@json_option
def choices(names: tuple[str, ...], arches: tuple[str, ...], profiles: tuple[str, ...], as_json: bool) -> int:
    """List the choices in which kernels differ, or tell what NAME means, its values, and who has which since when.

    A scenario changes one with `choices = { NAME = VALUE }`; rehearse, matrix and explore with --choice NAME=VALUE.
    """
    from memhp.linux.choice_table import choice_rows
    from memhp.linux.profiles import profile
    from memhp.report.choices import print_choice, print_choices

    kernels = [profile(name, where="--profile") for name in profiles]
    rows = choice_rows(names, arches, kernels)
    if as_json:
        from memhp.report.documents import ChoicesDocument

        emit_json(ChoicesDocument(choices=rows))
    else:
        (print_choice if names else print_choices)(console(), rows)
    return 0
