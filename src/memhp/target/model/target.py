"""The model as a target: a machine booted from a description, or from the facts of another target."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.facts.derive import derive
from memhp.facts.observed import Facts
from memhp.linux.init import MachineSpec, start_kernel
from memhp.scenario.schema import MachineText, StepKind
from memhp.target.model.replay import catch_up
from memhp.target.model.run import outcome_of
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_facts import settle_seen
from memhp.target.seen.sources import facts_spec
from memhp.target.target import Done


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

    def refusal(self, step: StepKind) -> None:
        """None: the model carries out every step."""

    def carry_out(self, step: StepKind) -> Done:
        """Do what a step says, until nothing is due any more."""
        outcome = outcome_of(self.session, step, self.name)
        return Done(step, outcome.result, outcome.reason)

    def facts(self) -> Facts:
        """All that Linux would show of the machine."""
        return derive(self.session.k)

    def log(self) -> tuple[str, ...]:
        """The kernel log so far."""
        return tuple(line.text for line in self.session.k.hw.log_lines)
