"""Each access to what CPUs look at without a lock is a step of its own: another CPU may come between any two."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Verdict
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.mm.page_alloc import adjust_managed_page_count, alloc_pages, free_pages
from memhp.linux.mmzone import Zone
from memhp.linux.state import Kernel
from memhp.spans import Span

MACHINE = Configuration("arm64", 4096, 48, "linux-7.2")
SOMEBODY = Owner(Use.KERNEL, "somebody")
PLACE = "mm/page_alloc.c:alloc_pages"


@dataclass
class Word:
    """A word that is read and written with ``READ_ONCE()`` and ``WRITE_ONCE()``, and what an actor saw."""

    word: int = field(default=0, metadata=marked("word"))
    given: bool = field(default=False, metadata=marked("given"))
    page: Span | None = None
    seen: tuple[object, ...] = ()


def machine() -> Kernel:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.statics(Word).page = alloc_pages(k, 0, 0, owner=SOMEBODY, where=PLACE)[0]
    return k


def zone(k: Kernel) -> Zone:
    return max(k.nodes[0].zones.values(), key=lambda one: one.spanned)


def decided(*actors: Actor, wrong: Callable[[Word], bool], reduce: bool = True) -> Verdict:
    """Whether some schedule has an actor see what is wrong."""
    names = tuple(f"actor {number}" for number in range(len(actors)))
    program = KernelProgram(machine(), actors, names, check=lambda k: "seen" if wrong(k.statics(Word)) else None)
    return search(program.run(), reduce=reduce)


def reads_twice(k: Kernel) -> None:
    k.statics(Word).seen = (zone(k).managed, zone(k).managed)


def looks_twice(k: Kernel) -> None:
    word = k.statics(Word)
    assert word.page is not None
    word.seen = (k.hw.owners.get(word.page.start), k.hw.owners.get(word.page.start))


def a_page_is_managed_less(k: Kernel) -> None:
    adjust_managed_page_count(k, zone(k).start_pfn, -1)


def frees(k: Kernel) -> None:
    page = k.statics(Word).page
    assert page is not None
    free_pages(k, [page], PLACE)


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("reader", "other"), [(reads_twice, a_page_is_managed_less), (looks_twice, frees)])
def test_two_reads_may_find_two_values(reader: Actor, other: Actor, first: bool, reduce: bool) -> None:
    actors = (reader, other) if first else (other, reader)
    assert decided(*actors, wrong=lambda word: len(set(word.seen)) > 1, reduce=reduce).word == "broken"


def test_a_value_that_stands_for_a_moment_may_be_seen() -> None:
    def writes_twice(k: Kernel) -> None:
        k.statics(Word).word = 1
        k.statics(Word).word = 2

    def reads(k: Kernel) -> None:
        k.statics(Word).seen = (k.statics(Word).word,)

    assert decided(writes_twice, reads, wrong=lambda word: word.seen == (1,)).word == "broken"


def test_a_loop_that_reads_a_word_until_it_changes_ends() -> None:
    def polls(k: Kernel) -> None:
        while not k.statics(Word).word:
            pass

    def sets(k: Kernel) -> None:
        k.statics(Word).word = 1

    assert decided(polls, sets, wrong=lambda word: not word.word).word == "safe"


def waits(k: Kernel) -> None:
    word = k.statics(Word)
    k.hw.wait(lambda: word.given, "a sign", on="given")


def gives(k: Kernel) -> None:
    k.statics(Word).given = True


def writes(k: Kernel) -> None:
    k.statics(Word).word = 1


def reads_waits_and_reads(k: Kernel) -> None:
    word = k.statics(Word)
    first = word.word
    waits(k)
    word.seen = (first, word.word)


def looks_waits_and_looks(k: Kernel) -> None:
    word = k.statics(Word)
    assert word.page is not None
    first = k.hw.owners.get(word.page.start)
    waits(k)
    word.seen = (first, k.hw.owners.get(word.page.start))


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize(("reader", "other"), [(reads_waits_and_reads, writes), (looks_waits_and_looks, frees)])
def test_what_is_read_after_a_wait_is_no_part_of_the_wait(reader: Actor, other: Actor, order: tuple[int, ...]) -> None:
    actors = [(reader, gives, other)[number] for number in order]
    for wrong in (lambda word: len(set(word.seen)) > 1, lambda word: len(set(word.seen)) == 1):
        assert decided(*actors, wrong=wrong).word == "broken"
