"""DIMMs of real machines: what ACPI's driver and its two passes did and logged, the model does and logs.

Each capture plugs a DIMM of four memory blocks, takes one of them offline by hand, then has the platform ask for the
DIMM. On x86 a page that does not move keeps the first block: the user tries the blocks by hand, and the platform again.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from itertools import pairwise

import pytest

from captures import captures, facts, open_capture
from memhp.errors import KernelError
from memhp.facts.compare import STABLE, named_facts
from memhp.facts.derive import derive
from memhp.hw.memory import Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm import users
from memhp.scenario import schema
from memhp.target.model.replay import replay
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from replay.diary import refusals
from replay.machines import boot
from replay.unequal import unnamed

DIMMS = [name for name in captures() if "-pc-dimm-" in name]
KEPT = [name for name in DIMMS if refusals(name)]
TOLD = re.compile(
    r"acpi PNP0C80|Offlined Pages|memory offlining \[|memory memory\d+: Offline failed|removing memory fails"
)


def told(lines: list[str]) -> list[str]:
    """What a kernel log says of a DIMM's life."""
    return [line for line in lines if TOLD.match(line)]


def up_to_the_request(name: str) -> Session:
    """The machine when the platform asked for its DIMM."""
    steps = list(open_capture(name))
    session = boot(name, steps[0])
    for before, after in pairwise(steps[: steps.index("3-one-offline") + 1]):
        replay(session, facts(name, before), facts(name, after))
    for refusal in refusals(name)[:1]:
        assert refusal.pfn is not None
        if session.k.hw.memory.use_of(refusal.pfn) is Use.FREE:
            size = session.k.config.page_size
            users.allocate(session.k, size, "kernel", "what does not move", at=refusal.pfn * size)
    return session


def ask_for_it(session: Session) -> str:
    try:
        RUNNERS[schema.Eject](session, schema.Eject())
    except KernelError as error:
        return f"{error.name} {error.reason}"
    return "ok"


def offline_by_hand(session: Session) -> None:
    """``echo offline`` to each block of the DIMM; some refuse."""
    (dimm,) = session.dimms
    for node in dimm.physical_node_list:
        try:
            state_store(session.k, node.block_id, "offline")
        except KernelError as error:
            assert error.name in {"EBUSY", "EINVAL"}, "one has an unmovable page, one is offline already"


def same(name: str, step: str, session: Session) -> None:
    real, mine = named_facts(facts(name, step), STABLE), named_facts(derive(session.k), STABLE)
    unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
    surprising, _ = unnamed(facts(name, step), unequal)
    assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}, step


def test_dimms_were_captured_on_both_architectures_and_some_could_not_go() -> None:
    assert {name.split("-")[0] for name in DIMMS} == {"arm64", "x86_64"}
    assert {name.split("-")[0] for name in KEPT} == {"x86_64"}


@pytest.mark.parametrize("name", DIMMS)
def test_the_log_of_a_dimms_whole_life_is_the_real_one_line_by_line(name: str) -> None:
    session = up_to_the_request(name)
    outcomes = [ask_for_it(session)]
    if name in KEPT:
        same(name, "4-unplug-req", session)
        offline_by_hand(session)
        outcomes.append(ask_for_it(session))
    same(name, "5-unplugged", session)
    assert outcomes == (["EBUSY Offline failed"] * 2 if name in KEPT else ["ok"])
    log = facts(name, "5-unplugged").log
    assert log is not None
    assert told([line.text for line in session.k.hw.log_lines]) == told([line.text for line in log.lines])


@pytest.mark.parametrize("name", KEPT)
def test_after_a_refusal_the_blocks_that_had_gone_are_online_again(name: str) -> None:
    session = up_to_the_request(name)
    states = {i: block.state for first, end, block in session.k.memory_blocks for i in range(first, end)}
    ask_for_it(session)
    assert {i: b.state for first, end, b in session.k.memory_blocks for i in range(first, end)} == states
