"""What a model is told of a real machine's pages: which one the kernel met that it could not move.

What tasks and the kernel itself allocate stands in no facts. Where a kernel refuses to take a range offline it shows
the page that stands in the way (``mm/debug.c:dump_page``): that page is in use in the model too, from before the step
until its block is offline on the real machine.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator

from memhp.facts.observed import Facts
from memhp.target.model.target import ModelTarget

_DUMPED = re.compile(r"page: ?.* pfn:(0x[0-9a-f]+)")


def shown_pages(log: Iterable[str]) -> Iterator[int]:
    """The PFNs that a kernel dumped because they could not be isolated or moved."""
    for line in log:
        if match := _DUMPED.match(line):
            yield int(match[1], 16)


def tell(model: ModelTarget, shown: Facts, log: Iterable[str]) -> None:
    """Use the pages of the model that a step of the real machine met in use; end the use of those that went since."""
    k = model.session.k
    per_block = k.memory_block_size >> k.config.page_shift
    states = {block.index: block.state for block in shown.memory.blocks}
    for pfn in model.told_pages.copy():
        if states.get(pfn // per_block) != "online":
            model.tell_free(pfn)
    for pfn in shown_pages(log):
        model.tell_in_use(pfn)
