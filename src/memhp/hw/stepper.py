"""What stands behind the doors while interleavings are explored: each access is announced before it happens."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, Protocol

from memhp.hw.format import U64
from memhp.hw.tlb import Table
from memhp.spans import Span

ALL_FRAMES = Span(0, 1 << 64)
"""What is looked at by who looks at all memory, whatever there is by then (PFNs)."""
NUMBER = re.compile(r"\[[^\[\]]+\]")


class Part(NamedTuple):
    """A range of a map that CPUs share."""

    name: str
    start: int
    end: int


class Level(NamedTuple):
    """A counter that some read without a lock, to compare it with a mark."""

    name: str
    by: int | None
    """Of a change: by how much. Of a read: the lowest value for which it says yes; None: the value itself is read."""


class Fields(NamedTuple):
    """Several shared fields that one access is about."""

    names: tuple[str, ...]


class Access(NamedTuple):
    """One access to shared state, as the explorer sees it before it happens."""

    kind: str
    """``load``, ``store``; ``plug``, ``unplug``, ``claim``, ``release``, ``retag``, ``look`` (who has frames);
    ``lock``, ``trylock``, ``unlock``; ``read``, ``write``, ``atomic``; ``add``: the CPU's own of a field's counters;
    ``enter``, ``leave`` (a read-side section); ``flush``; ``touch``: memory is read through the tables below a root."""
    target: Table | Span | Part | Level | Fields | str
    entry: int = 0
    """Of a load or store: which entry of the table. Of a touch: the frame of the root table."""
    value: int = 0
    """What is stored; of a lock: 1 when it is taken or held alone, 0 when shared; of a claim: 1 where several frames
    become tables."""


def of_fields(*names: str, write: bool) -> Access:
    """One access to shared fields outside page tables, without a lock."""
    return Access("write" if write else "read", Fields(names) if len(names) > 1 else names[0])


@cache
def any_of(name: str) -> str:
    """The name of all fields that are called like this one but for the numbers in brackets, which changes of each
    touch: ``mem_section[].usage`` of ``mem_section[3].usage``. The name itself, if it has no number.
    """
    return NUMBER.sub("[]", name)


class Stepper(Protocol):
    """What the explorer puts behind the doors."""

    listens: bool
    """Whether plain accesses to shared data are to be told to it now."""

    def step(self, access: Access) -> None:
        """An access is about to happen; another CPU may run first."""

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        """A plain read or write of shared data (a :class:`Part`) is about to happen; it is no step of its own."""

    def loads(self, table: Table, index: int, count: int) -> int:
        """How many of `count` loads of entries from `index` on happen now, one after the other without a step for each.

        0: the first is a step like any other.
        """

    def stores(self, table: Table, index: int, values: U64) -> int:
        """How many of the stores of these values to entries from `index` on happen now; 0 as of :meth:`loads`."""

    def own(self, table: Table, index: int, count: int) -> int:
        """How many of `count` entries from `index` on are empty and the calling CPU's own affair, so that nobody can
        tell whether each is filled once it was loaded, or all are when all were.
        """

    in_one_go: bool
    """Whether entries are being dealt with as :meth:`alike` has said."""

    def comes_to(self, table: Table, index: int) -> None:
        """A loop is about to deal with an entry. What it has come to last counts: of a table that leads to another
        through which it goes meanwhile, nothing is known afterwards.
        """

    def alike(self, table: Table, index: int, count: int) -> int:
        """How many of `count` entries from `index` on the loop deals with in one go, for nobody can tell: as it did
        with the two before them, which were like them. It says so afterwards: :meth:`were_alike`.
        """

    def were_alike(self) -> None:
        """Those entries have been dealt with."""

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails this time."""

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Block the calling CPU until `ready()`, which looks at the shared field `on`."""


class EachAlone:
    """What a stepper has that takes entries of page tables one by one."""

    def loads(self, table: Table, index: int, count: int) -> int:
        """None at once."""
        return 0

    def stores(self, table: Table, index: int, values: U64) -> int:
        """None at once."""
        return 0

    def own(self, table: Table, index: int, count: int) -> int:
        """None."""
        return 0

    in_one_go = False

    def comes_to(self, table: Table, index: int) -> None:
        """Nothing is noted."""

    def alike(self, table: Table, index: int, count: int) -> int:
        """None in one go."""
        return 0

    def were_alike(self) -> None:
        """Never."""


class Faults(Protocol):
    """What has allocations fail without a stepper: everything else happens as usual, on whole runs."""

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails this time."""

    def parts(self, count: int) -> Iterator[int]:
        """How many of the `count` rounds of a loop are asked about at once, from part to part."""
