"""The same steps on a real machine and on the model of it, compared after each."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Sequence

from memhp.conform.compare import Comparison, add_lost, compare_moment
from memhp.conform.dumped_pages import tell
from memhp.conform.passed_over import tell_passed_over
from memhp.conform.rules import Context
from memhp.conform.tables import added_memory, compare_tables
from memhp.conform.told_places import tell_pinned, tell_places
from memhp.errors import BadInput
from memhp.facts.observed import Facts
from memhp.facts.usage import free_pages
from memhp.linux.mm.free_area import nr_free_pages
from memhp.scenario.schema import MachineText, Resize, StepKind, VirtioMem
from memhp.scenario.titles import title
from memhp.spans import SpanSet
from memhp.target.guest.agent import GuestLost, GuestSlow
from memhp.target.model.target import ModelTarget
from memhp.target.target import REFUSED, Done, Readable, ShowsPages, ShowsRequests, Target, check_steps
from memhp.units import MiB

Progress = Callable[[int, str], None]
"""Called before each step with its index and title."""

FREE_BOUND = 24 * MiB
"""How far the change of free memory may be from the model's: tasks and caches of the guest take and give some."""
FREE = f"change of free memory, within {FREE_BOUND >> 20} MiB"

HOTPLUG_LINES = re.compile(
    r"(Offlined Pages \d+|memory offlining \[mem .*|altmap_alloc_block_buf: .*|removing memory fails.*"
    r"|acpi PNP0C80:\w+: .*|memory memory\d+: Offline failed.*|Fallback order for Node .*|Built \d+ zonelists.*"
    r"|Demotion targets for Node .*|Injecting error .*)"
)
"""Lines of the log that tell of hot(un)plug and that a model writes word for word."""


class Lockstep:
    """A real machine, and the model of it that was booted from what the machine shows now.

    `found` is all that was compared so far. Raises :class:`BadInput` for a machine that the model cannot be.
    """

    def __init__(self, real: Target, *, where: str = "scenario") -> None:
        self.real = real
        self._observed = real.facts()
        self.model = ModelTarget.like(self._observed, MachineText(source=self._observed.source), where=where)
        self.found = Comparison()
        self.done: list[StepKind] = []
        """The steps so far, with what the platform chose filled in."""
        self._hot, self._gone = _added(self.model), SpanSet()
        """Memory that was added since boot, and where some was that went again."""
        self._context = Context()
        compare_moment(self.found, "0-boot", self._observed, self.model.facts(), self._context)
        self._seen = [len(real.log()), len(self.model.log())]
        self._free = _free(self._observed, self.model)
        self._asked = [_requests(each) for each in (real, self.model)]

    def carry_out(self, step: StepKind) -> None:
        """Do a step on both and compare every fact."""
        self.done.append(step)
        theirs = self.real.carry_out(step)
        self.done[-1] = theirs.step
        self.foretell(f"{len(self.done)}-{title(step)}", [theirs])

    def foretell(self, name: str, done: Sequence[Done]) -> None:
        """Do on the model what the real machine has done since, one act after the other, and compare every fact."""
        real, model, found = self.real, self.model, self.found
        shown, log = real.facts(), real.log()
        self._context = Context(huge_pool=self._context.huge_pool or bool(shown.meminfo.get("Hugetlb")))
        tell(model, shown, log[self._seen[0] :])
        memory = real.memory() if isinstance(real, Readable) else None
        if memory is not None:
            tell_places(model, memory, shown, [theirs.step for theirs in done])
        for theirs in done:
            if isinstance(theirs.step, Resize) and isinstance(real, ShowsPages):
                new = (_requests(real) or ())[len(self._asked[0] or ()) :]
                tell_passed_over(model, real, shown, theirs.step, new)
            tell_pinned(model, theirs)
            mine = model.carry_out(theirs.step)
            if theirs.result is not None:
                fact = "result" if len(done) == 1 else f"result of {title(theirs.step)}"
                refused = theirs.result == REFUSED and mine.result != "ok"
                found.add(name, fact, theirs.result, REFUSED if refused else mine.result, self._context)
        model.session.k.hw.told = {}
        model.session.k.hw.told_busy = set()
        compare_moment(found, name, shown, model.facts(), self._context)
        if memory is not None:
            hot, root = _added(model), memory.root()
            self._gone.add_each(list(self._hot))
            self._gone.remove_each(list(hot))
            self._hot = hot
            for counted in compare_tables(model.session.k, memory, root, self._hot):
                found.add_counted(name, counted)
            for counted in compare_tables(model.session.k, memory, root, self._gone, gone=True):
                found.add_counted(name, counted)
        self._compare_free(name, shown)
        self._compare_log(name, log)
        self._compare_requests(name, done)

    def _compare_requests(self, name: str, done: Sequence[Done]) -> None:
        """What a driver of virtio-mem asked its device for: with a device that has appeared it begins anew."""
        before, self._asked = self._asked, [_requests(each) for each in (self.real, self.model)]
        if None in self._asked or any(isinstance(each.step, VirtioMem) for each in done):
            return
        new = [(now or ())[len(then or ()) :] for now, then in zip(self._asked, before, strict=True)]
        for number in range(max(map(len, new))):
            real, mine = (each[number] if number < len(each) else None for each in new)
            self.found.add(name, f"request {number}", real, mine, self._context)

    def _compare_free(self, name: str, shown: Facts) -> None:
        now = _free(shown, self.model)
        real, mine = (after - before for after, before in zip(now, self._free, strict=True))
        self.found.add(name, FREE, 0, 0 if abs(real - mine) <= FREE_BOUND else mine - real, self._context)
        self._free = now

    def _compare_log(self, name: str, log: tuple[str, ...]) -> None:
        logs = [log, self.model.log()]
        new = [_told(log[start:]) for log, start in zip(logs, self._seen, strict=True)]
        for number in range(max(map(len, new))):
            line = [lines[number] if number < len(lines) else None for lines in new]
            self.found.add(name, f"log {number}", line[0], line[1], self._context)
        self._seen = [len(log) for log in logs]


