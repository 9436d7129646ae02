"""The machine at hand, taken up by the model: what is done to it there is what its kernel would do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput, KernelBug, KernelError
from memhp.facts.describe import architecture, ported
from memhp.facts.observed import Facts
from memhp.facts.source import Source
from memhp.scenario.schema import MachineText
from memhp.target.model.plan import Wish, default_zone, free_bytes, largest_safe_step
from memhp.target.model.run import boot
from memhp.target.model.session import Session
from memhp.target.seen.inferred import read_facts
from memhp.target.seen.sources import facts_spec
from memhp.units import align_down

STRUCT_PAGE_SHARE = 64
"""Memory that is added takes a 64th of its size for struct pages: more than this many times what is free never fits."""


def session_of(facts: Facts, *, where: str) -> Session:
    """A model of the machine in the state that it was seen in.

    Raises :class:`BadInput` for an architecture or a kernel that is not modelled, and a state that no boot leads to.
    """
    ported(facts, architecture(facts)[0])
    text = MachineText(source=facts.source)
    return boot(facts_spec(facts, text, where=where), facts, where)


def safe_step(source: Source) -> int | None:
    """The most that could be plugged at once now, in bytes; None for a machine that cannot be modelled."""
    try:
        session = session_of(read_facts(source), where=source.name)
        limit = align_down(free_bytes(session.k) * STRUCT_PAGE_SHARE, session.k.memory_block_size)
        return largest_safe_step(session, limit, Wish(zone=default_zone(session.k))) if limit else 0
    except (BadInput, KernelError, KernelBug):
        return None
