"""All that can be seen of a kernel after something was done to it, as a digest that tells two ways to decide apart."""
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from kernels import zone_picture
from memhp.check import check_all
from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.linux.state import Kernel
from memhp.scenario.schema import Scenario
from memhp.target.model.run import rehearse_scenario


def state(k: Kernel) -> Iterator[str]:
    """Log, costs, page tables, memory, zones and what Linux would show; the laws that do not hold."""
    yield repr([(line.level, line.text) for line in k.hw.log_lines])
    yield repr(k.hw.ledger)
    yield repr(k.hw.table_counts)
    for frames in k.hw.memory.arena.frames():
        yield repr(frames)
        for view in k.hw.memory.arena.views(frames):
            yield hashlib.sha256(view.tobytes()).hexdigest()
    yield repr(list(k.hw.memory.owners))
    yield repr([zone_picture(zone) for zone in k.zones()])
    yield repr(replace(derive(k), release=None, source=""))
    yield repr({nid: list(below) for nid, below in k.node_states.devices.items()})
    yield repr([str(breach) for breach in check_all(k, None)])


def rehearsed(machine: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    """All that a rehearsal reports, as a digest; or why there can be none."""
    try:
        scenario = msgspec.convert({"machine": machine, "steps": steps}, Scenario)
        run, k = rehearse_scenario(scenario, where="witness")
    except BadInput as error:
        return str(error)
    return digest(repr(run.steps), repr(run.laws), *state(k))


def digest(*parts: str) -> str:
    """One word for all of these."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
