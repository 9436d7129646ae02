"""Hot-add when memory runs out half-way: every allocation that it makes may fail, up to two in an execution.

Tables, struct pages, altmaps and block devices are asked for one after the other. When one cannot be had, what was made
by then is to be taken back, so that the machine is what it was before; and when memory is there again, the same add is
to succeed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator

from memhp.check import breaches_of, snapshot
from memhp.errors import KernelError
from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits
from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, TiB

TWO_BLOCKS = "two-blocks"
"""Part of the name of variants whose DIMM is two memory blocks, of a section each."""


class WholeRuns:
    """Allocations fail as the explorer says; all else is done on whole runs: there is nobody to do it in between.

    Loops that allocate are cut in half, so that what fails is the first half or the second.
    """

    def __init__(self, hw: Machine) -> None:
        assert hw.stepper is not None
        self._hw, self._stepper = hw, hw.stepper

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails this time."""
        self._hw.stepper = self._stepper
        fails = self._stepper.fails(site)
        self._hw.stepper = None
        return fails

    def parts(self, count: int) -> Iterator[int]:
        """The halves of a loop of `count` rounds are asked about each."""
        return (half for half in (count // 2, count - count // 2) if half)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is plugged, as far up as memory may be, 16 TiB at most; it is added until that succeeds."""
    config = variant.config(configuration)
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, GiB),)))
    size = k.memory_block_size * (2 if TWO_BLOCKS in variant.name else 1)
    last = k.port.arch_get_mappable_range(k).end - size
    start = min(16 * TiB, 1 << last.bit_length() - 1)
    dimm = Span(start, start + size)
    k.hw.plug(pfns(k, dimm), Owner(Use.DEVICE, "dimm"))
    return KernelProgram(k, (_adder(k, dimm),), ("hot-add",), frozenset({0}), laws_hold)


def _adder(before: Kernel, dimm: Span) -> Callable[[Kernel], Hashable]:
    """Who adds the DIMM until it is in; after each add that fails the machine must be what it was before."""
    as_it_was = snapshot(before)
    flags = MHP_NONE if before.config.memmap_on_memory == "N" else MHP_MEMMAP_ON_MEMORY

    def hot_add(k: Kernel) -> Hashable:
        stepper = k.hw.stepper
        k.hw.faults, k.hw.stepper = WholeRuns(k.hw), None
        failed: list[str] = []
        while True:
            try:
                add_memory(k, 0, dimm.start, dimm.size, flags)
                break
            except KernelError as error:
                failed.append(error.name)
                breach = next(iter(breaches_of(k, as_it_was)), None)
                if breach is not None:
                    k.hw.violations.append(Violation(breach.law, f"after {error.name}: {breach.text}", error.place))
                    break
        k.hw.stepper = stepper
        return tuple(failed)

    return hot_add


EVERYWHERE = mainline()
SELF_HOSTED = {"memmap_on_memory": "Y", "rodata_full": False}
FINDING = "An add that runs out of memory half-way"
"""The heading in docs/findings.md."""

CASE = Case(
    name="hotadd-allocation-failure",
    actors="hot-add, of which every allocation may fail",
    build=build,
    limits=Limits(executions=20_000, failures=2),
    geometry="allocations are the only points of choice; of a run of base pages the first or the second half fails",
    variants=(
        Variant(
            "one-block",
            "a DIMM of one block and section, as kernels of today add it",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
            finding=FINDING,
        ),
        Variant(
            TWO_BLOCKS,
            "a DIMM of two blocks and sections, as kernels of today add it",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
            finding=FINDING,
        ),
        Variant(
            "memmap-on-memory",
            "a DIMM of one block that is to host its own struct pages, as kernels of today add it",
            "repaired",
            EVERYWHERE,
            options=SELF_HOSTED,
            finding=FINDING,
        ),
        Variant(
            "table-failure-handled",
            "one block; no memory for a table of the direct map is an error, as in 7.2, and not a BUG_ON()",
            "repaired",
            configurations("linux-6.12", "arm64"),
            {"create_may_fail": True},
            options={"rodata_full": False},
        ),
        Variant(
            "altmap-forgotten",
            "5.13: add_memory_resource() takes back a self-hosted block without its altmap",
            "broken",
            configurations("linux-5.13", "arm64", "x86_64", page_size=4 * KiB),
            options=SELF_HOSTED,
        ),
    ),
)
