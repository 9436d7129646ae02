"""``memhp fixes``: what was mended in memory hotplug, which kernel lacks what, and what goes wrong without it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click

from memhp.cli.output import console, emit_json, json_option


@click.command()
@click.option("--kernel", metavar="RELEASE", help="Only what this kernel lacks and a user can meet, such as 6.1.100.")
@json_option
def fixes(kernel: str | None, as_json: bool) -> int:
    """List fixes of memory hotplug since 2019: title, first release, stable releases, and what goes wrong without.

    A fix is `shown` where a rehearsal or a race is broken before it and right after; else it is said why not.
    """
    from memhp.claims.fixes import fix_rows
    from memhp.linux.release import left_open
    from memhp.report.fixes import print_fixes

    rows = fix_rows(kernel)
    unsaid = left_open(kernel or "")
    if as_json:
        from memhp.report.documents import FixesDocument

        emit_json(FixesDocument(kernel=kernel, left_open=unsaid, fixes=rows))
    else:
        print_fixes(console(), rows, kernel, unsaid)
    return 0
