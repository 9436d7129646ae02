"""Why a block will not go, as plain text of 80 columns."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from memhp.operate.blocks_text import as_text, kinds_text
from memhp.operate.why import BlockWhy, WhyDocument
from memhp.units import format_count, format_range

SHOWN = 5
"""So many who hold pages are named, those with most."""
HELD = {
    "slab": "of slab cache {}",
    "vmalloc": "of vmalloc by {}()",
    "file": "of file {}, by DMA",
    "anonymous": "of {}, by DMA",
}
"""Whose pages are, by :data:`memhp.facts.page_users.What`."""
VERDICTS = {
    "goes": "nothing that is seen keeps it",
    "refused": "would be refused",
    "unclear": "cannot be told",
    "offline": "is offline already",
}


def text_of(document: WhyDocument) -> str:
    """The whole answer: what the kernel said, what it would say, what to do, what could not be seen."""
    return as_text(_lines(document))


def _lines(document: WhyDocument) -> Iterator[str]:
    for each in document.logged:
        at = f"at {each.seconds:.6f} s " if each.seconds is not None else ""
        last = each.start + each.size - 1
        yield f"the kernel refused {each.start:#x}–{last:#x} {at}: {each.reason}".replace(" :", ":")
        if each.page:
            yield f"  it dumped a page because: {each.page}"
    for _, group in groupby(enumerate(document.blocks), key=lambda each: (_alike(each[1]), each[1].block - each[0])):
        yield from _blocks([block for _, block in group])
    if document.remedies:
        yield ""
        yield "what to do, the cheapest first:"
        yield from (f"  {number}. {text}" for number, text in enumerate(document.remedies, 1))
    if document.unseen:
        yield ""
        yield from (f"not seen: {text}" for text in document.unseen)


def _alike(each: BlockWhy) -> object:
    return each.verdict, each.state, each.zones, [(o.reason, o.certain) for o in each.obstacles]


def _blocks(blocks: list[BlockWhy]) -> Iterator[str]:
    first, last = blocks[0], blocks[-1]
    zones = f" in {'/'.join(first.zones)}" if first.zones and first.zones != ["none"] else ""
    name = "block" if first is last else "blocks"
    numbers = format_range(first.block, last.block)
    yield f"{name} {numbers} ({first.start:#x}, {first.state}{zones}): {VERDICTS[first.verdict]}"
    use: dict[str, int] = {}
    for block in blocks:
        for kind, size in block.use.items():
            use[kind] = use.get(kind, 0) + size
    if use:
        yield f"  pages: {kinds_text(sorted(use.items(), key=lambda each: -each[1]))}"
    others = {number for block in blocks for number in block.struct_pages_of} - {*range(first.block, last.block + 1)}
    if others:
        yield f"  holds struct pages of {format_count(len(others), 'other block')}, from {min(others)} on"
    for holder in sorted((each for block in blocks for each in block.held_by), key=lambda h: -h.pages)[:SHOWN]:
        yield f"  held: {format_count(holder.pages, 'page')} by {holder.process} in {holder.function}()"
    users: Counter[tuple[str, str]] = Counter()
    for user in (each for block in blocks for each in block.users):
        users[user.what, user.name] += user.pages
    for (what, name), pages in users.most_common(SHOWN):
        yield f"  held: {format_count(pages, 'page')} {HELD[what].format(name)}"
    for obstacle in first.obstacles:
        likely = "" if obstacle.certain else "perhaps "
        yield f"  {likely}{obstacle.errno}: {obstacle.reason} — {obstacle.place}"
        yield f"    {obstacle.detail}" if first is last else f"    block {first.block}: {obstacle.detail}"
