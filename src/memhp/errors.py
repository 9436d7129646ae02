"""What can go wrong, one class a kind: bad input, a kernel error, a broken promise of the kernel, a panic."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno as _errno
import re
from collections.abc import Iterable, Sequence
from functools import partial

ERRNO_NAMES = {**_errno.errorcode, 133: "EHWPOISON"}
"""Symbols by number, with the one that Python knows from 3.14 on."""


class MemhpError(Exception):
    """The root of every error that this package raises on purpose."""


class Interrupted(KeyboardInterrupt):
    """The user, or somebody else, wants the run to end."""


class BadInput(MemhpError):
    """The user's input cannot be used. Printed as one line; the command ends with exit code 2.

    `where` names the file and key (``grow.toml: steps[2].size``), `fix` what to write instead.
    """

    def __init__(self, message: str, *, where: str = "", fix: str = "") -> None:
        self.message = message
        self.where = where
        self.fix = fix
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.fix})" if self.fix else text


MOST_OPTIONS = 16
"""So many names are listed whole where one of them is wanted and others share a word with what was given."""


def slip_of(got: str, options: Iterable[str]) -> str | None:
    """The option that `got` is a slip of the pen for; None where it is like none of them."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(got[:200], list(options), n=1, cutoff=0.7)), None)


def one_of(got: str, options: Iterable[str]) -> str:
    """What to write instead of `got`: the option that it is a slip of, else all there are.

    Of very many, those that share a word with it, else those with a word that it has a slip of, if there are any.
    """
    known = list(options)
    near = slip_of(got, known)
    if near is not None:
        return f"did you mean {near}?"
    alike = _alike(got, known) if len(known) > MOST_OPTIONS else []
    if alike:
        return f"such as {', '.join(alike[:MOST_OPTIONS])}; there are {len(known)}"
    return f"one of {', '.join(known)}"


def _alike(got: str, known: Sequence[str]) -> list[str]:
    words = _words(got)
    sharing = [each for each in known if words & _words(each)]
    return sharing or [each for each in known if any(slip_of(word, _words(each)) for word in words)]


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z0-9]+", name[:200].lower()) if len(word) > 1}


class KernelError(MemhpError):
    """A kernel function returned an errno.

    `errno` is positive, `reason` the kernel's own words where it has some, `place` is ``file:function`` in
    the kernel's tree and `advice` what the user can do about it.
    """

    def __init__(self, errno: int, reason: str, *, place: str, advice: str = "") -> None:
        self.errno = errno
        self.reason = reason
        self.place = place
        self.advice = advice
        super().__init__(f"{self.name}: {reason} ({place})")

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """How it is copied, with a machine whose driver remembers it for instance."""
        return partial(type(self), self.errno, self.reason, place=self.place, advice=self.advice), ()

    @property
    def name(self) -> str:
        """The symbol of the errno, as in ``EBUSY``."""
        return ERRNO_NAMES.get(self.errno, str(self.errno))


class KernelBug(MemhpError):
    """The kernel would hit ``BUG()``, oops or corrupt memory here: the machine cannot be trusted any more."""

    def __init__(self, reason: str, *, place: str) -> None:
        self.reason = reason
        self.place = place
        super().__init__(f"{reason} ({place})")


class KernelPanic(KernelBug):
    """The kernel calls ``panic()``: the machine is dead from here on."""
