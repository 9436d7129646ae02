"""``memhp claims``: every claim and question of the source documents with its verdict, computed now."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli.output import console, emit_json, json_option, progress
from memhp.errors import BadInput


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@json_option
def claims(ids: tuple[str, ...], as_json: bool) -> int:
    """Decide every claim, or those with the given IDs (such as rv-3 or a64-2).

    Exit code 1 when a claim is refuted.
    """
    from memhp.claims.claim import decide
    from memhp.claims.table import CLAIMS
    from memhp.report.claims import print_claims

    known = {claim.id: claim for claim in CLAIMS}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise BadInput(f"no claim {unknown[0]!r}", where="ID", fix=f"one of {', '.join(known)}")
    chosen = [claim for claim in CLAIMS if not ids or claim.id in ids]
    rows = []
    with progress() as bar:
        task = bar.add_task("claims", total=len(chosen))
        for claim in chosen:
            bar.update(task, description=claim.id)
            rows.append(decide(claim))
            bar.advance(task)
    refuted = any(row.verdict == "refuted" for row in rows)
    if as_json:
        from memhp.report.documents import ClaimsDocument

        emit_json(ClaimsDocument(verdict="refuted" if refuted else "upheld", claims=rows))
    else:
        print_claims(console(), rows)
    return 1 if refuted else 0
