"""Which locks are taken under others, in one execution: what is only touched under a lock is kept in order by it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Set
from itertools import combinations

from memhp.explore.engine.fusion import Touches
from memhp.explore.engine.op import ALONE, SHARED

Taken = tuple[int, frozenset[tuple[Hashable, int]]]
"""How a lock was taken, and those that the thread held then, with modes."""


def outermost(
    locks: Set[Hashable], touches: Iterable[tuple[int, Touches]], is_lock: Callable[[Hashable], bool]
) -> Set[Hashable]:
    """Of `locks`, those that two threads take in a way that no other lock keeps in order.

    `touches`: by step, in order, the thread and what it touched. A lock is touched when it is taken, and then when it
    is let go. That an attempt may fail is not seen; what is left out here by mistake is found to be shared later.
    """
    held: defaultdict[int, dict[Hashable, int]] = defaultdict(dict)
    taken: defaultdict[Hashable, defaultdict[int, set[Taken]]] = defaultdict(lambda: defaultdict(set))
    for thread, touched in touches:
        mine = held[thread]
        for target, mode in touched:
            if not is_lock(target) or mine.pop(target, None) is not None:
                continue
            if target in locks:
                taken[target][thread].add((mode, frozenset(mine.items())))
            mine[target] = mode
    return {
        lock
        for lock, by_thread in taken.items()
        for one, other in combinations(by_thread.values(), 2)
        if any(not _ordered(first, then) for first in one for then in other)
    }


def _ordered(first: Taken, then: Taken) -> bool:
    """Whether two threads that take a lock so do not meet there: both want it shared, or another lock is in between."""
    over = dict(then[1])
    return first[0] == then[0] == SHARED or any(lock in over and ALONE in (how, over[lock]) for lock, how in first[1])
