"""``memhp guest``: kernels in QEMU: what is there and what is missing, fetch, look inside, run a scenario."""
# SPDX-License-Identifier: GPL-2.0-or-later

import platform
from pathlib import Path
from typing import Literal

import click

from memhp.cli.guest_options import GuestChoice, guest_options
from memhp.cli.output import console, echo_lines, emit_json, json_option, progress


@click.group()
def guest() -> None:
    """Boot real kernels in QEMU, without installing anything and without root.

    QEMU, kernels and a busybox are fetched through this machine's own package sources into the user's cache.
    """


@guest.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what is there, what is missing, and the command that mends it."""
    from memhp.target.guest.cache import user_cache
    from memhp.target.guest.doctor import examine

    found = examine(user_cache(), platform.machine())
    wrong = [each for each in found if not each.ok]
    if as_json:
        from memhp.report.documents_guests import GuestDoctorDocument

        emit_json(GuestDoctorDocument(verdict="incomplete" if wrong else "ready", checks=found))
    else:
        echo_lines(
            f"{'✓' if each.ok else '✗'} {each.name}: {each.found}" + (f"; {each.fix}" if each.fix else "")
            for each in found
        )
    return 1 if wrong else 0


@guest.command()
@click.argument("kernels", nargs=-1, metavar="[KERNEL]...")
@json_option
def fetch(kernels: tuple[str, ...], as_json: bool) -> int:
    """Fetch QEMU and kernels such as 7.2:arm64 or 6.1:cloud-amd64 into the user's cache.

    Without KERNEL: 6.12 and 7.2 for x86-64, arm64 and riscv64. What is there is kept; what was interrupted goes on.
    """
    from memhp.target.guest.cache import user_cache
    from memhp.target.guest.fetch import fetch as fetch_all
    from memhp.target.guest.flavours import DEFAULTS, wanted

    chosen = [wanted(text, where="KERNEL") for text in kernels or DEFAULTS]
    cache = user_cache()
    with progress() as bar:
        task = bar.add_task("fetching", total=1.0, share=True)

        def show(what: str, part: float) -> None:
            if what != bar.tasks[0].description:
                bar.reset(task, description=what)
            bar.update(task, completed=part)

        releases = fetch_all(cache, chosen, platform.machine(), show)
    if as_json:
        from memhp.report.documents_guests import GuestFetchDocument

        emit_json(GuestFetchDocument(cache=str(cache.root), kernels=releases))
    else:
        for kernel, release in zip(chosen, releases, strict=True):
            click.echo(f"{kernel}: {release}")
    return 0


@guest.command("list")
@json_option
def list_kernels(as_json: bool) -> int:
    """List the kernels that are fetched, and the flavours that can be."""
    from memhp.target.guest.cache import user_cache
    from memhp.target.guest.flavours import FLAVOURS
    from memhp.target.guest.kernel import fetched

    found = fetched(user_cache())
    if as_json:
        from memhp.report.documents_guests import FetchedKernel, GuestListDocument

        rows = [FetchedKernel(release=each.release, arch=each.arch, image=str(each.image)) for each in found]
        emit_json(GuestListDocument(kernels=rows, flavours=list(FLAVOURS)))
    else:
        echo_lines([*(f"{each.release}  {each.arch}" for each in found), f"flavours to fetch: {', '.join(FLAVOURS)}"])
    return 0


@guest.command()
@guest_options
@click.option("--memory", default="1G", show_default=True, metavar="SIZE", help="RAM at boot.")
def shell(choice: GuestChoice, memory: str) -> int:
    """Boot a kernel and give a shell in it; the guest ends with the shell."""
    from dataclasses import replace

    from memhp.target.guest.guest import shell as run_shell
    from memhp.units import parse_size

    qemu, spec = choice.resolve()
    return run_shell(choice.cache, qemu, replace(spec, nodes=(parse_size(memory, where="--memory"),)))


@guest.command()
@click.argument("file", type=click.Path(path_type=Path))
@guest_options
@click.option("--out", type=click.Path(path_type=Path), help="Keep a capture of every step: a folder or a .tar.xz.")
@json_option
def run(file: Path, choice: GuestChoice, out: Path | None, as_json: bool) -> int:
    """Carry out the steps of the scenario in FILE on a kernel in QEMU.

    Exit code 0: every step ended as the scenario expects; 1: one did not.
    """
    from memhp.outputs.exclusive_create import check_new
    from memhp.scenario.load import load
    from memhp.target.captures.write import write
    from memhp.target.guest.run import run_scenario

    if out is not None:
        check_new(out)
    scenario = load(file)
    qemu, spec = choice.resolve()
    with progress() as bar:
        task = bar.add_task("booting", total=len(scenario.steps))
        played = run_scenario(
            choice.cache,
            qemu,
            spec,
            scenario,
            where=str(file),
            keep=out is not None,
            progress=lambda index, title: bar.update(task, completed=index, description=title),
        )
    if out is not None:
        write(played.captures, out)
    if as_json:
        from memhp.report.documents_guests import GuestRunDocument

        verdict: Literal["expected", "unexpected"] = "expected" if played.ok else "unexpected"
        emit_json(GuestRunDocument(verdict=verdict, release=played.release, steps=played.steps))
    else:
        screen = console()
        screen.print(f"Linux {played.release}, booted in {played.boot_seconds:.1f} s", markup=False)
        for index, step in enumerate(played.steps):
            mark = "✓" if step.as_expected else "✗"
            reason = f" ({step.reason})" if step.reason else ""
            screen.print(f"{index + 1:3} {mark} {step.title}  {step.result or 'unknown'}{reason}", markup=False)
            for line in step.log:
                screen.print(f"      {line}", markup=False)
    return 0 if played.ok else 1
