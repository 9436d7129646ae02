"""``memhp matrix``: the whole life cycle of hotplugged memory on every configuration, with every law."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli.output import console, emit_json, json_option, progress
from memhp.errors import BadInput
from memhp.units import parse_size


@click.command()
@click.option(
    "--arch", "arches", multiple=True, type=click.Choice(["riscv64", "arm64", "x86_64"]), help="Only this one."
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Only this kernel, such as linux-6.12.")
@click.option("--page-size", metavar="SIZE", help="Only this page size: 4K, 16K or 64K.")
@click.option("--va-bits", type=int, metavar="BITS", help="Only this width of virtual addresses.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Processes; by default one for each CPU.")
@json_option
def matrix(
    arches: tuple[str, ...],
    profiles: tuple[str, ...],
    page_size: str | None,
    va_bits: int | None,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Add, online, offline and remove memory on every configuration, and check every law after every step.

    Exit code 1 when a step or a law was not as it should be anywhere, but for the faults that are known of kernels as
    posted; when one of these does not show, too.
    """
    from memhp.linux.config import configs
    from memhp.linux.profiles import PROFILES, profile
    from memhp.report.matrix import print_matrix
    from memhp.scenario.matrix import matrix as rows_of

    wanted = [profile(name, where="--profile") for name in profiles] or list(PROFILES.values())
    size = None if page_size is None else parse_size(page_size, where="--page-size")
    chosen = [
        config
        for each in wanted
        for config in configs(each)
        if (not arches or config.arch in arches)
        and size in {None, config.page_size}
        and va_bits in {None, config.va_bits}
    ]
    if not chosen:
        raise BadInput("no configuration is left by these options", fix="memhp geometry lists all there are")
    rows = []
    with progress() as bar:
        task = bar.add_task("configurations", total=len(chosen))
        for row in rows_of(chosen, workers=jobs):
            rows.append(row)
            bar.advance(task)
    if as_json:
        emit_json({"rows": rows})
    else:
        print_matrix(console(), rows)
    return 0 if all(row.as_known for row in rows) else 1
