"""A device misbehaves exactly as it was told to, and keeps its books all the same."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import Request, RequestType, Response, ResponseType
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.linux.arch.riscv.format import SV39
from memhp.spans import Span
from memhp.units import MiB

ADDR, BLOCK, BLOCKS = 0x8000_0000, 2 * MiB, 16
BAD = [ResponseType.NACK, ResponseType.BUSY, ResponseType.ERROR]


def device(*rules: Rule, backing: MachineBacking | None = None) -> VirtioMemDevice:
    """A device of 16 blocks that are all requested."""
    made = VirtioMemDevice(Geometry(ADDR, BLOCKS * BLOCK, BLOCK), rules=list(rules))
    if backing is not None:
        made.backing = backing
    made.resize(BLOCKS * BLOCK)
    return made


def send(made: VirtioMemDevice, kind: RequestType, at: int, count: int = 1) -> ResponseType:
    """A request for blocks: the type of the answer."""
    return Response.unpack(made.handle(Request(kind, ADDR + at * BLOCK, count).pack())[0]).type


@pytest.mark.parametrize("answer", BAD)
@given(first=st.integers(1, 6), count=st.one_of(st.none(), st.integers(1, 4)))
def test_the_nth_request_and_as_many_as_said_are_refused(answer: ResponseType, first: int, count: int | None) -> None:
    made = device(Rule(frozenset({RequestType.PLUG}), first=first, count=count, answer=answer))
    answers = [send(made, RequestType.PLUG, at) for at in range(8)]
    end = 8 if count is None else min(8, first - 1 + count)
    refused = range(first - 1, end)
    assert answers == [answer if i in refused else ResponseType.ACK for i in range(8)]
    assert made.plugged_size == (8 - len(refused)) * BLOCK


@pytest.mark.parametrize("answer", BAD)
def test_a_rule_for_a_range_spares_what_lies_outside(answer: ResponseType) -> None:
    made = device(Rule(overlaps=Span(ADDR + 4 * BLOCK, ADDR + 5 * BLOCK), answer=answer))
    assert [send(made, RequestType.PLUG, at, 2) for at in (0, 2, 4, 6)] == [0, 0, answer, 0]
    assert send(made, RequestType.STATE, 3, 2) == answer


def test_a_rule_may_delay_and_leave_the_answer_as_it_is() -> None:
    made = device(Rule(first=2, count=1, delay=5_000))
    assert [made.handle(Request(RequestType.PLUG, ADDR + at * BLOCK, 1).pack())[1] for at in range(3)] == [0, 5_000, 0]
    assert made.plugged_size == 3 * BLOCK


def test_the_requested_size_may_change_while_a_request_is_on_its_way() -> None:
    told: list[int] = []
    made = device(Rule(frozenset({RequestType.PLUG}), first=2, count=1, requested_before=BLOCK))
    made.config_changed.append(lambda: told.append(made.requested_size))
    assert [send(made, RequestType.PLUG, at) for at in range(2)] == [ResponseType.ACK, ResponseType.NACK]
    assert told == [BLOCK]
    late = device(Rule(frozenset({RequestType.PLUG}), first=2, count=1, requested_after=BLOCK))
    assert [send(late, RequestType.PLUG, at) for at in range(3)] == [0, 0, ResponseType.NACK]


def test_the_usable_region_may_shrink_over_plugged_blocks() -> None:
    made = device(Rule(first=2, count=1, usable_after=BLOCK))
    assert [send(made, RequestType.PLUG, at) for at in range(3)] == [0, 0, ResponseType.ERROR]
    assert made.plugged_size == 2 * BLOCK


def test_an_acknowledgement_may_be_a_lie() -> None:
    made = device(Rule(count=1, answer=ResponseType.ACK))
    assert send(made, RequestType.PLUG, 0) is ResponseType.ACK
    assert made.plugged_size == 0


def test_memory_comes_and_goes_with_the_blocks() -> None:
    machine = Machine(SV39)
    made = device(backing=MachineBacking(machine, "vm0"))
    send(made, RequestType.PLUG, 1, 2)
    send(made, RequestType.UNPLUG, 1)
    assert list(machine.memory.owners) == [(0x80400, 0x80600, Owner(Use.DEVICE, "vm0"))]
    assert not machine.violations


def test_unplugging_memory_in_use_breaks_a_law() -> None:
    machine = Machine(SV39)
    made = device(backing=MachineBacking(machine, "vm0"))
    send(made, RequestType.PLUG, 0)
    machine.claim(Span(0x80000, 0x80001), Owner(Use.KERNEL, "slab"), "test")
    send(made, RequestType.UNPLUG, 0)
    assert [violation.law for violation in machine.violations] == ["one-owner"]
