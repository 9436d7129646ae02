"""A life as a scenario file: what a difference is kept as, to be played again on any target."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from collections.abc import Sequence

import msgspec

from memhp.conform.life_results import Life
from memhp.scenario.schema import Resize, StepKind


def toml_value(value: object) -> str:
    """A value of a step, inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return str(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)


def toml_step(step: StepKind) -> str:
    """A step as an inline table, defaults left out."""
    given = msgspec.to_builtins(step)
    default = dict(zip(reversed(step.__struct_fields__), reversed(step.__struct_defaults__), strict=False))
    said = [f"{key} = {toml_value(value)}" for key, value in given.items() if key == "do" or value != default.get(key)]
    return f"{{ {', '.join(said)} }}"


def scenario_text(life: Life, first: Sequence[StepKind], machine: dict[str, object], release: str, append: str) -> str:
    """The scenario file: what differed on which kernel as a comment, the machine, and the steps of the life."""
    differing = [f"# {each.fact}: kernel {each.expected!r}, model {each.got!r}" for each in life.details]
    told = [*first, *(step for step in life.steps[len(first) :])]
    said = ", ".join(f"{key} = {toml_value(value)}" for key, value in machine.items())
    where = f"{release} with {append!r}" if append else release
    lines = [
        f"# A random life of {where}, after whose last step these facts differed:",
        *differing,
        f"machine = {{ {said} }}",
        "steps = [",
        *(f"  {toml_step(_without_device(step))}," for step in told),
        "]",
    ]
    return "\n".join(lines) + "\n"


def _without_device(step: StepKind) -> StepKind:
    return msgspec.structs.replace(step, device=None) if isinstance(step, Resize) else step
