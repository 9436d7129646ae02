"""The table of fixes, and what of it a kernel lacks."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims.fix import Fix, FixRow, row_of
from memhp.claims.fix_table import HOTPLUG
from memhp.claims.fix_table_drivers import ARCHITECTURES, DRIVERS
from memhp.claims.fix_table_lists import LISTED_ARCHITECTURES, LISTED_DRIVERS, LISTED_GENERIC
from memhp.claims.fix_table_old import OLD_HOTPLUG
from memhp.errors import BadInput
from memhp.linux.release import FIRST, LAST, known_release, parse_release

FIXES: tuple[Fix, ...] = (
    *OLD_HOTPLUG,
    *HOTPLUG,
    *LISTED_GENERIC,
    *DRIVERS,
    *LISTED_DRIVERS,
    *ARCHITECTURES,
    *LISTED_ARCHITECTURES,
)
"""Every fix, by subject."""


def fix_rows(kernel: str | None = None) -> list[FixRow]:
    """All fixes, or those that a kernel lacks and that can be met.

    Raises :class:`BadInput` for a kernel that the tables do not know.
    """
    if kernel is None:
        return [row_of(fix) for fix in FIXES]
    release = parse_release(kernel)
    if release is None or not known_release(release):
        raise BadInput(
            f"no kernel {kernel!r}", where="--kernel", fix=f"a release from {FIRST} to {LAST}, such as 6.1.100"
        )
    found = [(fix, fix.lacking(release)) for fix in FIXES if fix.status != "not reachable"]
    return [row_of(fix, lack) for fix, lack in found if lack is not None]
