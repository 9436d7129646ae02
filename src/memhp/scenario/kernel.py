"""Which kernel a machine has, by the release that it tells."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.linux.profiles import PROFILES, Profile, profile
from memhp.linux.release import LAST, Release, known_release, parse_release, series


def profile_of(release: str | None, where: str) -> Profile:
    """The kernel of a release, or the newest that is known if it is newer or nobody tells.

    Raises :class:`BadInput` for a kernel older than all of them, and for what is no release.
    """
    found = parse_release(release) if release is not None else Release(*series(LAST))
    if found is not None and found.series > series(LAST):
        found = Release(*series(LAST))
    if found is None or not known_release(found):
        what = "is older than any that is modelled" if found is not None else "is no release of Linux"
        raise BadInput(
            f"kernel {release} {what}",
            where=f"{where}: machine.profile",
            fix=f"say which is to stand in for it: one of {', '.join(PROFILES)}",
        )
    return profile(str(found))
