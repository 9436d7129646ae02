"""Profile choices by name, so that a scenario can ask what a kernel with one decision changed would do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

from memhp.errors import BadInput
from memhp.linux.choices import Arch, Profile


def with_choices(profile: Profile, arch: Arch, wanted: Mapping[str, object], *, where: str) -> Profile:
    """A profile with some choices changed: the architecture's own, or those that all share.

    Raises :class:`BadInput`, with `where` before the name of the choice, for one that there is not, or a value that it
    cannot have.
    """
    profile.arch(arch)
    try:
        return profile.choosing(arch, wanted)
    except BadInput as error:
        raise BadInput(error.message, where=f"{where}.{error.where}", fix=error.fix) from None
