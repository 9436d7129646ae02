"""What goes wrong in page tables on kernels that lack a fix: as in :mod:`memhp.claims.fix_witnesses`."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.claims.fix_witnesses import AT, bug_of, laws, small_machine
from memhp.errors import KernelError
from memhp.explore.cases.actors import pfns
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.set_memory import set_direct_map_valid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB


def _added(config: Config, size: int) -> Kernel:
    """A small machine to which `size` bytes were added."""
    k = small_machine(config)
    k.hw.plug(pfns(k, Span(AT, AT + size)), Owner(Use.DEVICE, "dimm"))
    add_memory(k, 0, AT, size, MHP_NONE)
    return k


def block_within_a_leaf_goes(config: Config) -> str:
    """A memory block goes offline and away that is mapped by one leaf with its neighbours."""
    k = _added(config, GiB)
    block = AT // k.memory_block_size
    state_store(k, block, "online_movable")
    try:
        state_store(k, block, "offline")
    except KernelError:
        return ""
    remove_memory(k, AT, k.memory_block_size)
    return laws(k)


def memory_with_an_invalid_leaf_goes(config: Config) -> str:
    """Memory goes of which a whole PMD leaf of the direct map was made invalid."""
    k = _added(config, GiB)
    set_direct_map_valid_noflush(k, AT >> k.config.page_shift, k.config.pmd_size // k.config.page_size, valid=False)
    remove_memory(k, AT, GiB)
    return next((line.text for line in k.hw.log_lines if line.text.startswith("WARNING")), "")


class _NoMemory:
    """No allocation succeeds."""

    def fails(self, _site: str) -> bool:
        """It does not."""
        return True

    def parts(self, count: int) -> Iterator[int]:
        """All rounds of a loop fail alike."""
        return iter((count,))


def tables_are_short(config: Config) -> str:
    """Memory is added when there is no page for a page table."""
    k = small_machine(config)
    k.hw.plug(pfns(k, Span(AT, AT + GiB)), Owner(Use.DEVICE, "dimm"))
    k.hw.faults = _NoMemory()
    return bug_of(lambda: add_memory(k, 0, AT, GiB, MHP_NONE))


def block_that_begins_within_a_leaf_goes(config: Config) -> str:
    """A memory block goes whose struct pages begin within a PMD leaf of the vmemmap that nobody else uses."""
    k = small_machine(config)
    span = Span(AT + k.config.section_size, AT + 2 * k.config.section_size)
    k.hw.plug(pfns(k, span), Owner(Use.DEVICE, "dimm"))
    before = k.hw.memory.used(Use.MEMMAP)
    add_memory(k, 0, span.start, span.size, MHP_NONE)
    remove_memory(k, span.start, span.size)
    left = k.hw.memory.used(Use.MEMMAP) - before
    return f"{left} pages that held struct pages are not given back" if left else ""
