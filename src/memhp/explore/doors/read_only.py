"""What those get who only read a container of a marked field: as before in all but that it cannot be changed, and says
how the field's is.

Lists and sets are read whole at once; of a dictionary each access is heard.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn


class ReadList(list[Any]):
    """A list as it was."""

    __slots__ = ("step",)

    step: str
    """What the steps of the field are called."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


class ReadSet(set[Any]):
    """A set as it was."""

    __slots__ = ("step",)

    step: str

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return set, (list(self),)


class ReadDict(Mapping[Any, Any]):
    """A dictionary, as it is whenever it is looked at."""

    __slots__ = ("_of", "step")

    step: str

    def __init__(self, of: dict[Any, Any]) -> None:
        self._of = of

    def __getitem__(self, key: Any) -> Any:
        return self._of[key]

    def __contains__(self, key: object) -> bool:
        return key in self._of

    def __iter__(self) -> Iterator[Any]:
        return iter(self._of)

    def __reversed__(self) -> Any:
        return reversed(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        return repr(self._of)

    def __or__(self, other: Any) -> Any:
        return self._of | dict(other)

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self._of

    def get(self, key: Any, default: Any = None) -> Any:
        """As of a dictionary."""
        return self._of.get(key, default)

    def keys(self) -> Any:
        """As of a dictionary."""
        return self._of.keys()

    def values(self) -> Any:
        """As of a dictionary."""
        return self._of.values()

    def items(self) -> Any:
        """As of a dictionary."""
        return self._of.items()

    def copy(self) -> dict[Any, Any]:
        """As of a dictionary."""
        return self._of.copy()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (self.copy(),)


def read_only(make: Callable[[Any], Any], container: Any, step: str) -> Any:
    """What `make` makes of a container, one of these, of a field whose steps are called so."""
    made = make(container)
    made.step = step
    return made


def _refused(self: Any, *_: object, **__: object) -> NoReturn:
    right_after = f"k.hw.writes({self.step!r}) or k.hw.atomic({self.step!r})"
    raise TypeError(f"what is in a container of the marked field {self.step!r} is changed right after {right_after}")


CHANGES: dict[type, tuple[str, ...]] = {
    ReadList: ("append", "insert", "extend", "remove", "pop", "clear", "sort", "reverse", "__setitem__", "__delitem__",
               "__iadd__", "__imul__"),
    ReadSet: ("add", "discard", "remove", "pop", "clear", "update", "difference_update", "intersection_update",
              "symmetric_difference_update", "__ior__", "__iand__", "__isub__", "__ixor__"),
    ReadDict: ("pop", "popitem", "clear", "update", "setdefault", "__setitem__", "__delitem__", "__ior__"),
}  # fmt: skip
"""The methods of each sort that change a container."""
for _kind, _methods in CHANGES.items():
    for _method in _methods:
        setattr(_kind, _method, _refused)
