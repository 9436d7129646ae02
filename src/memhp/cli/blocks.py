"""``memhp blocks``: the memory blocks of a machine, what each range is, and who decides about it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.at_work import at_work
from memhp.cli.machine_options import machine_options, opened
from memhp.cli.memory_options import memory_of, memory_options
from memhp.cli.output import emit_json, json_option

if TYPE_CHECKING:
    from memhp.facts.source import Source


@click.command()
@machine_options
@click.option("--use", is_flag=True, help="Tell what pages are used for too (root; reads 8 bytes a page).")
@memory_options("With --use: a dump of that machine, or a VM's RAM: shows pinned pages and struct pages.")
@click.option("-o", "--output", metavar="COLUMNS", help="Print as lsmem does: RANGE,SIZE,STATE,… or +NAME,…")
@click.option("-a", "--all", "every_block", is_flag=True, help="With -o: a row for each block.")
@click.option("-b", "--bytes", "in_bytes", is_flag=True, help="With -o: sizes in bytes.")
@click.option("-S", "--split", metavar="COLUMNS", help="With -o: the columns that split ranges, or none.")
@click.option("--metrics", is_flag=True, help="Print Prometheus text, with the largest step that is safe now.")
@json_option
def blocks(
    sysroot: str | None,
    machine: str | None,
    use: bool,
    memory: Path | None,
    pieces: tuple[str, ...],
    output: str | None,
    every_block: bool,
    in_bytes: bool,
    split: str | None,
    metrics: bool,
    as_json: bool,
) -> int:
    """List the memory blocks of this host, of a tree of its files, or of a capture; nothing is changed."""
    if output is None and (every_block or in_bytes or split):
        raise click.UsageError("--all, --bytes and --split go with -o")
    if memory is not None and not use:
        raise click.UsageError("--memory goes with --use")
    if sum((output is not None, metrics, as_json)) > 1:
        raise click.UsageError("give one of -o, --metrics and --json")
    source = opened(sysroot, machine)
    if output is not None:
        sys.stdout.write(_like_lsmem(source, output, every_block, in_bytes, split))
        return 0
    from memhp.operate.blocks import read_blocks

    with at_work("looking at memory blocks"):
        document = read_blocks(source, use=use, kernel_memory=memory_of(memory, pieces))
    if metrics:
        from memhp.operate.metrics import metrics as prometheus
        from memhp.operate.rehearsal import safe_step

        sys.stdout.write(prometheus(document, safe_step(source)))
    elif as_json:
        emit_json(document)
    else:
        from memhp.operate.blocks_text import text_of

        sys.stdout.write(text_of(document))
    return 0


def _like_lsmem(source: "Source", output: str, every_block: bool, in_bytes: bool, split: str | None) -> str:
    from memhp.facts import lsmem, memory_blocks, params

    return lsmem.lsmem(
        memory_blocks.read(source),
        output=lsmem.columns(output),
        split=None if split is None else () if split == "none" else lsmem.columns(split),
        every_block=every_block,
        in_bytes=in_bytes,
        memmap_on_memory=params.read(source).memmap_on_memory,
    )
