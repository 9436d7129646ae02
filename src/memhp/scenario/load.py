"""Reading scenario files: TOML in, a checked :class:`Scenario` out, or one line that says what to change."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from memhp.check import LAWS
from memhp.errors import ERRNO_NAMES, BadInput, one_of, slip_of
from memhp.inputs import read_input
from memhp.limits import SCENARIO_DEPTH, SCENARIO_SIZE, SCENARIO_STEPS
from memhp.scenario.examples import example_at, examples
from memhp.scenario.explain import explained, quoted
from memhp.scenario.schema import Offline, Online, Scenario

OUTCOMES = ("ok", "OOM", "BUG", "PANIC", *sorted(ERRNO_NAMES.values()))
"""How a step can end, and so what it can be expected to: well, at the price of a process, with an errno, or with the
end of the machine."""


_PART = r"""(?>[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*+(?:{_PART}){{{SCENARIO_DEPTH.most}}}", re.MULTILINE)
"""Where a key with more parts than a scenario may be deep begins: tomllib takes the square of their number of steps."""


def load(path: Path) -> Scenario:
    """The scenario in a TOML file, or the example of that name, or on stdin for ``-``.

    Raises :class:`BadInput` with file and key.
    """
    try:
        data = read_input(example_at(path), SCENARIO_SIZE)
        text = data.decode("utf-8-sig")
    except OSError as error:
        near = slip_of(path.stem, (each.stem for each in examples())) if not path.exists() else None
        fix = f"did you mean examples/{near}.toml?" if near else "name a TOML file, or use --machine"
        raise BadInput(f"cannot read the scenario: {error.strerror}", where=str(path), fix=fix) from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"not a text file: byte {error.start} is not UTF-8", where=str(path), fix="scenarios are TOML in UTF-8"
        ) from None
    return _beside(loads(text, where=str(path)), example_at(path).parent)


def _beside(scenario: Scenario, folder: Path) -> Scenario:
    """The scenario with the source of its machine where the file names it: from its own folder on, if that is there."""
    source = scenario.machine.source
    if source is None or not (folder / source).exists():
        return scenario
    machine = msgspec.structs.replace(scenario.machine, source=os.path.normpath(folder / source))
    return msgspec.structs.replace(scenario, machine=machine)


def loads(text: str, *, where: str = "scenario") -> Scenario:
    """The scenario in TOML text; `where` names its origin in errors."""
    data = toml(text, where=where)
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise explained(error, data, where) from None
    if len(scenario.steps) > SCENARIO_STEPS.most:
        raise SCENARIO_STEPS.refusal(f"{where}: steps")
    for index, step in enumerate(scenario.steps):
        if step.expect not in OUTCOMES:
            raise BadInput(
                f"no step can end in {quoted(step.expect)}",
                where=f"{where}: steps[{index}].expect",
                fix=_outcome_meant(step.expect),
            )
        if isinstance(step, Online | Offline) and step.blocks is not None:
            for key in ("at", "size"):
                if getattr(step, key) is not None:
                    raise BadInput(
                        f"`blocks` and `{key}` both say which blocks",
                        where=f"{where}: steps[{index}].{key}",
                        fix="leave one of them out",
                    )
    proximity = scenario.machine.proximity or []
    if len(set(proximity)) < len(proximity):
        twice = next(domain for place, domain in enumerate(proximity) if domain in proximity[:place])
        raise BadInput(
            f"domain {twice} stands there twice", where=f"{where}: machine.proximity", fix="name each domain once"
        )
    laws = [law.name for law in LAWS]
    for index, law in enumerate(scenario.breaks):
        if law not in laws:
            raise BadInput(f"there is no law {quoted(law)}", where=f"{where}: breaks[{index}]", fix=one_of(law, laws))
    return scenario


def toml(text: str, *, where: str) -> dict[str, Any]:
    """TOML text as a table, no deeper than scenarios may be. Raises :class:`BadInput`."""
    if _LONG_KEY.search(text):
        raise SCENARIO_DEPTH.refusal(where)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise SCENARIO_DEPTH.refusal(where) from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=where) from None
    except ValueError as error:  # of a number or a date that Python cannot hold
        raise BadInput(f"not TOML that can be read: {str(error).partition(':')[0]}", where=where) from None
    if _deeper(data, SCENARIO_DEPTH.most):
        raise SCENARIO_DEPTH.refusal(where)
    return data


def _deeper(data: object, most: int) -> bool:
    """Whether tables and lists are nested deeper than that."""
    level = [data]
    for _ in range(most):
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
    return bool(level)


def _outcome_meant(got: str) -> str:
    near = get_close_matches(got.upper()[:32], OUTCOMES, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "ok, OOM, BUG, PANIC or the name of an errno such as EBUSY"
