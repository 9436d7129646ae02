"""What a step did to page tables is what differs between two walks of all of them, and no more."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json

import numpy as np
import pytest

from memhp.cli.main import main
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.walker import slabs
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.target.model.run import rehearse_scenario

STEPS = """
[[steps]]
do = "plug"
size = "1G"
online = "movable"
[[steps]]
do = "unplug"
[[steps]]
do = "vmalloc"
size = "64K"
"""
MACHINES = ["x86-vm", "x86-vm-la57", "arm64-vm", "arm64-16k-vm", "riscv-vm", "riscv-vm-sv39"]


def entries(k: Kernel) -> dict[tuple[str, int], int]:
    """Every entry that is not empty, by level and address: a walk of all tables."""
    found = {}
    for slab in slabs(k.hw.memory, k.hw.fmt, k.init_mm.frame, clip=False):
        rows, columns = np.nonzero(slab.entries)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            va = int(slab.va[row]) + column * k.hw.fmt.levels[slab.height].size
            found[HEIGHT_NAMES[slab.height], va] = int(slab.entries[row, column])
    return found


@pytest.mark.parametrize("preset", MACHINES)
def test_runs_of_changes_are_what_two_whole_walks_differ_in(preset: str) -> None:
    text = f'[machine]\npreset = "{preset}"\nmemory = "1G"\n'
    cuts = STEPS.split("[[steps]]\n")[1:]
    walks, run = [], None
    for count in range(len(cuts) + 1):
        steps = "".join(f"[[steps]]\n{cut}" for cut in cuts[:count])
        run, k = rehearse_scenario(loads(text + steps), tables=True)
        walks.append(entries(k))
    assert run is not None
    for step, before, after in zip(run.steps, walks, walks[1:], strict=False):
        wanted = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        told = set()
        for change in step.table_changes:
            size = (change.end - change.start) // change.entries
            keys = [(change.level, change.start + size * at) for at in range(change.entries)]
            told.update(keys)
            assert (before.get(keys[0], 0), after.get(keys[0], 0)) == (change.old, change.new)
            assert all(
                (key in before, key in after) == (change.change != "set", change.change != "cleared") for key in keys
            )
        assert told == wanted
        assert sum(change.entries for change in step.table_changes) == len(told)
    assert run.steps[0].table_changes


def test_a_gigabyte_in_large_pages_is_one_run_for_direct_map_and_one_for_struct_pages(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["rehearse", "--machine", "x86-vm", "--plug", "1G", "--tables", "--json"]) == 0
    changes = json.loads(capfd.readouterr().out)["steps"][0]["table_changes"]
    leaves = [(each["level"], each["entries"]) for each in changes if each["what"] == "leaf"]
    assert sorted(leaves) in ([("PMD", 8), ("PMD", 512)], [("PMD", 8), ("PUD", 1)])
    assert main(["rehearse", "--machine", "x86-vm", "--plug", "1G", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["steps"][0]["table_changes"] == []
