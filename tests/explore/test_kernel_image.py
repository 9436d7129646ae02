"""Copies of an image share nothing that changes, and announce what is done to them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from copy import deepcopy
from functools import wraps

import pytest

from kernel_changes import CHANGES, CONFIGURATIONS, booted
from memhp.explore.case import Configuration
from memhp.explore.doors.announced import announce
from memhp.explore.doors.digest import digest
from memhp.explore.doors.kernel_image import KernelImage, bytes_of, likeness
from memhp.hw.memory import ROOM
from memhp.spans import Span


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("what", CHANGES)
def test_what_is_done_to_one_copy_is_done_to_no_other(what: str, where: Configuration) -> None:
    k = booted(where)
    before = digest(k)
    announce(k, frozenset())
    image = KernelImage(k)
    one, other = image.copy(), image.copy()
    CHANGES[what](one)
    assert digest(one) != before
    assert digest(other) == digest(k) == digest(image.copy()) == before


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("what", CHANGES)
def test_two_kernels_are_alike_until_something_is_done_to_one_and_again_when_it_is_done_to_the_other(
    what: str, where: Configuration
) -> None:
    k = booted(where)
    announce(k, frozenset())
    image = KernelImage(k)
    one, other = image.copy(), image.copy()
    assert likeness(one) == likeness(other)
    CHANGES[what](one)
    assert likeness(one) != likeness(other)
    CHANGES[what](other)
    assert likeness(one) == likeness(other)


def test_kernels_that_logged_the_same_in_another_order_are_not_alike() -> None:
    k = booted(CONFIGURATIONS[0])
    announce(k, frozenset())
    one, other = KernelImage(k).copy(), KernelImage(k).copy()
    for copy, lines in ((one, "ab"), (other, "ba")):
        for line in lines:
            copy.hw.log(line)
    assert likeness(one) != likeness(other)


def test_a_copy_takes_more_tables_than_it_had_room_for_and_forgets_none() -> None:
    k = booted(CONFIGURATIONS[0])
    arena = KernelImage(k).copy().hw.memory.arena
    before = {frame: arena.row(frame).tolist() for span in arena.frames() for frame in range(*span)}  # type: ignore[union-attr]
    more = Span(1 << 40, (1 << 40) + 3 * ROOM)
    arena.add(more)
    for view in arena.views(more):
        assert not view.any()
        view[:] = 7
    assert {frame: arena.row(frame).tolist() for frame in before} == before  # type: ignore[union-attr]
    assert all(arena.row(frame)[0] == 7 for frame in range(*more))  # type: ignore[index]


class Listener:
    """A stepper that notes what it is told."""

    watched: frozenset[str] = frozenset()
    listens = True
    put_in = None

    def __init__(self) -> None:
        self.heard: list[str] = []

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        self.heard.append(f"{'write' if write else 'read'} {name} [{start}-{end})")

    def wrote(self, key: str) -> None:
        self.heard.append(key)


def test_a_copy_announces_to_its_own_machine_what_the_kernel_itself_would() -> None:
    k = booted(CONFIGURATIONS[0])
    plain = deepcopy(k)
    announce(k, frozenset())
    announce(plain, frozenset())
    copy = KernelImage(k).copy()
    heard = []
    for each in (copy, plain):
        each.hw.stepper = listener = Listener()  # type: ignore[assignment]
        each.iomem_resource.children[0].name = "another"
        each.altmaps.clear()
        heard.append(listener.heard)
    assert k.hw.stepper is None
    assert heard[0] == heard[1] != []


def test_an_exception_is_alike_before_and_after_somebody_looks_at_its_fields() -> None:
    error = KeyboardInterrupt()
    before = bytes_of([error])
    assert vars(error) == {} and bytes_of([error]) == before
    assert bytes_of([KeyboardInterrupt(1)]) != before


def test_what_a_timer_does_with_variables_around_it_is_done_to_the_copy_that_it_came_with() -> None:
    """As the lambda that ``drivers/xen/balloon.py`` arms, whose kernel is the one that armed it."""
    k = booted(CONFIGURATIONS[0])
    rounds, empty = 0, None

    def expired() -> None:
        nonlocal rounds
        rounds += 1
        k.hw.log(f"round {rounds} {empty}")
        if rounds < 2:
            k.hw.arm(1, expired)

    k.hw.arm(0, expired)
    announce(k, frozenset())
    image = KernelImage(k)
    for copy in (image.copy(), image.copy()):
        copy.hw.advance(5)
        assert [line.text for line in copy.hw.log_lines[-2:]] == ["round 1 None", "round 2 None"]
        assert copy.hw.next_due() is None
    assert rounds == 0 and k.hw.next_due() == 0 and "round" not in k.hw.log_lines[-1].text


def test_a_function_made_within_another_has_its_own_defaults_attributes_and_variables_whatever_it_is_called() -> None:
    k = booted(CONFIGURATIONS[0])
    seen: list[int] = []

    @wraps(booted)
    def expired(numbers: list[int] = [0], *, others: list[int] = [0]) -> None:  # noqa: B006
        seen.append(len(seen))
        numbers[0] += 1
        others[0] += 1
        expired.rounds += 1  # type: ignore[attr-defined]
        k.hw.log(f"{seen} {numbers} {others} {expired.rounds}")  # type: ignore[attr-defined]

    expired.rounds = 0  # type: ignore[attr-defined]
    k.hw.arm(0, expired)
    announce(k, frozenset())
    image = KernelImage(k)
    for copy in (image.copy(), image.copy()):
        copy.hw.advance(1)
        assert copy.hw.log_lines[-1].text == "[0] [1] [1] 1"
    assert not seen and expired.rounds == 0  # type: ignore[attr-defined]
