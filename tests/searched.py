"""What both searches say of actors on a small machine, in every order."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from itertools import permutations

from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.linux.state import Kernel
from own_record import machine, own

PLACE = "mm/page_alloc.c:alloc_pages"
Check = Callable[[Kernel], str | None]


def verdicts(actors: Iterable[Actor], check: Check | None = None, *, exhaustive: bool = True) -> set[str]:
    """What both searches say, of the actors in every order."""
    k = machine()
    said = set()
    for some in permutations(actors):
        program = KernelProgram(k, some, tuple("ABC"[: len(some)]), check=check)
        for reduce in (True, False) if exhaustive else (True,):
            run = program.run()
            if reduce:
                run.tell_apart(frozenset())
            said.add(search(run, reduce=reduce).word)
            run.close()
    return said


def has_seen(k: Kernel) -> str | None:
    """A check: nobody saw what nobody should."""
    return None if own(k).saw is None else f"seen: {own(k).saw}"
