"""Options that would change nothing where they are given: refused, not swallowed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click
from click.core import ParameterSource


def given_options() -> set[str]:
    """The options that the user wrote, each by its long name, with whatever value."""
    ctx = click.get_current_context()
    source = ctx.get_parameter_source
    written = [each for each in ctx.command.params if source(each.name or "") is ParameterSource.COMMANDLINE]
    return {name for each in written for name in each.opts}


def refuse_idle(*rows: tuple[str, bool, str]) -> None:
    """Raise :class:`click.UsageError` for an option that was given for nothing.

    A row is a few options, whether there is what they are about, and what to say of one if there is not.
    """
    given = given_options()
    for options, about_something, complaint in rows:
        for option in options.split():
            if option in given and not about_something:
                raise click.UsageError(f"{option} {complaint}")
