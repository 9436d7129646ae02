"""``memhp capture``: keep the facts of a machine, live or in QEMU, as files that every other command reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import click

from memhp.cli.at_work import at_work
from memhp.cli.guest_options import GuestChoice, guest_options
from memhp.cli.output import echo_lines, emit_json, json_option
from memhp.units import format_count, format_size


@click.command()
@click.argument("source", required=False)
@guest_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder, or a name ending in .tar.xz.")
@click.option("--step", default="0-now", show_default=True, help="What to call this moment.")
@click.option("--private", is_flag=True, help="Keep the whole command line and kernel log too.")
@click.option("--pages/--no-pages", default=True, help="Summarise /proc/kpageflags.  [default: pages]")
@json_option
def capture(
    source: str | None, choice: GuestChoice, out: Path, step: str, private: bool, pages: bool, as_json: bool
) -> int:
    """Keep the facts of SOURCE (/ for this host, or a sysroot), or of a kernel in QEMU that just booted, in --out.

    Nothing is changed on the machine. What may be private is left out unless --private asks for it.
    """
    from memhp.facts.open_source import open_source
    from memhp.outputs.check import check_outputs
    from memhp.outputs.exclusive_create import check_new
    from memhp.target.captures.take import take
    from memhp.target.captures.write import check_step, write

    check_new(out)
    if source is not None:
        check_outputs({"--out": out}, inputs=[Path(source)])
    check_step(step, "--step")
    if (source is None) != bool(choice):
        raise click.UsageError("give a SOURCE (/ for this host, or a sysroot), or --kernel or --linux for a guest")
    if source is None:
        from memhp.target.guest.guest import running
        from memhp.target.guest.observe import step_files

        qemu, spec = choice.resolve()
        with running(choice.cache, qemu, spec) as guest:
            files = step_files(guest, pages=pages)
    else:
        with at_work(f"reading {source}"):
            files = take(open_source(source), private=private, pages=pages)
    write({step: files}, out)
    if as_json:
        from memhp.report.documents_guests import CaptureDocument

        emit_json(CaptureDocument(out=str(out), steps={step: sorted(files)}))
    else:
        size = format_size(sum(len(text.encode()) for text in files.values()))
        echo_lines([f"{out}: step {step}, {format_count(len(files), 'file')}, {size}"])
    return 0
