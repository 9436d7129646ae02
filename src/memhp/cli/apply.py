"""``memhp apply``: carry out a plan on a host, a step at a time, with a journal."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.finite import FiniteRange
from memhp.cli.output import emit_json, json_option
from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.operate.apply import Mode
    from memhp.operate.plan import HostPlan
    from memhp.target.tree_host import TreeHost


@click.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--sysroot", type=click.Path(path_type=Path), default="/", help="The host's files are below this folder.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only see whether the plan still holds; the default without a terminal.")
@click.option("--resume", is_flag=True, help="Go on with a plan that was interrupted or stopped.")
@click.option("--roll-back", is_flag=True, help="Take back what was done of a plan.")
@click.option("--abandon", is_flag=True, help="Leave a plan as it stands: tell its blocks, and close its journal.")
@click.option("--journal", type=click.Path(path_type=Path), help="The folder of journals.  [default: /var/lib/memhp]")
@click.option("--timeout", type=FiniteRange(0.1), metavar="SECONDS", help="How long one block may take.")
@json_option
def apply(
    file: Path,
    sysroot: Path,
    yes: bool,
    dry_run: bool,
    resume: bool,
    roll_back: bool,
    abandon: bool,
    journal: Path | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Carry out PLAN: each step is held against what was foretold, and the first surprise ends it.

    Ctrl-C ends it between two blocks; a second one gives up on the block. Exit code 0: all done (taken back,
    abandoned); 1: it stopped; 2: the plan does not hold for this machine any more.
    """
    from memhp.inputs import read_input
    from memhp.limits import SCENARIO_SIZE
    from memhp.operate.plan import read_plan
    from memhp.outputs.staging import check_folder
    from memhp.target.tree_host import JOURNALS, TreeHost

    if resume + roll_back + abandon > 1:
        raise click.UsageError("give one of --resume, --roll-back and --abandon")
    if journal is not None:
        check_folder(journal)
    plan = read_plan(read_input(file, SCENARIO_SIZE), where=str(file))
    host = TreeHost(sysroot)
    mode: Mode = "resume" if resume else "roll-back" if roll_back else "abandon" if abandon else "new"
    ask = sys.stdin.isatty() and sys.stdout.isatty() and not yes
    if dry_run or not (yes or ask):
        return _dry(plan, host, journal or sysroot / JOURNALS, mode, as_json)
    if ask:
        from memhp.operate.plan_text import text_of

        sys.stdout.write(text_of(plan))
        does = "Take it back" if roll_back else "Leave it as it stands" if abandon else "Carry it out"
        click.confirm(f"{does} on {sysroot}?", abort=True)
    return _carry_out(plan, host, journal or sysroot / JOURNALS, mode, timeout, as_json)


def _dry(plan: "HostPlan", host: "TreeHost", journals: Path, mode: "Mode", as_json: bool) -> int:
    """Say what would be done. Raises :class:`BadInput` for a plan that holds no more, or was never begun."""
    from memhp.operate.apply import Applied, check_begun, check_machine
    from memhp.operate.plan import machine_state
    from memhp.operate.plan_text import text_of

    if mode != "new":
        check_begun(plan, journals)
    elif differs := check_machine(plan, machine_state(host.source())):
        raise BadInput(f"the machine changed since the plan: {differs}", where=plan.id, fix="make another plan")
    if as_json:
        emit_json(Applied(verdict="planned", plan=plan.id, journal=None, steps=[], why=""))
    else:
        sys.stdout.write(f"{text_of(plan)}Nothing was done: give --yes to carry it out.\n")
    return 0


def _carry_out(
    plan: "HostPlan", host: "TreeHost", journals: Path, mode: "Mode", timeout: float | None, as_json: bool
) -> int:
    from memhp.operate.apply import apply as carry_out
    from memhp.operate.plan_text import applied_text
    from memhp.target.tree_host import locked

    def tell(text: str) -> None:
        if not as_json:
            print(text, flush=True)

    with locked(host.root):
        applied = carry_out(plan, host, journals, mode=mode, tell=tell, asked=lambda: host.asked > 0, seconds=timeout)
    if as_json:
        emit_json(applied)
    else:
        sys.stdout.write(applied_text(applied))
    if applied.verdict == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    return 0 if applied.verdict in ("done", "rolled-back", "abandoned") else 1
