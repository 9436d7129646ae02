"""Drivers that could not take a dax device: no resource and no block tells of it, the kernel's log does.

What they left behind, struct pages of which ``memunmap_pages()`` never heard say, is in the facts of every later
moment, so the model has to try the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator

from memhp.errors import ERRNO_NAMES
from memhp.facts.observed import Facts
from memhp.scenario import schema
from memhp.target.model.dax import DRIVERS

_PROBE = re.compile(r"(?:device_dax|kmem) (dax\d+\.\d+): probe with driver (device_dax|kmem) failed with error -(\d+)")
"""``drivers/base/dd.c:call_driver_probe``."""


def new_lines(before: Facts, after: Facts) -> list[str]:
    """What the kernel logged between two moments."""
    logs = [[] if each.log is None else [line.text for line in each.log.lines] for each in (before, after)]
    return logs[1][len(logs[0]) :]


def refused_bindings(before: Facts, after: Facts) -> Iterator[schema.Dax]:
    """The steps that failed, in their order, each with the errno that the kernel logged."""
    attributes = {each.name: each.memmap_on_memory for each in after.dax}
    for match in filter(None, map(_PROBE.fullmatch, new_lines(before, after))):
        device, driver, errno = match.groups()
        yield schema.Dax(
            device=device,
            mode=DRIVERS[driver],
            memmap_on_memory=attributes.get(device),
            expect=ERRNO_NAMES[int(errno)],
        )
