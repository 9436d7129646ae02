"""What notices when two statements of the model come the other way round: free and flush, publish and initialise, put
and use.

Run as ``python bench/orders.py`` (``--help`` names its options). Each pair of statements in order_table.py is swapped
in turn (:mod:`memhp.explore.order_swap`), and what comes to that function is decided again (noticed.py). The table
shows for each what noticed. What is broken may become safe: it may be broken because something else stands in the wrong
order. Exits with 1 when nothing notices one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from memhp.explore.order_swap import Order, called, swapped
from noticed import Known, Row, options, row, table, try_all
from order_table import ORDERS

ORDERS_OF_ALL_SORTS = [order for sort in ORDERS for order in sort.orders]


def function_of(order: Order) -> str:
    """``mm.vmalloc:vfree``."""
    return f"{order.module}:{order.function}"


FUNCTIONS = {function_of(order): order for order in ORDERS_OF_ALL_SORTS}
"""An order for each function of which there are any."""


@contextmanager
def _watching(notes: dict[str, Any]) -> Iterator[None]:
    """Within it, which functions a program calls is noted."""
    with ExitStack() as stack:
        for function, order in FUNCTIONS.items():
            stack.enter_context(called(order, partial(notes.setdefault, function, True)))
        yield


def turned(order: Order, known: dict[str, Known]) -> Row:
    """The row of a pair of statements."""
    coming = [one for one in known.values() if function_of(order) in one.notes]
    tried = try_all(coming, swapped(order), CHOSEN.seconds, stays_broken=False)
    return row(str(order), tried, "", lambda _: True)


if __name__ == "__main__":
    CHOSEN = options(__doc__.split("\n")[0]).parse_args()
    sys.exit(table(CHOSEN, ORDERS_OF_ALL_SORTS, _watching, turned))
