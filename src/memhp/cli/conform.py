"""``memhp conform``: hold the model against real kernels, fact by fact, after every step."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.finite import FiniteRange
from memhp.cli.guest_options import GuestChoice, guest_options
from memhp.cli.idle import refuse_idle
from memhp.cli.output import echo_lines, emit_json, json_option, output_option, progress
from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.cli.lives import Played
    from memhp.conform.compare import Comparison

USAGE = (
    "give FILE with --kernel, --linux, --all or --with; --random or --selftest with --kernel or --linux; or --all, "
    "--captures, or both alone"
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@guest_options
@click.option("--captures", type=click.Path(path_type=Path), help="Every capture in a folder, or one.")
@click.option("--all", "everywhere", is_flag=True, help="On every fetched kernel, or on --kernel: FILE or memhp's own.")
@click.option("--with", "with_", metavar="CAPTURE[:STEP]", help="Hold the end of the scenario against this moment.")
@click.option("--random", "lives", type=click.IntRange(1, 100_000), metavar="N", help="Play N random lives.")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="S", help="Which lives these are.")
@click.option(
    "--timeout", type=FiniteRange(1), metavar="SECONDS", help="Begin no further step, with --all or --random."
)
@click.option("--served", is_flag=True, help="Lives with memhp's own virtio-mem device, which makes faults.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Where lives that differ are written.")
@click.option("--selftest", type=click.Path(path_type=Path), metavar="TREE", help="Run that kernel tree's own test.")
@click.option("--ktap", "as_ktap", is_flag=True, help="Print KTAP, the kernel's test format.")
@output_option("--html", help="Write a self-contained page.")
@json_option
def conform(
    file: Path | None,
    choice: GuestChoice,
    captures: Path | None,
    everywhere: bool,
    with_: str | None,
    lives: int | None,
    seed: int,
    timeout: float | None,
    served: bool,
    keep: Path | None,
    selftest: Path | None,
    as_ktap: bool,
    html: Path | None,
    as_json: bool,
) -> int:
    """Carry out the scenario in FILE on a kernel in QEMU and on the model of it, and compare after every step.

    With --captures the model goes through what happened to machines that were captured; with --with the scenario is
    carried out on the model alone. --all takes memhp's own scenarios if there is no FILE, and the captures if they are
    given. With --random steps are drawn, and lives that differ are shrunk. Exit code 1 if any fact differs that no
    rule explains.
    """
    from memhp.outputs.check import check_outputs
    from memhp.outputs.staging import check_folder

    _check_usage(file, choice, captures, everywhere, with_, lives is not None, selftest is not None)
    refuse_idle(
        ("--served", lives is not None, "is for --random: a scenario's device is served where it makes faults"),
        ("--seed --keep", lives is not None, "is for --random"),
        ("--timeout", lives is not None or everywhere, "is for --all and --random"),
        ("--json", not as_ktap, "does not go with --ktap: each takes stdout"),
    )
    capture = None if with_ is None else Path(with_.rpartition(":")[0] or with_)
    below = _captures_below(captures)
    report = "--json" if as_json else "--ktap" if as_ktap else ""
    on_stdout = check_outputs({"--html": html}, inputs=[file, capture, *below, *choice.files], stdout=report)
    if keep is not None:
        check_folder(keep)
    found: dict[str, Comparison | str] = {}
    played: Played | None = None
    if lives is not None:
        from memhp.cli.lives import random

        played = random(choice, lives, seed, timeout, served=served)
        found[f"random lives on {played.release}, seed {seed}"] = played.lives.found
    elif selftest is not None:
        found = _selftest(selftest, choice)
    elif file is not None and with_ is not None:
        found = {str(file): _with(file, with_)}
    elif file is not None:
        found = _everywhere([file], choice, timeout) if everywhere else _live(file, choice)
    else:
        if below:
            found |= _captures(below)
        if everywhere:
            from memhp.conform.live import standard

            found |= _everywhere(standard(), choice, timeout)
    with redirect_stdout(sys.stderr) if on_stdout else nullcontext():
        return _report(found, played, seed=seed, keep=keep, html=html, as_json=as_json, as_ktap=as_ktap)


def _check_usage(
    file: Path | None,
    choice: GuestChoice,
    captures: Path | None,
    everywhere: bool,
    with_: str | None,
    random: bool,
    selftest: bool,
) -> None:
    """Raise :class:`click.UsageError` for options that do not go together."""
    alone = random + selftest
    on_one = bool(choice) and not everywhere
    if file is not None:
        fits = not alone and captures is None and on_one + everywhere + (with_ is not None) == 1
    elif alone:
        fits = alone == 1 and on_one and captures is None and with_ is None
    else:
        fits = with_ is None and (everywhere or (captures is not None and not choice))
    if not fits:
        raise click.UsageError(USAGE)


def _captures_below(folder: Path | None) -> list[Path]:
    from memhp.conform.captured import captures_below

    return [] if folder is None else captures_below(folder)


def _captures(paths: list[Path]) -> "dict[str, Comparison | str]":
    from memhp.conform.captured import conform_or_why

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

    path, colon, step = text.rpartition(":") if ":" in text and not Path(text).exists() else (text, "", "")
    if not path or (colon and not step):
        lacks = "step" if path else "capture"
        raise BadInput(f"names no {lacks}", where=f"--with {text}", fix="CAPTURE:STEP, or CAPTURE for its last step")
    return conform_with(load(file), Path(path), step or None, where=str(file))


def _everywhere(files: list[Path], choice: GuestChoice, timeout: float | None) -> "dict[str, Comparison | str]":
    """On every fetched kernel, or the one that is named; where one cannot carry out the steps, why."""
    import math
    import time
    from dataclasses import replace

    from memhp.conform.live import conform_kernels
    from memhp.target.guest.kernel import fetched

    chosen = [choice] if choice else [replace(choice, kernel=kernel.wanted) for kernel in fetched(choice.cache)]
    guests = [each.resolve() for each in chosen]
    if not guests:
        raise BadInput("no kernel is fetched", where="--all", fix="memhp guest fetch")
    with progress() as bar:
        task = bar.add_task("booting")
        return conform_kernels(
            choice.cache,
            guests,
            files,
            begun=lambda name: bar.update(task, description=name),
            until=math.inf if timeout is None else time.monotonic() + timeout,
        )


def _live(file: Path, choice: GuestChoice) -> "dict[str, Comparison | str]":
    from memhp.conform.live import conform_guest
    from memhp.scenario.load import load

    scenario = load(file)
    qemu, spec = choice.resolve()
    with progress() as bar:
        task = bar.add_task("booting", total=len(scenario.steps))
        found = conform_guest(
            choice.cache,
            qemu,
            spec,
            scenario,
            where=str(file),
            progress=lambda index, title: bar.update(task, completed=index, description=title),
        )
        return {f"{file} on {spec.kernel.release}": found}


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


def _report(
    found: "dict[str, Comparison | str]",
    played: "Played | None",
    *,
    seed: int,
    keep: Path | None,
    html: Path | None,
    as_json: bool,
    as_ktap: bool,
) -> int:
    """Print what was compared, and keep lives that differ; the exit code."""
    from memhp.report.conform import document, lines, totals, write_page

    kept = played.kept if played is not None else []
    if played is not None and keep is not None:
        from memhp.cli.lives import keep as keep_lives

        keep_lives(played, seed, keep)
    if html is not None:
        write_page(found, html)
    if as_json:
        emit_json(document(found, None if played is None else played.lives, kept))
    elif as_ktap:
        from memhp.conform.ktap import ktap

        click.echo(ktap(found), nl=False)
    else:
        if played is not None:
            from memhp.cli.lives import tell

            for text in kept if keep is None else []:
                click.echo(text)
            tell(played)
        echo_lines(lines(found))
    total = totals(found)
    if not total["facts"]:
        raise BadInput("nothing could be compared", where=next(iter(found), "conform"), fix="the report says why")
    return 1 if total["differing"] else 0