def conform(
    real: Target, steps: Sequence[StepKind], *, where: str = "scenario", progress: Progress | None = None
) -> Comparison:
    """Carry out steps on a real machine and on the model of it, which is booted from what the machine shows now.

    A machine that is lost on the way differs, and so does a step that turns out to be none; nothing is done after it.
    Raises :class:`BadInput` for a step that the machine cannot carry out, before anything starts, and
    :class:`GuestSlow` for a machine that is too slow and did not differ before.
    """
    check_steps(real, steps, where=where)
    both = Lockstep(real, where=where)
    for index, step in enumerate(steps):
        name = f"{index + 1}-{title(step)}"
        try:
            if progress is not None:
                progress(index, title(step))
            both.carry_out(step)
        except GuestLost as error:
            if isinstance(error, GuestSlow) and not both.found.differing:
                raise
            add_lost(both.found, name, error)
            break
        except BadInput as error:
            both.found.add(name, "the step", "can be carried out", f"{where}: steps[{index}]: {error}", Context())
            break
    return both.found


def _free(shown: Facts, model: ModelTarget) -> tuple[int, int]:
    """Free memory of the real machine, its CPUs' own lists included, and of the model, bytes.

    ``MemFree`` leaves those lists out, which take what is freed, up to an eighth of a zone, until memory goes offline.
    """
    k = model.session.k
    mine = sum(nr_free_pages(zone) for zone in k.zones()) << k.config.page_shift
    return sum(free_pages(zone) for zone in shown.zones) * k.config.page_size, mine


def _added(model: ModelTarget) -> SpanSet:
    """The memory blocks that were added since boot, as physical ranges."""
    k = model.session.k
    return added_memory(k, (block for first, end, _ in k.memory_blocks for block in range(first, end)))


def _told(lines: Sequence[str]) -> list[str]:
    """The lines of hotplug."""
    return [line for line in lines if HOTPLUG_LINES.fullmatch(line)]


def _requests(machine: Target) -> tuple[str, ...] | None:
    """All that the driver of a virtio-mem device asked for, where the device tells."""
    return machine.requests() if isinstance(machine, ShowsRequests) else None
