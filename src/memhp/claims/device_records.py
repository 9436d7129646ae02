"""Records of real guests with the served device, held against the modelled driver.

A record is made by :func:`memhp.target.device.live.lived` (tests/guests/test_device.py); those of riscv64 with
Debian's kernels and the driver built as a module, as docs/device.md says.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from importlib.resources import files
from typing import NamedTuple

import msgspec

from memhp.target.device.life import LIFE, Record, foretold


class Held(NamedTuple):
    """How a record and the model agree."""

    release: str
    equal: int
    """Steps with the same requests, device memory and memory blocks."""
    steps: int
    requests: int


def records() -> list[Record]:
    """Every record that comes with memhp, by release."""
    folder = files("memhp.claims") / "records"
    found = [
        msgspec.json.decode(each.read_bytes(), type=Record) for each in folder.iterdir() if each.name.endswith(".json")
    ]
    return sorted(found, key=lambda each: each.release)


def held(record: Record) -> Held:
    """A record beside what the modelled driver of its kernel does with the same device."""
    steps = zip(record.steps, foretold(record.arch, record.release), strict=True)
    equal = sum(real == modelled for real, modelled in steps)
    return Held(record.release, equal, len(LIFE), sum(len(step.requests) for step in record.steps))
