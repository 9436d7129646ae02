"""What stands in for functions of the kernel while a patch is tried out; told with errors that come up meanwhile."""
# SPDX-License-Identifier: GPL-2.0-or-later

from types import CodeType


class StandIns:
    """The functions of the patch that is in place."""

    ran: str = ""
    """Where the one is that began or ended last, ``FILE:LINE: name``, the first one before any did; "" without one."""
    codes: frozenset[CodeType] = frozenset()
    """What they do."""
