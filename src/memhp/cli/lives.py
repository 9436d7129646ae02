"""Random lives of a kernel in QEMU, for ``memhp conform --random``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from memhp.cli.guest_options import GuestChoice
from memhp.cli.output import progress
from memhp.errors import BadInput
from memhp.outputs.file import write_file

if TYPE_CHECKING:
    from memhp.conform.life_results import Lives
    from memhp.target.target import Target


class Played(NamedTuple):
    """What came of lives, of which kernel, and the smallest ones that differ as scenarios."""

    release: str
    lives: "Lives"
    kept: list[str]


def random(
    choice: GuestChoice, count: int, seed: int, seconds: float | None = None, *, served: bool = False
) -> Played:
    """Play random lives, as many as `seconds` allow, with a virtio-mem device that memhp serves or QEMU's.

    Where DIMMs want firmware and persistent memory a device tree, even seeds have the one, odd ones the other; a guest
    with a served device has neither.
    """
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise BadInput("random lives need Hypothesis", where="--random", fix="pip install 'memhp[lives]'") from None
    from memhp.conform.draw import DEVICE, DEVICE_SIZE, REGION
    from memhp.conform.life_file import scenario_text
    from memhp.conform.life_results import Lives
    from memhp.conform.lives import random_lives
    from memhp.scenario.schema import MachineText, Plug, Scenario, StepKind, VirtioMem
    from memhp.target.device.served_guest import served_target
    from memhp.target.guest.agent import GuestSlow
    from memhp.target.guest.guest import running
    from memhp.target.guest.machines import MACHINES
    from memhp.target.guest.snapshot import Snapshot, resumed
    from memhp.target.guest.target import GuestTarget, refusal, spec_for

    qemu, base = choice.resolve()
    arch = base.kernel.arch
    vm0 = VirtioMem(size=DEVICE_SIZE, device=DEVICE)
    why = refusal(base.kernel, vm0, served=served)
    if served and why is not None:
        raise BadInput(why, where="--served")
    dimms = refusal(base.kernel, Plug(size=0)) is None
    either = dimms and MACHINES[arch].dimm_needs_firmware
    dimms = dimms and not (either and (seed % 2 or served))
    device: list[StepKind] = [vm0] if why is None else []
    if refusal(base.kernel, REGION) is None and not (dimms and either) and not served and len(base.nodes) == 1:
        device.append(REGION)
    machine: dict[str, object] = {"arch": arch, "memory": sum(base.nodes), "cpus": base.cpus}
    spec = spec_for(base, Scenario(machine=MachineText(memory=sum(base.nodes), cpus=base.cpus), steps=device))
    spec = replace(spec, dimms=dimms)
    release = base.kernel.release
    with progress() as bar, ExitStack() as stack:
        task = bar.add_task("booting", total=count)
        if not served:
            try:
                with running(choice.cache, qemu, spec) as guest:
                    GuestTarget(guest).facts()
                    release = guest.release
                    snapshot = Snapshot.of(guest)
            except GuestSlow as error:
                return Played(release, Lives(lives=1, unfinished=[str(error)]), [])
            stack.callback(snapshot.close)

        @contextmanager
        def begin() -> "Iterator[Target]":
            if served:
                with served_target(choice.cache, qemu, spec, device) as target:
                    yield target
            else:
                with resumed(snapshot) as again:
                    yield GuestTarget(again)

        out = random_lives(
            begin,
            count,
            seed,
            first=device,
            progress=lambda lives, text: bar.update(task, completed=lives, description=f"life {lives}: {text}"),
            seconds=math.inf if seconds is None else seconds,
        )
    return Played(release, out, [scenario_text(life, device, machine, release, base.append) for life in out.kept])


def keep(played: Played, seed: int, folder: Path) -> None:
    """Write the scenarios into a folder. Raises :class:`BadInput`."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}", where=str(folder)) from None
    for number, text in enumerate(played.kept):
        write_file(folder / f"{played.release}-{seed}-{number}.toml", text)


def tell(played: Played) -> None:
    """Say how many lives there were, and why some ended before their time."""
    out = played.lives
    for why in out.unfinished:
        click.echo(f"not finished, {why}")
    click.echo(
        f"{out.lives} lives of {out.steps} steps in all, {out.tried} more to shrink; {out.differed} differed, in "
        f"{len(out.kept)} ways"
        + (f", {out.unsteady} of them not twice" if out.unsteady else "")
        + (f"; {len(out.unfinished)} were not finished" if out.unfinished else "")
    )
