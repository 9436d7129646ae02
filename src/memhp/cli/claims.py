"""``memhp claims``: every claim and question of the source documents with its verdict, computed now."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import click

from memhp.cli import offered
from memhp.cli.output import console, emit_json, json_option, output_option, progress
from memhp.errors import BadInput, one_of


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=offered.CLAIMS)
@output_option("--html", help="Write a self-contained page.")
@json_option
def claims(ids: tuple[str, ...], html: Path | None, as_json: bool) -> int:
    """Decide every claim, or those with the given IDs (such as rv-3 or a64-2).

    Exit code 1 when a verdict is another than it is known to be.
    """
    from memhp.claims.parallel import decided
    from memhp.claims.table import CLAIMS
    from memhp.outputs.check import check_outputs
    from memhp.report.claims import print_claims

    known = {claim.id: claim for claim in CLAIMS}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise BadInput(f"no claim {unknown[0]!r}", where="ID", fix=one_of(unknown[0], known))
    on_stdout = check_outputs({"--html": html}, inputs=[], stdout="--json" if as_json else "")
    chosen = [claim for claim in CLAIMS if not ids or claim.id in ids]
    rows = []
    with progress() as bar:
        task = bar.add_task("claims", total=len(chosen))
        for row in decided(chosen):
            bar.update(task, description=row.id)
            rows.append(row)
            bar.advance(task)
    fine = all(row.as_known for row in rows)
    if html is not None:
        from memhp.report.claims_page import write_claims_page

        write_claims_page(rows, html)
    if as_json:
        from memhp.report.documents import ClaimsDocument, expected

        emit_json(ClaimsDocument(verdict=expected(fine), claims=rows))
    else:
        print_claims(console(stderr=on_stdout), rows)
    return 0 if fine else 1
