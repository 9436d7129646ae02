"""Random lives of a kernel in QEMU, for ``memhp conform --random``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.guest_options import GuestChoice
from memhp.cli.output import progress
from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.conform.compare import Comparison
    from memhp.target.target import Target


def random(
    choice: GuestChoice, count: int, seed: int, keep: Path | None, *, quiet: bool
) -> "dict[str, Comparison | str]":
    """Play random lives; what was compared. Smallest lives that differ go to `keep`, or to the terminal."""
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise BadInput("random lives need Hypothesis", where="--random", fix="pip install 'memhp[lives]'") from None
    from memhp.conform.draw import DEVICE, DEVICE_SIZE
    from memhp.conform.keep import scenario_text
    from memhp.conform.lives import random_lives
    from memhp.scenario.schema import MachineText, Scenario, StepKind, VirtioMem
    from memhp.target.guest.guest import running
    from memhp.target.guest.machines import MACHINES
    from memhp.target.guest.snapshot import Snapshot, resumed
    from memhp.target.guest.target import GuestTarget, spec_for

    qemu, base = choice.resolve()
    arch = base.kernel.arch
    device: list[StepKind] = [VirtioMem(size=DEVICE_SIZE, device=DEVICE)] if MACHINES[arch].virtio_mem else []
    machine: dict[str, object] = {"arch": arch, "memory": sum(base.nodes), "cpus": base.cpus}
    spec = spec_for(base, Scenario(machine=MachineText(memory=sum(base.nodes), cpus=base.cpus), steps=device))
    spec = replace(spec, dimms=MACHINES[arch].dimm)
    with progress() as bar:
        task = bar.add_task("booting", total=count)
        with running(choice.cache, qemu, spec) as guest:
            GuestTarget(guest).facts()
            release = guest.release
            snapshot = Snapshot.of(guest)

        @contextmanager
        def begin() -> "Iterator[Target]":
            with resumed(snapshot) as again:
                yield GuestTarget(again)

        try:
            out = random_lives(
                begin,
                count,
                seed,
                first=device,
                progress=lambda lives, text: bar.update(task, completed=lives, description=f"life {lives}: {text}"),
            )
        finally:
            snapshot.close()
    for number, life in enumerate(out.kept):
        text = scenario_text(life, device, machine, release, base.append)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{release}-{seed}-{number}.toml").write_text(text, encoding="utf-8")
        elif not quiet:
            click.echo(text)
    if not quiet:
        click.echo(
            f"{out.lives} lives of {out.steps} steps in all, {out.tried} more to shrink; {out.differed} differed, in "
            f"{len(out.kept)} ways" + (f", {out.unsteady} of them not twice" if out.unsteady else "")
        )
    return {f"random lives on {release}, seed {seed}": out.found}
