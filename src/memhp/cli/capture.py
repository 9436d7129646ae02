"""``memhp capture``: keep the facts of a machine, live or in QEMU, as files that every other command reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import click

from memhp.cli.at_work import at_work
from memhp.cli.guest_options import GuestChoice, guest_options
from memhp.cli.idle import refuse_idle
from memhp.cli.output import echo_lines, emit_json, json_option
from memhp.units import format_count, format_size


@click.command()
@click.argument("source", required=False)
@guest_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder, or a name ending in .tar.xz.")
@click.option("--step", default="0-now", show_default=True, help="What to call this moment.")
@click.option("--private", is_flag=True, help="Keep the whole command line and kernel log too.")
@click.option("--pages/--no-pages", default=True, help="Summarise /proc/kpageflags.  [default: pages]")
@click.option("--page-tables", "tables", is_flag=True, help="The kernel's page tables too, as an ELF core.")
@json_option
def capture(
    source: str | None,
    choice: GuestChoice,
    out: Path,
    step: str,
    private: bool,
    pages: bool,
    tables: bool,
    as_json: bool,
) -> int:
    """Keep the facts of SOURCE (/ for this host, or a sysroot), or of a kernel in QEMU that just booted, in --out.

    Nothing is changed on the machine. What may be private is left out unless --private asks for it. Page tables are
    read from a guest's RAM, or from /proc/kcore of this host.
    """
    from memhp.facts.open_source import open_source
    from memhp.outputs.check import check_outputs
    from memhp.outputs.exclusive_create import check_new
    from memhp.target.captures.tables_core import CORE, own_tables_core, tables_core
    from memhp.target.captures.take import take
    from memhp.target.captures.write import check_step, data_of, write

    check_new(out)
    if source is not None:
        check_outputs({"--out": out}, inputs=[Path(source)])
    check_step(step, "--step")
    if (source is None) != bool(choice):
        raise click.UsageError("give a SOURCE (/ for this host, or a sysroot), or --kernel or --linux for a guest")
    refuse_idle(("--private", source is not None, "is for a SOURCE: all of a guest is kept"))
    if tables and source not in (None, "/"):
        raise click.UsageError("--page-tables is for / and for guests, whose memory can be read")
    files: dict[str, str | bytes]
    if source is None:
        from memhp.target.guest.guest import running
        from memhp.target.guest.memory import GuestMemory
        from memhp.target.guest.observe import step_files

        qemu, spec = choice.resolve()
        with running(choice.cache, qemu, spec) as guest:
            files = {**step_files(guest, pages=pages)}
            if tables:
                memory = GuestMemory(guest)
                files[CORE] = tables_core(memory, memory.info, memory.noted)
    else:
        with at_work(f"reading {source}"):
            files = {**take(open_source(source), private=private, pages=pages)}
            if tables:
                files[CORE] = own_tables_core()
    write({step: files}, out)
    if as_json:
        from memhp.report.documents_guests import CaptureDocument

        emit_json(CaptureDocument(out=str(out), steps={step: sorted(files)}))
    else:
        size = format_size(sum(len(data_of(content)) for content in files.values()))
        echo_lines([f"{out}: step {step}, {format_count(len(files), 'file')}, {size}"])
    return 0
