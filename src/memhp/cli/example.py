"""``memhp example``: the scenarios that come with the package, listed, printed or copied."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import click

from memhp.cli import offered
from memhp.cli.output import console, emit_json, json_option
from memhp.errors import BadInput, one_of


@click.command()
@click.argument("name", required=False, shell_complete=offered.EXAMPLES)
@click.option("--copy", "target", type=click.Path(path_type=Path), metavar="FILE", help="Write it to this new file.")
@json_option
def example(name: str | None, target: Path | None, as_json: bool) -> int:
    """Print the example NAME; without NAME list them all.

    memhp rehearse takes an example's name, as examples/NAME.toml, wherever there is no such file.
    """
    from memhp.scenario.examples import example as find
    from memhp.scenario.examples import examples, title

    if name is None:
        if target is not None:
            raise click.UsageError("--copy goes with the name of an example; memhp example lists them")
        if as_json:
            from memhp.report.documents import ExampleDocument, ExampleRow

            rows = [ExampleRow(name=path.stem, title=title(path)) for path in examples()]
            emit_json(ExampleDocument(examples=rows))
        else:
            from memhp.report.table import Column, print_table

            columns = (Column("example"), Column("what it shows", fold=True))
            print_table(console(), columns, [(path.stem, title(path)) for path in examples()])
        return 0
    found = find(name)
    if found is None:
        names = [path.stem for path in examples()]
        raise BadInput(f"there is no example {name!r}", where="NAME", fix=one_of(name, names))
    text = found.read_text(encoding="utf-8")
    if target is not None:
        from memhp.outputs.exclusive_create import write_new

        write_new(target, text)
    elif as_json:
        from memhp.report.documents import ExampleDocument, ExampleRow

        emit_json(ExampleDocument(examples=[ExampleRow(name=found.stem, title=title(found))], text=text))
    else:
        click.echo(text, nl=False)
    return 0
