"""What steps are called in reports: their kind and what was written of them, in a few words."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

from memhp.printable import printable
from memhp.scenario import schema
from memhp.units import exact_size

SIZES = frozenset({"size", "to", "requested", "block_size", "target", "unpopulated"})
"""Keys of steps whose value is a size."""


def title(step: schema.StepKind) -> str:
    """A step in a few words: ``plug 2G dimm``."""
    if step.name:
        return printable(step.name)
    tag = step.__struct_config__.tag
    parts = [str(tag)]
    for name in step.__struct_fields__:
        value = getattr(step, name)
        default = dict(zip(reversed(step.__struct_fields__), reversed(step.__struct_defaults__), strict=False))
        if name in {"expect", "name"} or (name in default and value == default[name]) or value in ([], {}):
            continue
        if value is False:
            parts.append(f"no {name}")
        else:
            parts.append(name if value is True or name == "faults" else f"{name} {_value_text(name, value)}")
    return printable(" ".join(parts))


def _value_text(name: str, value: Any) -> str:
    """A value as people write it in few words; bytes that came as a number are a size or an address."""
    if name in SIZES and isinstance(value, int):
        return exact_size(value)
    if name == "at" and isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, schema.Injected):
        which = f"of {value.allocation}" if value.allocation else f"{value.error} of {value.notifier}"
        return which if value.nth == 1 else f"{which} number {value.nth}"
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
