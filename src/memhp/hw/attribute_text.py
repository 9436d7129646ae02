"""Words for attribute bits: what a leaf of a page table allows, said in a few letters."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from typing import NamedTuple


class Word(NamedTuple):
    """One word of the text: what each value of the bits `mask` is called; a value without a name makes no word.

    `glued` words follow the one before without a space. `large` words are there only above height 0, `small` ones only
    at height 0.
    """

    mask: int
    names: Mapping[int, str]
    glued: bool = False
    large: bool = False
    small: bool = False

    def is_at(self, height: int) -> bool:
        """Whether the bits mean this at a height."""
        return not (self.small if height else self.large)


def flag(
    mask: int, name: str, otherwise: str = "", *, glued: bool = False, large: bool = False, small: bool = False
) -> Word:
    """A single bit: its name where set, and perhaps another where clear."""
    return Word(mask, {mask: name} | ({0: otherwise} if otherwise else {}), glued, large, small)
