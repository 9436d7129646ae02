"""What claims are decided by: rehearsals, matrix rows and geometry, each made once and kept."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from typing import Any

import msgspec

from memhp.explore.case import Case
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Verdict
from memhp.linux.choices import Arch
from memhp.linux.config import Config, configs
from memhp.linux.geometry import Row, geometry
from memhp.linux.init import start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.result import Run, Tables
from memhp.scenario.schema import MachineText, Plug, Scenario
from memhp.target.model.matrix import MatrixRow, life_cycle
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.session import Session
from memhp.target.model.steps import plug
from memhp.units import GiB, format_count


@cache
def row(config: Config) -> MatrixRow:
    """One configuration's life cycle: see ``memhp matrix``."""
    return life_cycle(config)


def rows(arch: Arch, *profiles: str) -> list[MatrixRow]:
    """The life cycles of every configuration of an architecture in some kernels."""
    return [row(config) for name in profiles for config in configs(profile(name), [arch])]


def sizes(arch: Arch, *profiles: str, max_possible: int | None = None) -> list[Row]:
    """The geometry of every configuration of an architecture in some kernels, with 4 GiB of RAM."""
    wanted = [config for name in profiles for config in configs(profile(name), [arch])]
    return geometry(wanted, ram_size=4 * GiB, device_block_size=2 << 20, max_possible=max_possible)


def run(machine: dict[str, Any], *steps: dict[str, Any], tables: bool = False) -> Run:
    """A rehearsal of a scenario written as a dict, as a TOML file would say it; with what page tables became."""
    scenario = msgspec.convert({"machine": machine, "steps": list(steps)}, Scenario)
    return rehearse_scenario(scenario, where="claim", tables=tables)[0]


def kernel(machine: dict[str, Any]) -> Kernel:
    """A machine that has just booted, described as a scenario would."""
    return start_kernel(machine_spec(msgspec.convert(machine, MachineText), where="claim"))


def added(k: Kernel, size: int, at: int | None = None) -> Session:
    """Add `size` bytes of memory at `at` (physical; None: above all there is), offline; the session that did it."""
    session = Session(k)
    plug(session, Plug(size=size, at=at))
    return session


def explored(race: Case, variant: str, configuration: str) -> Verdict:
    """Whether a variant of a race is safe on a configuration, over every schedule."""
    run = race.program(variant, configuration).run()
    run.tell_apart(frozenset())
    return search(run, race.limits)


def told(variant: str, verdict: Verdict) -> str:
    """A verdict in a figure: how many classes of executions were looked at, or what goes wrong."""
    if verdict.failure is not None:
        return f"{variant} {verdict.word} ({verdict.failure.reason})"
    return f"{variant} {verdict.word} ({format_count(verdict.coverage.executions, 'class')})"


def table_count(tables: Tables) -> int:
    """Table frames of all levels."""
    return sum(getattr(tables, name) for name in tables.__struct_fields__)


def broken_laws(run: Run) -> list[str]:
    """Names of the laws that did not hold at some step."""
    return [law.law for law in run.laws if not law.held]
