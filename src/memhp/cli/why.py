"""``memhp why``: why memory will not go offline, and what to do about it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from pathlib import Path

import click

from memhp.cli.at_work import at_work
from memhp.cli.machine_options import machine_options, opened
from memhp.cli.memory_options import memory_of, memory_options
from memhp.cli.output import emit_json, json_option


@click.command()
@click.argument("about", metavar="BLOCK|RANGE|NODE|DEVICE")
@machine_options
@memory_options("A dump of that machine, or a VM's RAM: shows pages that DMA holds, struct pages, and whose pages are.")
@click.option(
    "--debug-info",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="VMLINUX",
    help="For drgn, which else takes what is installed.",
)
@json_option
def why(
    about: str,
    sysroot: str | None,
    machine: str | None,
    memory: Path | None,
    pieces: tuple[str, ...],
    debug_info: Path | None,
    as_json: bool,
) -> int:
    """Tell why memory will not go offline: BLOCK (32, 32-39), RANGE (0x100000000+1G), NODE (node1) or DEVICE (virtio0,
    dax0.0, a DIMM as PNP0C80:00).

    Nothing is tried: what the kernel checks is read from its files, and its own words from its log. Exit code 0:
    nothing that is seen keeps it; 1: it would be refused, or that cannot be told.
    """
    from memhp.operate.why import why as asked

    with at_work(f"looking at {about}"):
        document = asked(opened(sysroot, machine), about, memory_of(memory, pieces), debug_info)
    if as_json:
        emit_json(document)
    else:
        from memhp.operate.why_text import text_of

        sys.stdout.write(text_of(document))
    return 0 if document.verdict in ("goes", "offline") else 1
