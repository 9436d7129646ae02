"""Keys, values and items of a dictionary whose reads are announced: as it is whenever they are looked at."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class _View:
    """A view that can be gone through backwards and shown, as those of dictionaries."""

    __slots__ = ()

    _mapping: dict[Any, Any]

    def __reversed__(self: Any) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __repr__(self: Any) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class Keys(_View, KeysView[Any]):
    """The keys, as they come."""

    __slots__ = ()


class Values(_View, ValuesView[Any]):
    """The values of the keys, as they come."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        for key in self._mapping:
            yield dict.__getitem__(self._mapping, key)


class Items(_View, ItemsView[Any, Any]):
    """The keys with their values, as they come."""

    __slots__ = ()

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and super().__contains__(item)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            yield key, dict.__getitem__(self._mapping, key)
