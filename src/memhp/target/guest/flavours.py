"""The kernels that can be asked for by name: a series and a flavour, ``7.2:cloud-amd64``.

A flavour is a build of a distribution: an architecture, its page size, and what was configured. An architecture's name
stands for the flavour that takes part in most of hotplug.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass

from memhp.errors import BadInput


@dataclass(frozen=True)
class Flavour:
    """A build of the kernel: the package architecture it is built for, and memhp's name of that architecture."""

    name: str
    deb_arch: str
    arch: str


FLAVOURS = {
    each.name: each
    for each in (
        Flavour("cloud-amd64", "amd64", "x86_64"),
        Flavour("amd64", "amd64", "x86_64"),
        Flavour("cloud-arm64", "arm64", "arm64"),
        Flavour("arm64", "arm64", "arm64"),
        Flavour("arm64-16k", "arm64", "arm64"),
        Flavour("riscv64", "riscv64", "riscv64"),
        Flavour("loong64", "loong64", "loongarch64"),
    )
}
"""Every flavour by name."""

ALIASES = {"x86_64": "cloud-amd64", "aarch64": "arm64", "riscv": "riscv64", "loongarch64": "loong64"}
"""Names of architectures, and the flavour that each stands for."""

SUITES = ("bookworm", "trixie", "trixie-backports", "sid")
"""The suites whose indices are read: 6.1 is in the first, 6.12 in the second, the newest in the last."""

DEFAULTS = ("6.12:cloud-amd64", "7.2:cloud-amd64", "6.12:arm64", "7.2:arm64", "6.12:riscv64", "7.2:riscv64")
"""What is fetched when nothing is named: two series on three architectures."""


@dataclass(frozen=True)
class Wanted:
    """A kernel asked for: its series (``7.2``), or a whole release, and its flavour."""

    series: str
    flavour: Flavour

    def __str__(self) -> str:
        return f"{self.series}:{self.flavour.name}"


def wanted(text: str, *, where: str = "--kernel") -> Wanted:
    """``SERIES:FLAVOUR`` as people write it. Raises :class:`BadInput`, which lists the flavours."""
    series, colon, name = text.partition(":")
    flavour = FLAVOURS.get(ALIASES.get(name, name))
    if not colon or not re.fullmatch(r"\d+\.\d+(\.\d+\S*)?", series) or flavour is None:
        raise BadInput(
            f"want SERIES:FLAVOUR such as 7.2:arm64, got {text!r}",
            where=where,
            fix=f"flavours: {', '.join(FLAVOURS)}",
        )
    return Wanted(series, flavour)
