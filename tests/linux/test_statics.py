"""Variables of one kernel file: there once a kernel, copied with it, and announced where CPUs share them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from kernels import kernel
from memhp.hw.shared import SharedMap
from memhp.hw.stepper import Access, EachAlone, Part
from memhp.linux.state import Kernel


@dataclass
class Counters:
    """The variables of a file that no kernel has."""

    number: int = 3
    by_pfn: SharedMap[int] = field(default_factory=SharedMap)


class Listener(EachAlone):
    """A stepper that keeps what is announced to it."""

    listens = True

    def __init__(self) -> None:
        self.heard: list[tuple[Part, bool]] = []
        """What was accessed, and whether written."""

    def step(self, access: Access) -> None:
        raise AssertionError(access)

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        self.heard.append((Part(name, start, end), write))

    def fails(self, site: str) -> bool:
        raise AssertionError(site)

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        raise AssertionError(why)


def heard_of(k: Kernel) -> list[tuple[Part, bool]]:
    k.hw.stepper = listener = Listener()
    k.statics(Counters).by_pfn.get(7)
    k.hw.stepper = None
    return listener.heard


def test_a_copy_of_a_kernel_has_copies_of_them() -> None:
    k = kernel("riscv64")
    k.statics(Counters).number = 4
    k.statics(Counters).by_pfn.set(5, 9, 1)
    copy = deepcopy(k)
    k.statics(Counters).number = 5
    k.statics(Counters).by_pfn.clear(5, 9)
    assert copy.statics(Counters).number == 4
    assert list(copy.statics(Counters).by_pfn) == [(5, 9, 1)]
    assert kernel("riscv64").statics(Counters) == Counters()


def test_shared_ones_announce_accesses_to_the_machine_of_their_kernel() -> None:
    k = kernel("riscv64")
    read = [(Part("Counters.by_pfn", 7, 8), False)]
    assert heard_of(k) == read
    copy = deepcopy(k)
    assert heard_of(copy) == read
    copy.hw.stepper = listener = Listener()
    k.statics(Counters).by_pfn.get(7)
    assert listener.heard == []
