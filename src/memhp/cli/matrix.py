"""``memhp matrix``: the whole life cycle of hotplugged memory on every configuration, with every law."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli.configurations import choice_option, choosing, chosen_configs, configuration_options, told_choices
from memhp.cli.output import console, emit_json, json_option, progress


@click.command()
@configuration_options
@choice_option
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes; by default one for each CPU.")
@json_option
def matrix(
    arches: tuple[str, ...],
    profiles: tuple[str, ...],
    page_size: str | None,
    va_bits: int | None,
    chosen_texts: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
) -> int:
    """Add, online, offline and remove memory on every configuration, and check every law after every step.

    Exit code 1 when a step or a law was not as it should be anywhere, but for the faults that are known of kernels as
    posted; when one of these does not show, too.
    """
    from memhp.report.matrix import print_matrix
    from memhp.target.model.matrix import matrix as rows_of

    told = told_choices(chosen_texts)
    chosen = choosing(chosen_configs(arches, profiles, page_size, va_bits), told)
    rows = []
    with progress() as bar:
        task = bar.add_task("configurations", total=len(chosen))
        for row in rows_of(chosen, workers=jobs):
            rows.append(row)
            bar.advance(task)
    fine = all(row.as_known for row in rows)
    if as_json:
        from memhp.report.documents import MatrixDocument, expected

        emit_json(MatrixDocument(verdict=expected(fine), rows=rows, choices=told))
    else:
        print_matrix(console(), rows, told)
    return 0 if fine else 1
