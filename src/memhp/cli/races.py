"""``memhp races``: every race of memory hotplug decided, each variant on every configuration."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli import offered
from memhp.cli.configurations import arch_option, page_size_bytes, page_size_option
from memhp.cli.output import console, emit_json, json_option, progress
from memhp.errors import BadInput


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=offered.RACES)
@click.option(
    "--variant", "variants", multiple=True, metavar="NAME", shell_complete=offered.VARIANTS, help="Only this variant."
)
@arch_option
@page_size_option
@click.option("--release", "releases", multiple=True, metavar="NAME", help="Only this kernel, such as linux-6.12.")
@click.option("--full", is_flag=True, help="A line for each configuration.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes; by default one for each CPU.")
@click.option("--cluster", metavar="ADDRESS", help="Run on the Dask cluster whose scheduler is at this address.")
@json_option
def races(
    names: tuple[str, ...],
    variants: tuple[str, ...],
    arches: tuple[str, ...],
    page_size: str | None,
    releases: tuple[str, ...],
    full: bool,
    jobs: int | None,
    cluster: str | None,
    as_json: bool,
) -> int:
    """Decide every race, or those named: safe, broken or undecided, over every interleaving.

    Exit code 1 when a verdict is not what the variant is known as and nothing explains it, or is undecided.
    """
    from memhp.explore.cases import CASES, case
    from memhp.explore.parallel import Job, run_jobs
    from memhp.explore.row import row_of
    from memhp.report.races import print_races, shows_reason

    size = page_size_bytes(page_size)
    chosen = [
        Job(one.name, variant.name, where.name)
        for one in ([case(name) for name in names] or CASES)
        for variant in one.variants
        if not variants or variant.name in variants
        for where in variant.configurations
        if (not arches or where.arch in arches)
        and size in {None, where.page_size}
        and (not releases or where.release in releases)
    ]
    if not chosen:
        raise BadInput("no race is left by these options", fix="memhp races --full lists all there are")
    with progress() as bar:
        task = bar.add_task("races", total=len(chosen))
        verdicts = run_jobs(
            chosen,
            jobs,
            cluster,
            lambda done, _: bar.update(task, completed=done),
            told=lambda number, said: as_json or shows_reason(row_of(chosen[number], said)),
        )
    rows = list(map(row_of, chosen, verdicts))
    fine = all(row.as_known for row in rows)
    if as_json:
        from memhp.report.documents import RacesDocument, expected

        emit_json(RacesDocument(verdict=expected(fine), rows=rows))
    else:
        print_races(console(), rows, full=full)
    return 0 if fine else 1
