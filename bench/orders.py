"""What notices when two statements of the model come the other way round: free and flush, publish and initialise, put
and use.

Run as ``python bench/orders.py [--site TEXT] [--race TEXT] [--seconds N] [--part 1/4] [--keep FILE] [--json]``. Each
pair of statements in order_table.py is swapped in turn (:mod:`memhp.explore.order_swap`), and what comes to that
function is decided again (noticed.py). The table shows for each what noticed. What is broken may become safe: it may
be broken because something else stands in the wrong order. Exits with 1 when nothing notices one.

With ``--keep`` rows go to a file as they are found, and those that are in it are not worked out again; ``--part`` takes
every fourth pair. Progress is told on the standard error output.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from memhp.explore.order_swap import called, swapped
from noticed import Kept, Known, as_they_are, part_of, progress, report, row, text, try_all
from order_table import ORDERS

SECONDS = 20.0
"""Processor time that is spent on a pair."""


FUNCTIONS = {(order.module, order.function): order for sort in ORDERS for order in sort.orders}
"""An order for each function of which there are any."""


@contextmanager
def _watching(program: str, came: dict[tuple[str, str], set[str]]) -> Iterator[None]:
    """Within it, which functions a program calls is noted."""
    with ExitStack() as stack:
        for function, order in FUNCTIONS.items():
            stack.enter_context(called(order, partial(came[function].add, program)))
        yield


def main() -> int:
    """Swap each pair in turn and print what noticed; 1 when nothing does."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--site", default="", help="only functions with this text in them")
    options.add_argument("--race", default="", help="only races with this text in their names")
    options.add_argument("--seconds", type=float, default=SECONDS, help="processor time for a pair  [default: 20]")
    options.add_argument("--part", default="1/1", help="2/4: of all pairs the second, the sixth …")
    options.add_argument("--keep", type=Path, metavar="FILE", help="rows that are there are taken, others added")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args()
    kept = Kept(chosen.keep)
    every = [order for sort in ORDERS for order in sort.orders if chosen.site in str(order)]
    wanted = part_of(every, chosen.part)
    came: dict[tuple[str, str], set[str]] = defaultdict(set)
    known: dict[str, Known] = {}
    rows = []
    for number, order in enumerate(wanted, 1):
        progress(f"{number} of {len(wanted)}: {order}")
        one = kept.get(str(order))
        if one is None:
            known = known or as_they_are(chosen.race, lambda program: _watching(program, came))
            coming = [known[name] for name in came[order.module, order.function]]
            one = row(str(order), try_all(coming, swapped(order), chosen.seconds), "", lambda _: True)
            kept.add(one)
        rows.append(one)
        if not chosen.json:
            print(text(one), flush=True)
    return report(rows, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
