"""What the cases share: the machine that they start from, its DIMM, and paths of the kernel that are often actors.

The machines have 1 GiB of RAM at boot (2 GiB where memory blocks are that large) and real page-table geometry; the
DIMM is one memory block above it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from contextlib import suppress

from memhp.check import breaches_of, snapshot
from memhp.check.snapshot import Snapshot
from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.pgd import INIT_MM
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB

DIMM_AT = 8 * GiB


def boot(config: Config, *, ram: int = GiB) -> Kernel:
    """A machine that has just booted, with a DIMM of one memory block plugged that the kernel does not know yet."""
    k = start_kernel(MachineSpec("explored", config, (Ram(config.port.ram_start, ram),)))
    k.hw.plug(pfns(k, dimm(k)), Owner(Use.DEVICE, "dimm"))
    return k


def dimm(k: Kernel) -> Span:
    """The bytes of the DIMM."""
    return Span(DIMM_AT, DIMM_AT + k.memory_block_size)


def pfns(k: Kernel, span: Span) -> Span:
    """Bytes as PFNs."""
    return Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)


def hot_add(k: Kernel) -> None:
    """``add_memory()`` of the DIMM."""
    add_memory(k, 0, *_start_size(dimm(k)), MHP_NONE)


def hot_remove(k: Kernel) -> None:
    """``remove_memory()`` of the DIMM, whose block is offline."""
    remove_memory(k, *_start_size(dimm(k)))


def take_pages(k: Kernel) -> Hashable:
    """Anybody's allocation of a block as large as the storage of a section's struct pages under a PMD leaf."""
    order = k.config.format.levels[1].shift - k.config.page_shift
    owner = Owner(Use.KERNEL, "someone else")
    return tuple(alloc_pages(k, order, 0, owner=owner, where="mm/page_alloc.c:alloc_pages"))


def refused(actor: Callable[[Kernel], object]) -> Callable[[Kernel], str | None]:
    """An actor whose refusal is an answer like any other."""

    def with_refusal(k: Kernel) -> str | None:
        with suppress(KernelError):
            actor(k)
            return None
        return "refused"

    return with_refusal


def laws_hold(k: Kernel) -> str | None:
    """The first law of :mod:`memhp.check` that does not hold when all is done."""
    return next((f"{breach.law}: {breach.text}" for breach in breaches_of(k)), None)


def reached(k: Kernel, va: int) -> str | None:
    """What happens to a CPU that reads a byte in the kernel when all is done; None if it gets it."""
    try:
        k.port.kernel_access(k, INIT_MM, va)
    except KernelBug as bug:
        return f"oops: {bug}"
    return None


class LawsHoldSince:
    """The first law that does not hold when all is done, compared with what the machine was like before."""

    def __init__(self, k: Kernel) -> None:
        self._before: Snapshot = snapshot(k)

    def __call__(self, k: Kernel) -> str | None:
        """What broke, or None."""
        return next((f"{breach.law}: {breach.text}" for breach in breaches_of(k, self._before)), None)


def _start_size(span: Span) -> tuple[int, int]:
    return span.start, span.size
