"""What is called back later, by nobody who could say whose it was: looked at when it is given."""
# SPDX-License-Identifier: GPL-2.0-or-later

from types import FunctionType


def must_take_nothing(callback: object, taker: str) -> None:
    """TypeError: what `taker` is given is no function, or wants arguments.

    What methods and other objects want is found out only when they are called.
    """
    if not callable(callback):
        raise TypeError(f"{taker} wants a function of no arguments, not {type(callback).__name__}")
    if isinstance(callback, FunctionType):
        code, by_name = callback.__code__, callback.__kwdefaults__ or {}
        wanted = code.co_argcount - len(callback.__defaults__ or ()) + code.co_kwonlyargcount - len(by_name)
        if wanted:
            raise TypeError(f"{taker} wants a function of no arguments, and {callback.__qualname__}() wants {wanted}")
