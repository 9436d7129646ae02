"""Counters that some change and others compare with marks: who meets whom depends on the counter's value.

A reader that asks whether a counter is at a mark or above it meets only changes that go past the mark. A change meets
every other change, so in what order changes happen is explored whole; within one order of changes what each goes past
is settled, and swapping a reader with a change that does not go past its mark alters neither. That is a *conditional*
independence (Katz and Peled, "Defining conditional independence using collapses", 1992); ``bench/soundness.py`` and the
tests hold it against searches that try every schedule.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Sequence

from memhp.explore.engine.op import ALONE, SHARED

Touches = tuple[tuple[Hashable, int], ...]

MOST_RANGES = 16
"""How many ranges of one size a change is said to go past, rather than fewer of the next size."""


def read_touches(name: Hashable, mark: int | None, sizes: Sequence[int]) -> Touches:
    """What a reader touches that compares with `mark`, or takes the value itself (None).

    Marks are told apart by the ranges that they lie in; `sizes` are the ranges' sizes, as bits, ascending.
    """
    if mark is None:
        return ((("level", name), SHARED),)
    return tuple((("level", name, bits, mark >> bits), SHARED) for bits in sizes)


def change_touches(name: Hashable, now: int, by: int, sizes: Sequence[int]) -> Touches:
    """What a change touches where the counter is at `now`: the fewest ranges that hold all that it goes past."""
    low, high = sorted((now, now + by))
    bits = next(bits for bits in sizes if ((high >> bits) - (low + 1 >> bits) < MOST_RANGES) or bits == sizes[-1])
    marks = range(low + 1 >> bits, (high >> bits) + 1) if by else ()
    return ((("level", name), ALONE), *((("level", name, bits, at), ALONE) for at in marks))
