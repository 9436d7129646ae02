"""``memhp conform``: hold the model against real kernels, fact by fact, after every step."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.guest_options import GuestChoice, guest_options
from memhp.cli.output import emit_json, json_option, progress

if TYPE_CHECKING:
    from memhp.conform.compare import Comparison


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@guest_options
@click.option("--captures", type=click.Path(path_type=Path), help="Every capture in a folder, or one.")
@click.option("--all", "everywhere", is_flag=True, help="On every fetched kernel that can carry out the steps.")
@click.option("--with", "with_", metavar="CAPTURE[:STEP]", help="Hold the end of the scenario against this moment.")
@click.option("--random", "lives", type=click.IntRange(1, 100_000), metavar="N", help="Play N random lives.")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="S", help="Which lives these are.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Where lives that differ are written.")
@click.option("--selftest", type=click.Path(path_type=Path), metavar="TREE", help="Run that kernel tree's own test.")
@click.option("--ktap", "as_ktap", is_flag=True, help="Print KTAP, the kernel's test format.")
@json_option
def conform(
    file: Path | None,
    choice: GuestChoice,
    captures: Path | None,
    everywhere: bool,
    with_: str | None,
    lives: int | None,
    seed: int,
    keep: Path | None,
    selftest: Path | None,
    as_ktap: bool,
    as_json: bool,
) -> int:
    """Carry out the scenario in FILE on a kernel in QEMU and on the model of it, and compare after every step.

    With --captures the model goes through what happened to machines that were captured; with --with the scenario is
    carried out on the model alone. With --random steps are drawn, and lives
    that differ are shrunk. Exit code 1 if any fact differs that no rule explains.
    """
    modes = sum((bool(choice), everywhere, captures is not None, with_ is not None))
    alone = sum(each is not None for each in (captures, lives, selftest))
    if modes != 1 or (file is not None) + alone != 1 or (alone and captures is None and not choice):
        raise click.UsageError(
            "give FILE with --kernel, --linux, --all or --with; --random or --selftest with --kernel or --linux; or "
            "--captures alone"
        )
    found: dict[str, Comparison | str]
    if lives is not None:
        from memhp.cli.lives import random

        found = random(choice, lives, seed, keep, quiet=as_json or as_ktap)
    elif selftest is not None:
        found = _selftest(selftest, choice)
    elif captures is not None:
        found = _captures(captures)
    elif file is not None and with_ is not None:
        found = {str(file): _with(file, with_)}
    else:
        assert file is not None
        found = _everywhere(file, choice) if everywhere else _live(file, choice)
    return _report(found, as_json=as_json, as_ktap=as_ktap)


def _captures(folder: Path) -> "dict[str, Comparison | str]":
    from memhp.conform.captured import captures_below, conform_or_why

    paths = captures_below(folder)
    found: dict[str, Comparison | str] = {}
    with progress() as bar:
        task = bar.add_task("comparing", total=len(paths))
        for path in paths:
            bar.update(task, description=path.name)
            found[path.name] = conform_or_why(path)
            bar.advance(task)
    return found


def _with(file: Path, text: str) -> "Comparison":
    from memhp.conform.captured import conform_with
    from memhp.scenario.load import load

    path, _, step = text.rpartition(":") if ":" in text and not Path(text).exists() else (text, "", "")
    return conform_with(load(file), Path(path), step or None, where=str(file))


def _everywhere(file: Path, choice: GuestChoice) -> "dict[str, Comparison | str]":
    """On every fetched kernel; where one cannot carry out the steps, why."""
    from dataclasses import replace

    from memhp.errors import BadInput
    from memhp.target.guest.kernel import fetched

    found: dict[str, Comparison | str] = {}
    for kernel in fetched(choice.cache):
        try:
            found |= _live(file, replace(choice, kernel=kernel.wanted))
        except BadInput as error:
            found[f"{file} on {kernel.release}"] = str(error)
    if not found:
        raise BadInput("no kernel is fetched", where="--all", fix="memhp guest fetch")
    return found


def _live(file: Path, choice: GuestChoice) -> "dict[str, Comparison | str]":
    from memhp.conform.lockstep import conform as in_lockstep
    from memhp.scenario.load import load
    from memhp.target.guest.guest import running
    from memhp.target.guest.run import check_scenario
    from memhp.target.guest.target import GuestTarget, spec_for

    scenario = load(file)
    qemu, spec = choice.resolve()
    check_scenario(spec, scenario, where=str(file))
    with progress() as bar:
        task = bar.add_task("booting", total=len(scenario.steps))
        with running(choice.cache, qemu, spec_for(spec, scenario)) as guest:
            found = in_lockstep(
                GuestTarget(guest),
                scenario.steps,
                where=str(file),
                progress=lambda index, title: bar.update(task, completed=index, description=title),
            )
            return {f"{file} on {guest.release}": found}


def _selftest(tree: Path, choice: GuestChoice) -> "dict[str, Comparison | str]":
    from memhp.conform.selftest import run_selftest, script_of
    from memhp.target.guest.guest import running
    from memhp.target.guest.target import GuestTarget

    script = script_of(tree)
    qemu, spec = choice.resolve()
    with progress() as bar:
        bar.add_task("booting, then the kernel's test")
        with running(choice.cache, qemu, spec) as guest:
            both = run_selftest(GuestTarget(guest), script, where=str(tree))
            return {f"memory-hotplug selftest on {guest.release}": both.found}


def _report(found: "dict[str, Comparison | str]", *, as_json: bool, as_ktap: bool) -> int:
    """Print what was compared; the exit code."""
    compared = {name: each for name, each in found.items() if not isinstance(each, str)}
    differing = sum(each.differing for each in compared.values())
    if as_json:
        from memhp.report.documents_guests import ConformDocument

        emit_json(
            ConformDocument(
                verdict="differs" if differing else "conforms",
                facts=sum(each.facts for each in compared.values()),
                equal=sum(each.equal for each in compared.values()),
                differing=differing,
                incomparable=sum(each.incomparable for each in compared.values()),
                skipped={name: each for name, each in found.items() if isinstance(each, str)},
                details=[detail for each in compared.values() for detail in each.details],
            )
        )
    elif as_ktap:
        from memhp.conform.ktap import ktap

        click.echo(ktap(found), nl=False)
    else:
        _print(found)
    return 1 if differing else 0


def _print(found: "dict[str, Comparison | str]") -> None:
    total = Counter[str]()
    reasons = Counter[str]()
    for name, each in found.items():
        if isinstance(each, str):
            click.echo(f"- {name}: {each}")
            total["machines skipped"] += 1
            continue
        click.echo(f"{'✗' if each.differing else '✓'} {name}: {each.equal} of {each.facts} facts equal")
        for detail in each.details:
            if detail.verdict == "differing":
                click.echo(f"    {detail.step}: {detail.fact}\n      kernel {detail.expected!r}, model {detail.got!r}")
            else:
                reasons[detail.reason] += 1
        total.update(facts=each.facts, equal=each.equal, differing=each.differing, incomparable=each.incomparable)
    for reason, count in reasons.most_common():
        click.echo(f"  {count} incomparable: {reason}")
    click.echo(", ".join(f"{count} {name}" for name, count in total.items()))
