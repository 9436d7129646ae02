"""The table of choices: what each means, what it may be, which kernel has which value and since when."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from memhp.linux.choice import Choices, about, hints, history, is_set, open_steps, options
from memhp.linux.choices import ARCHES, ArchProfile, Profile, generic_choices, no_choice_of
from memhp.linux.profiles import PROFILES, RECORDS, RELEASES, profile
from memhp.linux.release import Since, parse_release


class ValueSince(msgspec.Struct, frozen=True):
    """A value, and the change that brought it."""

    value: Any
    since: str
    """The first release with it; empty where it was there from the start, or came to a stable series alone."""
    commit: str
    """The commit's title."""
    stable: list[str]
    """Point releases of older series that took it."""


class KernelValue(msgspec.Struct, frozen=True):
    """How one kernel made a choice."""

    kernel: str
    value: Any
    settled: bool
    """False where it is not known, and what was there before is taken."""


class ChoiceRow(msgspec.Struct, frozen=True):
    """One choice of one architecture, or of the code that all share."""

    name: str
    arch: str | None
    about: str
    kind: str
    """``one of`` the values, or ``any of`` them."""
    values: list[Any]
    history: list[ValueSince]
    kernels: list[KernelValue]
    unused: list[Any]
    """Values that no kernel of a release ever had: of drafts, series, or other architectures."""


def named_kernels() -> tuple[Profile, ...]:
    """The kernels that stand in the table: releases, then mail series."""
    series = tuple(each for each in PROFILES.values() if not each.name.startswith("linux-"))
    return (*(profile(name) for name in RELEASES), *series)


def choice_rows(
    names: Sequence[str] = (), arches: Iterable[str] = (), kernels: Sequence[Profile] = ()
) -> list[ChoiceRow]:
    """The rows of the table: of some choices, architectures, kernels, or all.

    Raises :class:`BadInput` for a choice that there is not.
    """
    wanted = set(arches) or set(ARCHES)
    known = [(record, name) for record, name in _every() if record is Profile or _arch(record) in wanted]
    for name in names:
        if name not in {each for _, each in known}:
            raise no_choice_of(sorted(wanted, key=ARCHES.index), name)
    shown = list(kernels or named_kernels())
    return [_row(record, name, shown) for record, name in known if not names or name in names]


def _every() -> Iterator[tuple[type[Choices], str]]:
    yield from ((Profile, name) for name in generic_choices())
    for record in RECORDS:
        yield from ((record, name) for name in hints(record))


def _arch(record: type[Choices]) -> str | None:
    return record.arch if issubclass(record, ArchProfile) else None


def _row(record: type[Choices], name: str, kernels: Sequence[Profile]) -> ChoiceRow:
    hint, steps = hints(record)[name], history(record, name)
    values = list(options(hint))
    had = [step.value for step in steps]
    return ChoiceRow(
        name=name,
        arch=_arch(record),
        about=about(record, name),
        kind="any of" if is_set(hint) else "one of",
        values=values,
        history=[_since(step) for step in steps],
        kernels=[found for kernel in kernels for found in _value(record, name, kernel, steps)],
        unused=[] if is_set(hint) else [value for value in values if value not in had],
    )


def _since(step: Since) -> ValueSince:
    return ValueSince(step.value, step.release, step.title, list(step.stable))


def _value(record: type[Choices], name: str, kernel: Profile, steps: tuple[Since, ...]) -> Iterator[KernelValue]:
    """What a kernel chose; nothing, if it has no hotplug on that architecture."""
    of = kernel if record is Profile else next((each for each in kernel.records if type(each) is record), None)
    if of is None:
        return
    release = parse_release(kernel.name)
    settled = release is None or not open_steps(release, steps)
    yield KernelValue(kernel.name, getattr(of, name), settled)
