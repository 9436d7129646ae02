"""What sort a value is, as far as announcing accesses to it goes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import is_dataclass

from memhp.explore.doors.names import IMMUTABLE


def is_plain(value: object) -> bool:
    """Whether neither a value can change nor what it holds."""
    if isinstance(value, tuple | frozenset):
        return all(map(is_plain, value))
    return isinstance(value, IMMUTABLE)


def is_record(value: object) -> bool:
    """Whether an object has fields, each under its name."""
    return is_dataclass(value) and hasattr(value, "__dict__")
