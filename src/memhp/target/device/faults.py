"""Faults of a served device, as people write them: ``answer=BUSY request=PLUG count=2 delay=0.5``.

The keys are those of ``faults`` in a scenario; ``count=all`` is about every request from the first on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

import msgspec

from memhp.errors import BadInput, one_of
from memhp.hw.devices.virtio_mem import Geometry
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.scenario.schema import Fault
from memhp.target.model.virtio_mem import fault_rules
from memhp.units import is_aligned

MOST_FAULTS = 1000
"""Faults that a device has at once: each is looked at for each request."""


def parse_fault(text: str, *, where: str) -> Fault:
    """A fault out of words ``KEY=VALUE``. Raises :class:`BadInput` naming the key."""
    told: dict[str, str | None] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or key not in Fault.__struct_fields__:
            raise BadInput(f"want KEY=VALUE, got {word!r}", where=where, fix=one_of(key, Fault.__struct_fields__))
        told[key] = None if (key, value) == ("count", "all") else value
    try:
        return msgspec.convert(told, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), where=where, fix='such as "request=PLUG answer=BUSY count=2"') from None


def checked_rules(faults: Sequence[Fault], geometry: Geometry, *, where: str) -> list[Rule]:
    """What the faults do to requests. Raises :class:`BadInput` for sizes that the device cannot have."""
    rules = fault_rules(faults, where=where)
    for place, rule in enumerate(rules):
        for key, size in (("requested", rule.requested_after), ("usable", rule.usable_after)):
            if size is not None and (size > geometry.region_size or not is_aligned(size, geometry.block_size)):
                fix = f"a multiple of {geometry.block_size:#x}, at most {geometry.region_size:#x}"
                raise BadInput(f"{size:#x} is no size of this device", where=f"{where}[{place}].{key}", fix=fix)
    return rules


def fault_text(fault: Fault) -> str:
    """A fault in words that :func:`parse_fault` reads."""
    told = {**msgspec.to_builtins(fault), "count": "all" if fault.count is None else fault.count}
    return " ".join(f"{key}={value}" for key, value in told.items() if value not in (None, 0))
