"""Every command of memhp as the program itself lists them, each with a run of its own and what stands in for the world.

Guests start a QEMU that is a script and sleeps, fetching asks a package manager that does the same, and whoever is
called on a socket takes the call and says nothing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from fake_host import write_host
from memhp.cli.main import cli, main

ROOT = Path(__file__).parents[1]
CAPTURE = str(ROOT / "tests/data/captures/x86_64-6.12.107+deb13-cloud-amd64-kmem-map-ram-mom0.tar.xz")
CORE = str(next(ROOT.glob("tests/data/ptcores/riscv64-7.2*sv39/0-before/*.elf.xz")))
SLEEPS = "#!/bin/sh\nexec sleep 60\n"
SCENARIO = '[machine]\npreset = "x86-vm"\nmemory = "1G"\n[[steps]]\ndo = "plug"\nsize = "256M"\nonline = "movable"\n'
GUEST = ("--kernel", "image", "--arch", "x86_64", "--qemu", "qemu", "--initrd", "image")


def commands() -> list[str]:
    """The words of every command that runs, those of groups below the group's."""

    def below(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
        if not isinstance(command, click.Group):
            yield " ".join(words)
            return
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            yield from below(found, (*words, name))

    return list(below(cli, ()))


class Run(NamedTuple):
    """The arguments behind a command's words, and the exit codes of one that nobody disturbs."""

    words: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)


def run(text: str = "", *codes: int) -> Run:
    return Run(tuple(text.split()), codes or (0,))


RUNS = {
    "rehearse": run("--machine x86-64tib --plug 1T --html page.html --sysroot root"),
    "matrix": run("--jobs 2"),
    "claims": run("--json"),
    "explore": run("vmalloc-vs-hot-remove --variant V5"),
    "races": run("--jobs 2 --json"),
    "capture": Run((CAPTURE, "--out", "copy.tar.xz", "--json"), (0, 2)),
    "guest doctor": run("", 0, 1),
    "guest fetch": run("6.12:amd64", 2),
    "guest list": run(),
    "guest run": Run(("x.toml", *GUEST), (1, 2)),
    "guest shell": Run(GUEST, (0, 1, 2)),
    "device ctl": run("silent requested=1G", 2),
    "device virtio-mem": run("--socket device --control control --size 1G --guest x86_64:4G"),
    "twin ctl": run("silent status", 2),
    "twin run": run("x.toml -- sleep 20", 0, 2),
    "conform": run(f"--captures {CAPTURE} --json", 0, 1),
    "vm blocks": run("silent", 2),
    "vm online": run("silent 3 --yes", 2),
    "vm plug": run("silent 1G --yes", 2),
    "vm resize": run("silent 1G --yes", 2),
    "vm status": run("silent", 2),
    "vm unplug": run("silent d0 --yes", 2),
    "pagetables": Run((CORE, "--check"), (0, 1, 2)),
    "blocks": Run(("--machine", CAPTURE, "--use")),
    "choices": run(),
    "fixes": run("--kernel 6.12.40"),
    "schema": run(),
    "why": Run(("8", "--machine", CAPTURE), (1,)),
    "plan": run("--sysroot host --shrink-by 256M --out again.json", 0, 1, 2),
    "apply": run("plan.json --sysroot host --yes --journal journal", 0, 1, 2),
    "lint": Run(("--machine", CAPTURE), (0, 1)),
    "geometry": run(),
    "example": run("refused"),
    "completion": run("bash"),
    "man": run(),
}
"""A run of each command, of some length where it can be."""


@contextmanager
def world(folder: Path, command: str, program: str = SLEEPS) -> Iterator[dict[str, str]]:
    """What the run of a command names, in a folder that it runs in; yields its environment.

    `program` is the script that stands in for QEMU and for package managers.
    """
    (folder / "x.toml").write_text(SCENARIO, encoding="utf-8")
    (folder / "image").touch()
    programs = folder / "programs"
    programs.mkdir()
    for path in (folder / "qemu", programs / "apt-get", programs / "apt-cache"):
        path.write_text(program, encoding="utf-8")
        path.chmod(0o755)
    if command in ("plan", "apply"):
        host = write_host(folder / "host")
        assert main(["plan", "--sysroot", str(host), "--shrink-by", "256M", "--out", str(folder / "plan.json")]) == 0
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    environment["PATH"] = os.pathsep.join((str(programs), os.environ["PATH"]))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent"))
        silent.listen(64)
        yield environment
