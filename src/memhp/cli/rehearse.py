"""``memhp rehearse``: carry out the steps of a scenario on a machine, and show what the kernel would do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli import offered
from memhp.cli.configurations import choice_option, told_choices
from memhp.cli.output import console, emit_json, json_option, output_option, progress
from memhp.errors import BadInput
from memhp.units import format_size, parse_size

if TYPE_CHECKING:
    from memhp.scenario.result import Run
    from memhp.scenario.schema import DriverName, Zone
    from memhp.target.model.plan import Plan
    from memhp.target.model.session import Session


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False, shell_complete=offered.SCENARIOS)
@click.option(
    "--machine",
    "source",
    metavar="SOURCE",
    shell_complete=offered.PRESETS,
    help="A preset's name, a capture, a sysroot, or / for this host.",
)
@click.option("--qemu", metavar="'OPTIONS'", help="The machine that this command line of QEMU makes, instead.")
@click.option("--step", help="Which moment of a capture to start from.")
@click.option("--memory", metavar="SIZE", help="RAM at boot, where a preset has another size.")
@click.option("--profile", metavar="NAME", help="The kernel: 6.12, 7.2 or another that memhp choices knows.")
@click.option("--plug", multiple=True, metavar="SIZE", help="Plug this much memory (may be repeated).")
@click.option("--driver", type=click.Choice(["dimm", "kmem", "virtio_mem"]), default="dimm", show_default=True)
@click.option("--online", type=click.Choice(["auto", "kernel", "movable"]), help="Bring what is plugged online.")
@click.option("--plan", "total", metavar="SIZE", help="Then plan how to add this much, in steps that are safe.")
@click.option("--unplug", is_flag=True, help="Then offline and remove it all again, last first.")
@choice_option
@json_option
@output_option("--html", help="Write a self-contained page.")
@output_option("--sysroot", metavar="DIR", help="Write /sys and /proc as they end up.")
@output_option("--ptdump", help="Write the kernel page tables as ptdump.")
@click.option("--tables", is_flag=True, help="Show which page-table entries each step set, cleared and changed.")
@click.option("--log", is_flag=True, help="Show the kernel log of each step.")
def rehearse(
    file: Path | None,
    source: str | None,
    qemu: str | None,
    step: str | None,
    memory: str | None,
    profile: str | None,
    plug: tuple[str, ...],
    driver: "DriverName",
    online: "Zone | None",
    total: str | None,
    unplug: bool,
    chosen_texts: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    sysroot: Path | None,
    ptdump: Path | None,
    tables: bool,
    log: bool,
) -> int:
    """Rehearse the scenario in FILE, or plug memory into --machine or --qemu; then plan how to add more.

    A machine alone is shown as it is rehearsed: what was read of it, and what is assumed.

    Exit code 0: every step ended as the scenario expects and every law held, and what was to be planned can be
    reached. 1: a step or a law did not, or it cannot.
    2: the input cannot be used.
    """
    from memhp.outputs.check import check_outputs
    from memhp.scenario.choices import with_told
    from memhp.scenario.load import load
    from memhp.target.measure import views
    from memhp.target.model.from_options import qemu_scenario, quick_scenario, rehearse_quick, with_machine
    from memhp.target.model.run import rehearse_scenario

    if source is not None and qemu is not None:
        raise click.UsageError("give one of --machine and --qemu: each says what the machine is")
    if file is None and source is None and qemu is None and (memory or profile):
        raise click.UsageError("--memory needs --machine PRESET, and --profile needs --machine or --qemu")
    if sum(each is not None for each in (file, source, qemu)) != 1:
        raise click.UsageError("give a scenario FILE, or --machine SOURCE or --qemu with --plug or --plan SIZE")
    if qemu is not None and step:
        raise click.UsageError("--step goes with --machine: a command line has no moments")
    if file is not None and (plug or (online and not total) or unplug or step):
        raise click.UsageError("--plug, --online, --unplug and --step go with --machine; a FILE has its own steps")
    if file is not None and (memory or profile):
        raise click.UsageError("--memory and --profile go with --machine or --qemu; a FILE has its own machine")
    told = told_choices(chosen_texts)
    if online and file is None and not (plug or total):
        raise click.UsageError("--online says where --plug and --plan bring memory online; give one of them")
    if unplug and not plug:
        raise click.UsageError("--unplug takes away what --plug has added; give both")
    check = partial(
        check_outputs,
        {"--html": html, "--ptdump": ptdump},
        folders={"--sysroot": sysroot},
        stdout="--json" if as_json else "",
    )
    on_stdout = check(inputs=[] if file is None else [file])
    if file is not None:
        scenario = with_told(load(file), told)
        go = partial(rehearse_scenario, scenario, where=str(file))
    else:
        quick = (
            qemu_scenario(qemu, plug, driver, online, unplug=unplug)
            if qemu is not None
            else quick_scenario(source or "", step, plug, driver, online, unplug=unplug)
        )
        scenario = with_told(with_machine(quick, memory=memory, profile=profile), told)
        go = partial(rehearse_quick, scenario)
    if scenario.machine.source is not None:
        check(inputs=[Path(scenario.machine.source)])
    with progress() as bar:
        task = bar.add_task("rehearsing", total=len(scenario.steps))
        ended: list[Session] = []
        run, k = go(
            tables=tables,
            progress=lambda index, title: bar.update(task, completed=index, description=title),
            ended=ended.append,
        )
    made = None if total is None else _plan(run, ended[0], total, driver, online)
    if sysroot is not None:
        views.write_sysroot(k, sysroot)
    if ptdump is not None:
        views.write_ptdump(k, ptdump)
    if html is not None:
        from memhp.report.page import write_page

        write_page(run, html, made)
    fine = run.ok and (made is None or made.reached == made.total)
    if as_json:
        from memhp.report.documents import rehearse_document

        emit_json(rehearse_document(run, made, fine=fine))
    else:
        from memhp.report.timeline import print_run

        print_run(console(stderr=on_stdout), run, log=log)
        if made is not None:
            from memhp.report.plan import print_plan

            print_plan(console(stderr=on_stdout), made, below=bool(run.steps))
    return 0 if fine else 1


def _plan(run: "Run", session: "Session", total: str, driver: "DriverName", online: "Zone | None") -> "Plan":
    """How to add memory to the machine as the rehearsal left it. Raises :class:`BadInput` if that is dead."""
    import msgspec

    from memhp.report.assumptions import was_read
    from memhp.scenario.schema import Plug
    from memhp.target.model.plan import Wish, default_zone, plan
    from memhp.target.seen.assumptions import rests_on

    if any(step.outcome.result in {"BUG", "PANIC"} for step in run.steps):
        raise BadInput("the machine died, and nothing can be added to it", where="--plan", fix="plan before that step")
    wish = Wish(driver, zone=online or default_zone(session.k))
    with progress() as bar:
        task = bar.add_task("planning", total=None)
        made = plan(
            session,
            parse_size(total, where="--plan"),
            wish,
            progress=lambda size: bar.update(task, description=f"planning: a step of {format_size(size)}"),
        )
    assumed = rests_on(Plug(size=made.total), run.assumptions) if was_read(run) else []
    return msgspec.structs.replace(made, rests_on=assumed)
