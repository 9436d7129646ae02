"""The example scenarios, each rehearsed once for all tests of what it shows."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from pathlib import Path

from memhp.linux.state import Kernel
from memhp.scenario.load import load
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.toml"))


@cache
def rehearsed(name: str) -> tuple[Run, Kernel]:
    """The run of an example and the machine at its end, which nobody may change."""
    return rehearse_scenario(load(ROOT / "examples" / name), where=name)
