"""/proc/cpuinfo: what each CPU is and can do, as far as memory hotplug depends on it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass

from memhp.errors import BadInput

MIDR_FIELDS = (
    ("CPU implementer", 24),
    ("CPU variant", 20),
    ("CPU part", 4),
    ("CPU revision", 0),
)
"""Lines of arm64 and the bits of MIDR_EL1 that they show (``arch/arm64/kernel/cpuinfo.c:c_show``)."""
MIDR_ARCHITECTURE = 0xF << 16
"""What the field that has no line is in every ARMv8 CPU."""


@dataclass(frozen=True)
class Cpuinfo:
    """The CPUs of a machine."""

    flags: frozenset[str] = frozenset()
    """What all of them can do: `flags` of x86, `Features` of arm64."""
    midrs: frozenset[int] = frozenset()
    """arm64: the identities (MIDR_EL1) that there are."""


def parse(text: str, *, where: str = "/proc/cpuinfo") -> Cpuinfo:
    """The text of the file. Raises :class:`BadInput` for numbers that are none."""
    flags: list[frozenset[str]] = []
    midrs: set[int] = set()
    for cpu in _cpus(text):
        words = cpu.get("flags", cpu.get("Features"))
        if words is not None:
            flags.append(frozenset(words.split()))
        if "CPU implementer" in cpu:
            midrs.add(_midr(cpu, where))
    return Cpuinfo(frozenset.intersection(*flags) if flags else frozenset(), frozenset(midrs))


def _cpus(text: str) -> Iterator[dict[str, str]]:
    for paragraph in text.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.splitlines())
        cpu = {name.strip(): value.strip() for name, colon, value in lines if colon}
        if cpu:
            yield cpu


def _midr(cpu: dict[str, str], where: str) -> int:
    midr = MIDR_ARCHITECTURE
    for name, shift in MIDR_FIELDS:
        try:
            midr |= int(cpu.get(name, "0"), 0) << shift
        except ValueError:
            raise BadInput(f"'{name}' is no number: {cpu[name]!r}", where=where) from None
    return midr
