"""Order among kernel releases: numbers as numbers, so that 6.12.117 comes after 6.12.99."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable


def version_key(release: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts releases; ``~`` comes before the end, as in Debian's versions (``deb-version(7)``)."""
    parts = re.findall(r"\d+|[^\d]+", release)
    keys = [(2, int(part), "") if part.isdecimal() else (0 if part[0] == "~" else 3, 0, part) for part in parts]
    return (*keys, (1, 0, ""))


def newest(releases: Iterable[str]) -> str:
    """The newest of some releases, of which there is at least one."""
    return max(releases, key=version_key)
