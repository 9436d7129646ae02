"""The model as a target: a machine booted from a description, or from the facts of another target."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from contextlib import suppress

from memhp.errors import KernelError
from memhp.facts.derive import derive
from memhp.facts.observed import Facts
from memhp.hw.memory import Owner, Use
from memhp.linux.init import MachineSpec, start_kernel
from memhp.linux.mm import users
from memhp.linux.mm.alloc_contig import replace_free_hugepage_folios
from memhp.linux.mm.migrate import migrate_range
from memhp.linux.mm.page_alloc import FREE, free_pages, take_pages_off_buddy
from memhp.linux.mmzone import ZoneType
from memhp.scenario.schema import MachineText, StepKind
from memhp.spans import Span
from memhp.target.device.status import row_of
from memhp.target.model.replay import catch_up
from memhp.target.model.run import outcome_of
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_facts import settle_seen
from memhp.target.seen.sources import facts_spec
from memhp.target.target import Done

TOLD = "what the kernel showed to be in use at "
"""The tag of pages that are in use because another machine told of them, before the PFN."""
ROOM = "mm/page_alloc.c:alloc_contig_range"
HELD = Owner(Use.KERNEL, "nobody may move here")


class ModelTarget:
    """A modelled machine. `session` is what the steps act on."""

    def __init__(self, session: Session, name: str = "model") -> None:
        self.session = session
        self.name = name
        self.told_pages: list[int] = []
        """PFNs in use because another machine showed that they were."""

    @classmethod
    def booted(cls, spec: MachineSpec) -> "ModelTarget":
        """A machine that has just booted."""
        return cls(Session(start_kernel(spec)), f"model {spec.config.title}")

    @classmethod
    def like(cls, observed: Facts, text: MachineText | None = None, *, where: str = "machine") -> "ModelTarget":
        """A machine as another was seen, with what it had plugged then.

        Raises :class:`BadInput` for facts that do not tell enough to boot, and :class:`KernelError` for a state that
        no boot of the model leads to.
        """
        target = cls.booted(facts_spec(observed, text or MachineText(source=observed.source), where=where))
        catch_up(target.session, observed)
        settle_seen(target.session, observed)
        return target

    def tell_in_use(self, pfn: int) -> None:
        """A page is in use, for another machine showed so; nothing changes where the model's kernel has it already."""
        k = self.session.k
        self.make_room([Span(pfn, pfn + 1)])
        if k.hw.memory.use_of(pfn) is Use.FREE:
            zone = k.zone_of(pfn)
            kind: users.Kind = "pinned" if zone is not None and zone.type is ZoneType.MOVABLE else "kernel"
            users.allocate(k, k.config.page_size, kind, f"{TOLD}{pfn:#x}", at=pfn << k.config.page_shift)
            self.told_pages.append(pfn)

    def make_room(self, places: Iterable[Span]) -> None:
        """What moves goes out of places (PFNs): where a model has put it means nothing, as long as there is room."""
        k = self.session.k
        held = []
        for pages in places:
            migrate_range(k, *pages, leave_node=False)
            with suppress(KernelError):
                replace_free_hugepage_folios(k, *pages)
            free = list(k.hw.memory.owners.runs(*pages))
            if free == [(*pages, FREE)] and take_pages_off_buddy(k, pages, HELD, ROOM):
                held.append(pages)
        free_pages(k, held, ROOM)

    def tell_free(self, pfn: int) -> None:
        """A page of which the other machine told is in use no more."""
        users.free(self.session.k, f"{TOLD}{pfn:#x}")
        self.told_pages.remove(pfn)

    def refusal(self, step: StepKind) -> None:
        """None: the model carries out every step."""

    def carry_out(self, step: StepKind) -> Done:
        """Do what a step says, until nothing is due any more."""
        outcome = outcome_of(self.session, step, self.name)
        return Done(step, outcome.result, outcome.reason)

    def facts(self) -> Facts:
        """All that Linux would show of the machine."""
        return derive(self.session.k)

    def requests(self) -> tuple[str, ...]:
        """What its virtio-mem devices were asked so far, with the answers, device by device."""
        devices = (vm.device for vm in self.session.devices.values())
        return tuple(str(row_of(0, each)) for device in devices for each in device.log)

    def log(self) -> tuple[str, ...]:
        """The kernel log so far."""
        return tuple(line.text for line in self.session.k.hw.log_lines)
