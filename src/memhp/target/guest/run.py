"""A scenario on a kernel in QEMU: its guest started, its steps carried out, each with what the kernel logged."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

from memhp.scenario.schema import Scenario
from memhp.scenario.titles import title
from memhp.target.device.served_guest import check_scenario, target_for
from memhp.target.guest.cache import Cache
from memhp.target.guest.observe import step_files
from memhp.target.guest.qemu import GuestSpec, Qemu

Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class GuestStep:
    """How one step ended: `result` is None where the guest cannot tell."""

    title: str
    expect: str
    result: str | None
    reason: str
    log: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        """Whether it ended as the scenario says; what cannot be told is no surprise."""
        return self.result in {None, self.expect}


@dataclass
class Played:
    """A scenario as a guest played it; `captures` are the files of every step, if they were to be kept."""

    release: str
    boot_seconds: float
    steps: list[GuestStep] = field(default_factory=list)
    captures: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every step ended as the scenario says."""
        return all(step.as_expected for step in self.steps)


def run_scenario(
    cache: Cache,
    qemu: Qemu,
    spec: GuestSpec,
    scenario: Scenario,
    *,
    where: str,
    keep: bool = False,
    progress: Progress | None = None,
) -> Played:
    """Start a guest for a scenario and carry out its steps. Raises :class:`BadInput` before anything starts."""
    check_scenario(spec, scenario, where=where)
    with target_for(cache, qemu, spec, scenario) as target:
        guest = target.guest
        played = Played(guest.release, guest.boot_seconds)
        seen = len(target.log())
        if keep:
            played.captures["0-boot"] = step_files(guest, pages=True)
        for index, step in enumerate(scenario.steps):
            if progress is not None:
                progress(index, title(step))
            done = target.carry_out(step)
            log = target.log()
            played.steps.append(GuestStep(title(step), step.expect, done.result, done.reason, log[seen:]))
            seen = len(log)
            if keep:
                tag = step.__struct_config__.tag
                played.captures[f"{index + 1}-{tag}"] = step_files(guest, pages=True)
    return played
