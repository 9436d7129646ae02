"""``memhp explore``: one race of memory hotplug, decided, with the trace of what goes wrong."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import click
from click.core import ParameterSource

from memhp.cli import offered
from memhp.cli.at_work import at_work
from memhp.cli.configurations import choice_option, told_choices
from memhp.cli.output import console, emit_json, json_option, output_option
from memhp.errors import BadInput
from memhp.units import format_count


@click.command()
@click.argument("name", required=False, shell_complete=offered.RACES)
@click.option(
    "--variant",
    metavar="V",
    shell_complete=offered.VARIANTS,
    help="The kernel's code as it was, or as it was repaired.",
)
@click.option("--configuration", metavar="C", help="The machine; by default the first that the variant is for.")
@choice_option
@click.option(
    "--patch",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE.py",
    help="Put the functions that a Python file marks in place of the kernel's.",
)
@click.option(
    "--view",
    type=click.Choice(["columns", "diff", "sequence", "mermaid"]),
    default="columns",
    show_default=True,
    help="A column for each CPU, what each step changes, a sequence diagram, or that as Mermaid text.",
)
@click.option("--full", is_flag=True, help="Every step; by default runs of the same steps share a line.")
@output_option("--html", help="Write the trace as a self-contained page.")
@click.option("--replay", metavar="STRING", help="Follow this schedule, and decide nothing.")
@click.option("--extend", type=click.IntRange(0), default=0, metavar="N", help="With --replay: N steps beyond it.")
@click.option("--preemptions", type=click.IntRange(0), metavar="N", help="Only schedules with at most N preemptions.")
@click.option("--random", type=click.IntRange(1), metavar="N", help="Only N random schedules.")
@click.option("--seed", type=int, default=0, metavar="S", help="With --random: which ones.  [default: 0]")
@click.option("--no-reduction", is_flag=True, help="Every schedule one by one: the same verdict, slower.")
@click.option("--executions", type=click.IntRange(1), metavar="N", help="Give up after N executions.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    help="Give up an execution that goes on for N steps.  [default: 100000]",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    metavar="N",
    help="A loop that goes round N times more with nothing changed is endless.  [default: 50]",
)
@click.option(
    "--step-seconds",
    type=click.IntRange(1),
    metavar="N",
    help="Processor time that code of a race may take for one step; more is an error.  [default: 30]",
)
@json_option
def explore(
    name: str | None,
    variant: str | None,
    configuration: str | None,
    chosen_texts: tuple[str, ...],
    patch: tuple[Path, ...],
    view: str,
    full: bool,
    html: Path | None,
    replay: str | None,
    extend: int,
    preemptions: int | None,
    random: int | None,
    seed: int,
    no_reduction: bool,
    executions: int | None,
    steps: int | None,
    rounds: int | None,
    step_seconds: int | None,
    as_json: bool,
) -> int:
    """Decide race NAME in one variant, and show a short trace of what goes wrong.

    Without NAME: a line for each race. Without --variant: the variants of race NAME. Exit code 0: the verdict is what
    the variant is known as, or is explained, or nothing breaks with --patch, or the schedule was replayed. 1: it is
    neither, or undecided. 2: the input cannot be used.
    """
    from memhp.cli.users_output import told_on_stderr
    from memhp.explore.cases import CASES, case
    from memhp.explore.doors.endless import bounded
    from memhp.explore.engine.limits import STEP_SECONDS
    from memhp.explore.explored import How, replay_schedule
    from memhp.explore.explored import explore as decide
    from memhp.explore.patch import under_patch
    from memhp.outputs.check import check_outputs
    from memhp.report.races_known import case_row, print_cases, print_variants
    from memhp.report.trace import print_explored

    told_options = _told_options()
    if name is None:
        if told_options:
            raise click.UsageError(f"{told_options[0]} goes with the name of a race; memhp explore lists them")
        if as_json:
            from memhp.report.documents import ExploreListDocument

            emit_json(ExploreListDocument(races=[case_row(one) for one in CASES]))
        else:
            print_cases(console(), CASES)
        return 0
    with told_on_stderr(), bounded(step_seconds or STEP_SECONDS):
        one = case(name)
    if variant is None:
        if told_options:
            raise BadInput(f"which variant of {name}?", where=told_options[0], fix=f"memhp explore {name} lists them")
        if as_json:
            from memhp.report.documents import ExploreVariantsDocument

            row = case_row(one)
            emit_json(ExploreVariantsDocument(name=row.name, actors=row.actors, variants=row.variants))
        else:
            print_variants(console(), one)
        return 0
    searches = [preemptions is not None, random is not None, no_reduction]
    if sum(searches) > 1:
        raise click.UsageError("--preemptions, --random and --no-reduction exclude each other")
    if replay is not None and (any(searches) or any(each is not None for each in (executions, steps, rounds))):
        raise click.UsageError("--replay follows one schedule; the options of a search do not go with it")
    if extend and replay is None:
        raise click.UsageError("--extend goes with --replay")
    if "--seed" in told_options and random is None:
        raise click.UsageError("--seed goes with --random")
    read = [*patch, Path(name) if name.endswith(".py") else None]
    on_stdout = check_outputs({"--html": html}, inputs=read, stdout="--json" if as_json else "")
    told = told_choices(chosen_texts)
    how = How(preemptions, random, seed, not no_reduction, executions, steps, rounds, step_seconds)
    with at_work(f"exploring {name}", _far), told_on_stderr(), bounded(step_seconds or STEP_SECONDS):
        found = under_patch(
            patch,
            lambda: (
                decide(name, variant, configuration, how, told, patched=bool(patch))
                if replay is None
                else replay_schedule(
                    name,
                    variant,
                    configuration,
                    replay,
                    extend=extend,
                    choices=told,
                    step_seconds=step_seconds,
                    patched=bool(patch),
                )
            ),
        )
    if html is not None:
        from memhp.report.trace_page import write_page

        write_page(found, html)
    if as_json:
        from memhp.report.documents import explore_document

        emit_json(explore_document(found))
    else:
        print_explored(console(stderr=on_stdout), found, view=view, full=full)
    return 0 if replay is not None or found.as_known else 1


def _far() -> str:
    """How many executions were looked at so far."""
    from memhp.explore.engine.looked_at import LookedAt

    return f" ({format_count(LookedAt.executions, 'execution')} so far)"


def _told_options() -> list[str]:
    """The options that the command line has, in the order of the help, other than ``--json``."""
    ctx = click.get_current_context()
    return [
        each.opts[0]
        for each in ctx.command.params
        if isinstance(each, click.Option) and each.name not in {None, "as_json"}
        if ctx.get_parameter_source(str(each.name)) is ParameterSource.COMMANDLINE
    ]
