"""What an entry's attribute bits say, in a few words: ``RW PSE GLB NX``, ``DAG..WR``, ``RW NX UXN AF attr1 DBM``.

The words are a table of each format. They leave out what tells nothing about a kernel mapping (software bits,
x86's accessed and dirty bits); :func:`text_bits` are the bits that they do show, by which ranges can be told apart.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import Format, sum_bits


def text_bits(fmt: Format) -> tuple[int, ...]:
    """By height: the bits of a leaf that its text shows."""
    return tuple(sum_bits(word.mask for word in fmt.words if word.is_at(height)) for height in range(len(fmt.levels)))


def attribute_text(fmt: Format, entry: int, height: int) -> str:
    """The attributes of a leaf at `height` in words."""
    text = ""
    for word in fmt.words:
        name = word.names.get(entry & word.mask)
        if name is not None and word.is_at(height):
            text += name if word.glued or not text else f" {name}"
    return text
