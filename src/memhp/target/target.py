"""What a target is: a machine that can be observed, told to carry out a step, and read for its log.

A scenario says what is to be done; a target does it, be it the model, a kernel in QEMU, or something real. A step that
a target cannot carry out is refused before anything starts (:func:`check_steps`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memhp.errors import BadInput
from memhp.facts.kpageflags import Flags
from memhp.facts.observed import Facts
from memhp.hw.reader import TableReader
from memhp.linux.port import Root
from memhp.scenario.schema import StepKind
from memhp.spans import Span

NO_FAULTS = "nothing is made to fail on machines that are in use"
REFUSED = "refused"
"""The result of a step that the kernel refused with an errno that nobody saw."""


@dataclass(frozen=True)
class Done:
    """A step that was carried out.

    `result` is ``ok``, an errno's name, ``BUG``, ``PANIC`` or :data:`REFUSED`; None where the target cannot tell how it
    ended. `reason` is in the kernel's words. `step` is the step with what the platform chose filled in, such as the
    address of a DIMM, so that another target can do the very same. `places` are the physical ranges (bytes) of memory
    that came into use and stays where it is, where the target can tell.
    """

    step: StepKind
    result: str | None
    reason: str = ""
    places: tuple[Span, ...] = ()


class Target(Protocol):
    """A machine to observe and to act on."""

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        ...

    def refusal(self, step: StepKind) -> str | None:
        """Why a step cannot be carried out here; None if it can. Asked before anything starts."""
        ...

    def carry_out(self, step: StepKind) -> Done:
        """Do what a step says and wait until it is over. Raises :class:`BadInput` for a step that cannot be meant."""
        ...

    def facts(self) -> Facts:
        """All that the machine shows now."""
        ...

    def log(self) -> tuple[str, ...]:
        """The kernel log so far, without time stamps."""
        ...


class Memory(TableReader, Protocol):
    """Physical memory that can be read, and where the kernel's page tables begin."""

    def root(self) -> Root:
        """The kernel's page tables."""
        ...


@runtime_checkable
class Readable(Protocol):
    """A target whose physical memory can be read while it runs."""

    def memory(self) -> Memory:
        """Its memory now."""
        ...


@runtime_checkable
class ShowsPages(Protocol):
    """A target that tells what each page frame is used for."""

    def page_flags(self, pages: Span) -> Flags:
        """``/proc/kpageflags`` of page frames: a word each."""
        ...


@runtime_checkable
class ShowsRequests(Protocol):
    """A target that tells what the driver of its virtio-mem device asks for."""

    def requests(self) -> tuple[str, ...] | None:
        """All requests so far, each with the answer; None where the device does not tell."""
        ...


def check_steps(target: Target, steps: Iterable[StepKind], *, where: str) -> None:
    """Raise :class:`BadInput`, naming the first step that a target cannot carry out."""
    check_each(target.name, target.refusal, steps, where=where)


def check_each(
    name: str, refusal: Callable[[StepKind], str | None], steps: Iterable[StepKind], *, where: str
) -> None:
    """The same of a target that is called `name` and may not be there yet, by what tells why it cannot do a step."""
    for index, step in enumerate(steps):
        why = refusal(step)
        if why is not None:
            kind = step.__struct_config__.tag
            raise BadInput(f"{name} cannot do {kind!r}: {why}", where=f"{where}: steps[{index}]")
