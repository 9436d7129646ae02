"""Fields of the kernel's records each access to which is a step (:func:`memhp.hw.shared.marked`)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from types import MappingProxyType
from typing import Any


class MarkedField:
    """Stands for such a field in the classes of a kernel under exploration."""

    __slots__ = ("_called", "_name")

    def __init__(self, name: str, called: Callable[[Any], str]) -> None:
        self._name, self._called = name, called

    def __get__(self, holder: Any, owner: type) -> Any:
        """Read the field. What is in a container can be changed only if the step before said so."""
        if holder is None:
            return self
        changes = self._step(holder, write=False)
        try:
            value = holder.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        read_only = None if changes else READ_ONLY.get(type(value))
        return value if read_only is None else read_only(value)

    def __set__(self, holder: Any, value: object) -> None:
        """Write the field."""
        self._step(holder, write=True)
        holder.__dict__[self._name] = value

    def _step(self, holder: Any, *, write: bool) -> bool:
        """Take the step, if it was not the last one; whether the field may be changed now."""
        to = holder.__dict__.get("_announces_to")
        stepper = to[0].stepper if to is not None else None
        marked = getattr(stepper, "marked", None)
        return marked is None or marked(self._called(holder), write=write)


READ_ONLY: dict[type, Callable[[Any], Any]] = {dict: MappingProxyType, list: tuple, set: frozenset}
"""By sort of container: what is given to those who only read it."""
