"""A kernel as it stood once, kept as bytes, of which every execution gets a copy: what pickle needs is far less than
what :func:`copy.deepcopy` does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import pickle
from collections.abc import Callable
from copy import deepcopy
from types import FunctionType, ModuleType
from typing import Any

from memhp.explore.doors.announced import AnnouncedDict, Container
from memhp.hw.memory import Arena
from memhp.hw.unchanging import Unchanging
from memhp.linux.state import Kernel

SHARED = (type, FunctionType, ModuleType, Unchanging)
"""What all copies have in common."""


class KernelImage:
    """An announcing kernel, from which copies are made that share nothing that changes.

    Classes, functions, and what never changes are common to all; tables are copied as they are.
    """

    def __init__(self, k: Kernel) -> None:
        self._common: list[object] = []
        """What pickle does not go into, by number."""
        data = io.BytesIO()
        _Pickler(data, self._common).dump(k)
        self._data = data.getvalue()
        self._tables = [number for number, one in enumerate(self._common) if isinstance(one, Arena)]

    def copy(self) -> Kernel:
        """The kernel as it stood."""
        common = self._common[:]
        for number in self._tables:
            common[number] = deepcopy(common[number])
        reader = _Unpickler(io.BytesIO(self._data))
        reader.persistent_load = common.__getitem__
        k = reader.load()
        assert isinstance(k, Kernel)
        return k


class _Unpickler(pickle.Unpickler):
    persistent_load: Callable[[Any], Any]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, common: list[object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._common = common
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """The number of what is not gone into."""
        if not isinstance(obj, (*SHARED, Arena)):
            return None
        number = self._numbers.setdefault(id(obj), len(self._common))
        if number == len(self._common):
            self._common.append(obj)
        return number

    def reducer_override(self, obj: Any) -> Any:
        """Containers that announce what is done to them are filled without that."""
        if isinstance(obj, Container):
            return type(obj), (), _contents(obj), None, None, _fill
        return NotImplemented


def _contents(container: Any) -> tuple[object, ...]:
    """What a container that announces accesses is made of: to whom, the keys' numbers, and what is in it."""
    if isinstance(container, AnnouncedDict):
        return container._to, dict(container._numbers), dict(dict.items(container))
    kind: Any = list if isinstance(container, list) else set
    return container._to, None, kind(kind.__iter__(container))


def _fill(container: Any, made_of: Any) -> None:
    """Make a container that is empty of what :func:`_contents` said; nothing is announced."""
    container._to, numbers, values = made_of
    if numbers is not None:
        container._numbers = numbers
        dict.update(container, values)
    elif isinstance(container, list):
        list.extend(container, values)
    else:
        set.update(container, values)
