"""The kernels that can be asked for by name: a series and a flavour, ``7.2:cloud-amd64``.

A flavour is a build of a distribution: an architecture, its page size, and what was configured. An architecture's name
stands for the flavour that takes part in most of hotplug.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.linux.arch.registry import arch_called
from memhp.target.guest.machines import MACHINES


@dataclass(frozen=True)
class Flavour:
    """A build of the kernel, and the architecture it is built for."""

    name: str
    arch: str

    @property
    def deb_arch(self) -> str:
        """The package architecture."""
        return MACHINES[self.arch].deb_arch


FLAVOURS = {
    each.name: each
    for each in (
        Flavour("cloud-amd64", "x86_64"),
        Flavour("amd64", "x86_64"),
        Flavour("cloud-arm64", "arm64"),
        Flavour("arm64", "arm64"),
        Flavour("arm64-16k", "arm64"),
        Flavour("riscv64", "riscv64"),
        Flavour("loong64", "loongarch64"),
    )
}
"""Every flavour by name."""

SUITES = ("bookworm", "trixie", "trixie-backports", "sid")
"""The suites whose indices are read: 6.1 is in the first, 6.12 in the second, the newest in the last."""

DEFAULTS = tuple(f"{series}:{row.flavour}" for row in MACHINES.values() if row.unasked for series in ("6.12", "7.2"))
"""What is fetched when nothing is named: two series of each architecture that is fetched unasked."""


@dataclass(frozen=True)
class Wanted:
    """A kernel asked for: its series (``7.2``), or a whole release, and its flavour."""

    series: str
    flavour: Flavour

    def __str__(self) -> str:
        return f"{self.series}:{self.flavour.name}"


def flavour_called(name: str) -> Flavour | None:
    """The flavour of that name, or the one that stands for the architecture of that name; None if there is neither."""
    arch = None if name in FLAVOURS else arch_called(name)
    return FLAVOURS.get(name if arch is None else MACHINES[arch].flavour)


def wanted(text: str, *, where: str = "--kernel") -> Wanted:
    """``SERIES:FLAVOUR`` as people write it. Raises :class:`BadInput`, which lists the flavours."""
    series, colon, name = text.partition(":")
    flavour = flavour_called(name)
    if not colon or not re.fullmatch(r"\d+\.\d+(\.\d+\S*)?", series) or flavour is None:
        raise BadInput(
            f"want SERIES:FLAVOUR such as {DEFAULTS[-1]}, got {text!r}",
            where=where,
            fix=f"flavours: {', '.join(FLAVOURS)}",
        )
    return Wanted(series, flavour)
