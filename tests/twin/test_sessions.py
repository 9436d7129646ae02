"""Random sessions of tools on two twins at once: what is heard of each read is nothing that a tool can tell."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from session_sides import twin_side
from tool_sessions import Drawn
from twin_runs import needs_a_twin, scenario

MACHINE = """
[machine]
arch = "x86_64"
profile = "7.2"
memory = "1G"
cpus = 2
boot = { memhp_default_state = "online_movable" }
"""
ACTS = 25


@pytest.mark.parametrize("seed", [5, 8])
def test_two_clients_and_a_shell_see_the_same_on_a_twin_that_hears_of_each_read(tmp_path: Path, seed: int) -> None:
    needs_a_twin()
    folders = [tmp_path / name for name in ("heard", "kept")]
    for folder in folders:
        folder.mkdir()
    machine, drawn, devices = Path(scenario(tmp_path, MACHINE)), Drawn(seed), 0
    with twin_side(machine, folders[0], exact=True) as heard, twin_side(machine, folders[1], exact=False) as kept:
        for _ in range(ACTS):
            drawn.learn(heard)
            devices = max(devices, len(drawn.world.devices))
            act = drawn.act()
            assert heard.do(act) == kept.do(act), act
    assert devices
