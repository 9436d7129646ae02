"""What copies of a machine have in common: objects that never change once they are made."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Self


class Unchanging:
    """An object that stays as it was made: copies of what leads to it lead to the same one."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
