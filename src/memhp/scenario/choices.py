"""Profile choices by name, so that a scenario can ask what a kernel with one decision changed would do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping

from msgspec.structs import replace

from memhp.errors import BadInput
from memhp.linux.choice import Told
from memhp.linux.choices import Arch, Profile
from memhp.scenario.schema import Scenario


def with_told(scenario: Scenario, told: Mapping[str, Told]) -> Scenario:
    """The same scenario on a kernel that makes these choices too, over those that the machine names itself."""
    machine = scenario.machine
    return replace(scenario, machine=replace(machine, choices={**machine.choices, **told}))


def with_choices(profile: Profile, arch: Arch, wanted: Mapping[str, object], *, where: str) -> Profile:
    """A profile with some choices changed: the architecture's own, or those that all share.

    Raises :class:`BadInput`, with `where` before the name of the choice, for one that there is not, or a value that it
    cannot have.
    """
    profile.arch(arch)
    try:
        return profile.choosing(arch, wanted)
    except BadInput as error:
        told = isinstance(wanted.get(error.where), Told)
        place = f"--choice {error.where}" if told else f"{where}.{error.where}"
        raise BadInput(error.message, where=place, fix=error.fix) from None
