"""``memhp schema``: the JSON Schemas of what ``--json`` prints."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli import offered
from memhp.cli.output import emit_json
from memhp.errors import BadInput, one_of


@click.command()
@click.argument("command", nargs=-1, shell_complete=offered.DOCUMENTS)
@click.option("--hex", "hexadecimal", is_flag=True, help="Of --json=hex, where large integers are text.")
def schema(command: tuple[str, ...], hexadecimal: bool) -> int:
    """Print the JSON Schema of a COMMAND's --json; without one, those of all commands by name."""
    from memhp.report.documents import DOCUMENTS, json_schema

    name = " ".join(command)
    if not name:
        emit_json({name: json_schema(name, hexadecimal=hexadecimal) for name in DOCUMENTS})
        return 0
    if name not in DOCUMENTS:
        raise BadInput(f"no schema for {name!r}", where="COMMAND", fix=one_of(name, DOCUMENTS))
    emit_json(json_schema(name, hexadecimal=hexadecimal))
    return 0
