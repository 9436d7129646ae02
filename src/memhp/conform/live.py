"""A scenario on a kernel in QEMU and on the model of that guest; and the scenarios that every kernel should pass."""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from memhp.conform.compare import Comparison, add_lost
from memhp.conform.lockstep import Progress, conform
from memhp.errors import BadInput
from memhp.scenario.load import load
from memhp.scenario.schema import Scenario
from memhp.target.device.served_guest import check_scenario, target_for
from memhp.target.guest.agent import GuestLost, GuestSlow
from memhp.target.guest.cache import Cache
from memhp.target.guest.qemu import GuestSpec, Qemu

FOLDER = Path(__file__).parent / "scenarios"

Begun = Callable[[str], None]
"""Called with what is compared next."""


def standard() -> list[Path]:
    """The scenarios that come with memhp for this: together they take every way in which a guest's memory changes."""
    return sorted(FOLDER.glob("*.toml"))


def conform_guest(
    cache: Cache,
    qemu: Qemu,
    spec: GuestSpec,
    scenario: Scenario,
    *,
    where: str,
    progress: Progress = lambda *_: None,
    until: float = math.inf,
) -> Comparison:
    """Start a guest for a scenario, and carry it out there and on the model.

    Raises :class:`BadInput` for steps that the guest cannot do, before it starts, and :class:`GuestSlow` when
    ``time.monotonic()`` is past `until` before a step.
    """

    def step(index: int, title: str) -> None:
        if time.monotonic() > until:
            raise GuestSlow("time is up")
        progress(index, title)

    check_scenario(spec, scenario, where=where)
    with target_for(cache, qemu, spec, scenario) as target:
        return conform(target, scenario.steps, where=where, progress=step)


def conform_kernels(
    cache: Cache,
    guests: Sequence[tuple[Qemu, GuestSpec]],
    files: Sequence[Path],
    *,
    begun: Begun = lambda _: None,
    until: float = math.inf,
) -> dict[str, Comparison | str]:
    """Scenarios on guests, by name: what was compared, or why it was not.

    A scenario that names an architecture is for kernels of that one. A guest that is too slow is not compared; one that
    dies is a difference.
    """
    found: dict[str, Comparison | str] = {}
    for file in files:
        scenario = load(file)
        for qemu, spec in guests:
            if scenario.machine.arch not in {None, spec.kernel.arch}:
                continue
            name = f"{file.stem} on {spec.kernel.release}"
            if time.monotonic() > until:
                found[name] = "time is up"
                continue
            begun(name)
            try:
                found[name] = conform_guest(cache, qemu, spec, scenario, where=str(file), until=until)
            except (BadInput, GuestSlow) as error:
                found[name] = str(error)
            except GuestLost as error:
                died = Comparison()
                add_lost(died, name, error)
                found[name] = died
    return found
