"""Taking the facts of a machine that can be read as files: this host, or a sysroot of another."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

from memhp.errors import BadInput
from memhp.facts import memory_blocks
from memhp.facts.kpageflags import KPAGEFLAGS, of_file, online_pages
from memhp.facts.observed import observe
from memhp.facts.source import Source
from memhp.spans import Span
from memhp.target.captures.flatten import flatten, hides_addresses
from memhp.target.captures.privacy import LEFT_OUT, public
from memhp.target.captures.write import record


def take(source: Source, *, private: bool = False, pages: bool = True) -> dict[str, str]:
    """The flat files of one step.

    `private` keeps the whole command line and kernel log; `pages` summarises ``/proc/kpageflags`` of a live host.
    Raises :class:`BadInput` for a source without memory blocks, and where addresses are hidden from this user.
    """
    files = flatten(source)
    if hides_addresses(files["proc_iomem"]):
        raise BadInput("shows no addresses to this user", where=source.where("/proc/iomem"), fix="capture as root")
    if pages and source.kind == "live":
        memory, page_size = memory_blocks.read(source), observe(source).page_size or 4096
        blocks = ((block.name, _pfns(memory.span(block), page_size)) for block in memory.blocks)
        summed = of_file(Path(KPAGEFLAGS), blocks, online_pages(source, memory, page_size))
        files |= {"kpageflags.tsv": summed} if summed else {}
    left_out = () if private else LEFT_OUT
    return {"capture.json": record(source.kind, left_out), **(files if private else public(files))}


def _pfns(span: Span, page_size: int) -> Span:
    return Span(span.start // page_size, span.end // page_size)
