"""What sort a value is, as far as announcing accesses to it goes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import is_dataclass
from enum import Enum
from types import FunctionType, MethodType

from memhp.explore.doors.user_code import is_users_class

AS_IT_IS = (type(None), Enum, FunctionType, MethodType, type)
"""What kernel state may lead to, and nobody changes
(:meth:`memhp.explore.doors.common.Common.must_be_as_they_were`)."""
NUMBERS_AND_TEXTS = (int, str, bytes, float)
AT_ONCE = frozenset((*NUMBERS_AND_TEXTS, bool, type(None)))
"""Nearly all values are of one of these."""


def is_plain(value: object) -> bool:
    """Whether neither a value can change nor what it holds. An object of a class of the user's has attributes, whatever
    that is a kind of.
    """
    if type(value) in AT_ONCE or isinstance(value, AS_IT_IS):
        return True
    if isinstance(value, BaseException):
        return not is_users_class(type(value))
    if isinstance(value, tuple | frozenset):
        return not hasattr(value, "__dict__") and all(map(is_plain, value))
    return isinstance(value, NUMBERS_AND_TEXTS) and not hasattr(value, "__dict__")


def is_record(value: object) -> bool:
    """Whether an object has fields, each under its name."""
    return is_dataclass(value) and hasattr(value, "__dict__")
