"""What notices when two statements of the model come the other way round: free and flush, publish and initialise, put
and use.

Run as ``python bench/orders.py`` (``--help`` names its options). Each pair of statements in order_table.py is swapped
in turn (:mod:`memhp.explore.order_swap`), and what comes to that function is decided again (noticed.py). The table
shows for each what noticed; or why nothing can: a lock that is held alone around both statements, which whoever else
comes near takes as well, in programs whose search ended. What is broken may become safe: it may be broken because
something else stands in the wrong order. Exits with 1 when an order is left without an explanation.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from memhp.explore.lock_removal import Position, told
from memhp.explore.order_swap import Order, called, locks_around, module_of, swapped
from memhp.hw.locks import LockDoors
from memhp.hw.machine import Machine
from memhp.linux.state import Kernel
from noticed import Known, Row, options, row, table, try_all
from order_table import ORDERS

ORDERS_OF_ALL_SORTS = [order for sort in ORDERS for order in sort.orders]


def function_of(order: Order) -> str:
    """``mm.vmalloc:vfree``."""
    return f"{order.module}:{order.function}"


FUNCTIONS = {function_of(order): order for order in ORDERS_OF_ALL_SORTS}
"""An order for each function of which there are any."""


class Seen:
    """What a program comes to: ``{"held": {function: locks}, "takers": {lock: actors}}``.

    `held` are the locks that were held alone whenever the function was called.
    """

    def __init__(self, notes: dict[str, Any]) -> None:
        self._held: dict[str, list[str]] = notes.setdefault("held", {})
        self._takers: dict[str, list[int]] = notes.setdefault("takers", {})

    def call(self, function: str) -> None:
        """A call of one of the functions, whose first argument is the kernel or the machine."""
        first = next(iter(sys._getframe(1).f_locals.values()))
        hw = first.hw if isinstance(first, Kernel) else first
        assert isinstance(hw, Machine)
        if hw.stepper is not None:
            held = sorted(one.name for one in hw.locks.values() if one.writer == hw.cpu)
            self._held[function] = [name for name in self._held.get(function, held) if name in held]

    def take(self, position: Position, hw: LockDoors, lock: str) -> None:
        """An acquisition."""
        if hw.stepper is not None:
            takers = self._takers.setdefault(lock, [])
            takers += [hw.cpu] if hw.cpu not in takers else []

    def comes(self, function: str) -> bool:
        """Whether somebody comes to a function."""
        return function in self._held

    def around(self, order: Order) -> set[str]:
        """Locks that are held around both statements, and that two actors take."""
        own = {_named(order, text) for text in locks_around(order)}
        return (own | set(self._held[function_of(order)])) & {
            name for name, actors in self._takers.items() if len(actors) > 1
        }


def _named(order: Order, text: str) -> str:
    """A lock's name, as the code has it: a text, or a constant of the module."""
    expression = ast.parse(text, mode="eval").body
    return str(vars(module_of(order))[text] if isinstance(expression, ast.Name) else ast.literal_eval(expression))


@contextmanager
def _watching(notes: dict[str, Any]) -> Iterator[None]:
    """Within it, which functions a program calls is noted, and which locks are taken."""
    seen = Seen(notes)
    with ExitStack() as stack:
        stack.enter_context(told(seen.take))
        for function, order in FUNCTIONS.items():
            stack.enter_context(called(order, partial(seen.call, function)))
        yield


def turned(order: Order, known: dict[str, Known]) -> Row:
    """The row of a pair of statements."""
    seen = {name: Seen(one.notes) for name, one in known.items()}
    coming = [one for name, one in known.items() if seen[name].comes(function_of(order))]
    tried = try_all(coming, swapped(order), CHOSEN.seconds, stays_broken=False)
    around = [locks for name in sorted(tried.finished) if (locks := seen[name].around(order))]
    why = f"both under {' or '.join(_one_of_each(around))}" if around else ""
    return row(str(order), tried, why, lambda _: True)


def _one_of_each(around: list[set[str]]) -> list[str]:
    """As few locks as it takes to have one of each program's, those of most programs first."""
    found: list[str] = []
    while around:
        count = Counter(lock for locks in around for lock in locks)
        found.append(max(sorted(count), key=lambda lock: count[lock]))
        around = [locks for locks in around if found[-1] not in locks]
    return found


if __name__ == "__main__":
    CHOSEN = options(__doc__.split("\n")[0]).parse_args()
    sys.exit(table(CHOSEN, ORDERS_OF_ALL_SORTS, _watching, turned))
