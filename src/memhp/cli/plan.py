"""``memhp plan``: which memory blocks to bring online or take offline for a goal, as rehearsed on that machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from pathlib import Path
from typing import Literal

import click

from memhp.cli.at_work import at_work
from memhp.cli.machine_options import machine_options, opened
from memhp.cli.output import emit_json, json_bytes, json_option, output_option
from memhp.units import parse_size


@click.command()
@machine_options
@click.option("--grow-by", metavar="SIZE", help="Bring so much offline memory online.")
@click.option("--shrink-by", metavar="SIZE", help="Take so much memory offline.")
@click.option("--evacuate", metavar="WHAT", help="Take all of a node (node1), DIMM (PNP0C80:00) or range offline.")
@click.option("--move", metavar="WHAT", help="Move a node, device, range or block to the other --zone.")
@click.option("--zone", type=click.Choice(["auto", "kernel", "movable"]), help="Where memory goes online.")
@click.option("--at-most", type=click.IntRange(1), metavar="N", help="Touch no more blocks than this.")
@output_option("--out", help="Write the plan for memhp apply.")
@json_option
def plan(
    sysroot: str | None,
    machine: str | None,
    grow_by: str | None,
    shrink_by: str | None,
    evacuate: str | None,
    move: str | None,
    zone: Literal["auto", "kernel", "movable"] | None,
    at_most: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Plan a change of a host's memory: steps with cost, time and risk. Nothing is changed; memhp apply does that.

    Exit code 0: the steps reach the goal; 1: they fall short of it.
    """
    from memhp.operate import plan as plans
    from memhp.outputs.check import check_outputs
    from memhp.outputs.file import write_file
    from memhp.target.seen.inferred import read_facts

    if sum(each is not None for each in (grow_by, shrink_by, evacuate, move)) != 1:
        raise click.UsageError("give one of --grow-by, --shrink-by, --evacuate and --move")
    if zone is not None and grow_by is None and move is None:
        raise click.UsageError("--zone goes with --grow-by and --move")
    on_stdout = check_outputs(
        {"--out": out}, inputs=[Path(sysroot or machine or "/")], stdout="--json" if as_json else ""
    )
    source = opened(sysroot, machine)
    facts = read_facts(source)
    if grow_by is not None:
        goal = plans.grow(facts, parse_size(grow_by, where="--grow-by"), zone or "auto")
    elif shrink_by is not None:
        goal = plans.shrink(facts, parse_size(shrink_by, where="--shrink-by"))
    elif evacuate is not None:
        goal = plans.evacuate(source, facts, evacuate)
    else:
        goal = plans.move(source, facts, move or "", zone or "movable")
    with at_work("planning"):
        made = plans.plan(source, facts, goal, most=at_most)
    if out is not None:
        write_file(out, json_bytes(made).decode())
    if as_json:
        emit_json(made)
    else:
        from memhp.operate.plan_text import text_of

        (sys.stderr if on_stdout else sys.stdout).write(text_of(made))
    return 0 if made.verdict == "reached" else 1
