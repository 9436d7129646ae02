"""What an entry's attribute bits say, in a few words: ``RW PSE GLB NX``, ``DAG..WR``, ``RW NX UXN AF attr1 DBM``.

The words are a table for each architecture. They leave out what tells nothing about a kernel mapping (software bits,
x86's accessed and dirty bits); :func:`text_bits` are the bits that they do show, by which ranges can be told apart.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from typing import NamedTuple

from memhp.hw import arm64, riscv, x86
from memhp.hw.format import Format, sum_bits


class Word(NamedTuple):
    """One word of the text: what each value of the bits `mask` is called; a value without a name makes no word.

    `glued` words follow the one before without a space. `large` words are there only above height 0.
    """

    mask: int
    names: Mapping[int, str]
    glued: bool = False
    large: bool = False


def _flag(mask: int, name: str, otherwise: str = "", *, glued: bool = False, large: bool = False) -> Word:
    """A single bit: its name where set, and perhaps another where clear."""
    return Word(mask, {mask: name} | ({0: otherwise} if otherwise else {}), glued, large)


WORDS: dict[str, tuple[Word, ...]] = {
    "x86_64": (
        _flag(x86.RW, "RW", "ro"),
        _flag(x86.US, "USR"),
        _flag(x86.PWT, "PWT"),
        _flag(x86.PCD, "PCD"),
        _flag(x86.PS, "PSE", large=True),
        _flag(x86.G, "GLB"),
        _flag(x86.XD, "NX", "x"),
    ),
    "arm64": (
        _flag(arm64.AP_RDONLY, "ro", "RW"),
        _flag(arm64.AP_USER, "USR"),
        _flag(arm64.PXN, "NX", "x"),
        _flag(arm64.CONTIGUOUS, "CON"),
        _flag(arm64.UXN, "UXN"),
        _flag(arm64.GP, "GP"),
        _flag(arm64.AF, "AF"),
        _flag(arm64.NG, "NG"),
        Word(arm64.ATTRINDX, {index << 2: f"attr{index}" for index in range(8)}),
        _flag(arm64.DBM, "DBM"),
    ),
    "riscv64": (
        _flag(riscv.D, "D", "."),
        _flag(riscv.A, "A", ".", glued=True),
        _flag(riscv.G, "G", ".", glued=True),
        _flag(riscv.U, "U", ".", glued=True),
        _flag(riscv.X, "X", ".", glued=True),
        _flag(riscv.W, "W", ".", glued=True),
        _flag(riscv.R, "R", ".", glued=True),
        _flag(riscv.N, "NAPOT"),
        Word(riscv.PBMT, {value << 61: f"PBMT{value}" for value in (1, 2, 3)}),
    ),
}


def text_bits(fmt: Format) -> tuple[int, ...]:
    """By height: the bits of a leaf that its text shows."""
    return tuple(
        sum_bits(word.mask for word in WORDS[fmt.arch] if height or not word.large) for height in range(len(fmt.levels))
    )


def attribute_text(fmt: Format, entry: int, height: int) -> str:
    """The attributes of a leaf at `height` in words."""
    text = ""
    for word in WORDS[fmt.arch]:
        name = word.names.get(entry & word.mask)
        if name is not None and (height or not word.large):
            text += name if word.glued or not text else f" {name}"
    return text
