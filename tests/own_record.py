"""A record of variables that actors of a test share, on a small machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.hw.shared import SharedMap, marked
from memhp.linux.lib.percpu_refcount import PercpuRef
from memhp.linux.state import Kernel

MACHINE = Configuration("riscv64", 4096, 48)


@dataclass
class Own:
    """What actors share, and what one of them saw."""

    word: int = field(default=0, metadata=marked("word"))
    other: int = field(default=0, metadata=marked("other"))
    by_cpu: dict[int, int] = field(default_factory=dict, metadata=marked("by cpu"))
    last: int = field(default=0, metadata=marked("by cpu"))
    marked: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 1}, metadata=marked("marked"))
    plain: int = 0
    gone: int = 0
    numbers: list[int] = field(default_factory=lambda: [0, 0])
    table: dict[str, int] = field(default_factory=lambda: {"a": 1})
    spans: SharedMap[int] = field(default_factory=SharedMap)
    ref: PercpuRef | None = None
    saw: object = None


def machine() -> Kernel:
    k = boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))
    k.statics(Own)
    return k


def own(k: Kernel) -> Own:
    return k.statics(Own)
