"""Mutated scenarios, captures, cores, options and signals: whatever comes, memhp ends soon, in one line at most.

The inputs follow from `SEED`, so that a failure comes again; ``MEMHP_FUZZ_RUNS`` makes the search longer.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
import pytest

from captures import DATA
from memhp.cli.main import cli
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.scenario import schema

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("MEMHP_FUZZ_SEED", "1"))
RUNS = int(os.environ.get("MEMHP_FUZZ_RUNS", "8"))
"""How many inputs of each kind."""

MOST_SECONDS = 60
MOST_MEMORY = 4 << 30
"""Bytes of address space that a run may have."""

WITHIN_LIMITS = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MOST_MEMORY}, {MOST_MEMORY}))
resource.setrlimit(resource.RLIMIT_CPU, ({MOST_SECONDS}, {MOST_SECONDS}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
from memhp.cli.entry import entry
sys.exit(entry())
""".encode()
"""memhp with bounds on memory, processor time and what is written."""

VALUES = (
    "0",
    "-1",
    "1",
    "inf",
    "nan",
    "1e308",
    str(1 << 63),
    str(1 << 64),
    '""',
    '"x"',
    '"128M"',
    '"0x80000000"',
    '"1T"',
    "[]",
    "{}",
    "[0]",
    "true",
    '"[/x] \\u001b[2J"',
    '"movable"',
    '"EBUSY"',
    '"' + "9" * 5000 + '"',
    "1979-05-27",
    "[[[[]]]]",
    '"\\u0000"',
)
STEPS = [str(kind.__struct_config__.tag) for kind in get_args(schema.StepKind)]
KEYS = sorted({key for kind in get_args(schema.StepKind) for key in kind.__struct_encode_fields__})
MACHINES = ("x86-vm", "arm64-16k-vm", "riscv-vm", "x86-vm-la57")
WORDS = (
    "-",
    "/dev/full",
    ".",
    "no/such",
    "0",
    "-1",
    "1",
    "3",
    "99999999999999999999",
    "128M",
    "1T",
    "x86-vm",
    "riscv64",
    "kmem",
    "movable",
    "",
    "\x1b[2J",
    "a3b",
    "a999999999999",
    "no-lock",
    "64K",
    "linux-6.12",
    "vmalloc-fault",
    "[bold]",
    "\udcff",
)
COMMANDS = {
    "rehearse": (),
    "geometry": (),
    "explore": (),
    "races": ("pagemap-lookup-vs-unmap",),
    "matrix": ("--va-bits", "39"),
    "claims": ("rv-3",),
    "choices": (),
    "fixes": (),
    "schema": (),
    "example": (),
    "blocks": ("--machine", "x.toml"),
    "why": ("--machine", "x.toml"),
    "plan": ("--machine", "x.toml"),
    "lint": ("--machine", "x.toml"),
    "pagetables": ("x.toml",),
    "conform": ("--captures", "x.toml"),
    "completion": (),
    "man": (),
}
"""Commands that change nothing outside their outputs, and what keeps each short and off this host."""


def step(chance: random.Random) -> str:
    """A step, sensible or not."""
    keys = chance.sample(KEYS, chance.randint(0, 3))
    return (
        "[[steps]]\n"
        + f'do = "{chance.choice(STEPS)}"\n'
        + "".join(f"{key} = {chance.choice(VALUES)}\n" for key in keys if key != "do")
    )


def scenario(chance: random.Random, folder: Path) -> list[str]:
    """A scenario made up, or one of the examples with some of its text changed."""
    if chance.random() < 0.6:
        text = f'[machine]\npreset = "{chance.choice(MACHINES)}"\nmemory = "1G"\n'
        data = (text + "".join(step(chance) for _ in range(chance.randint(1, 4)))).encode()
    else:
        lines = chance.choice(sorted((ROOT / "examples").glob("*.toml"))).read_text(encoding="utf-8").splitlines()
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(lines))
            key, equals, _ = lines[at].partition("=")
            lines[at] = (
                f"{key}= {chance.choice(VALUES)}" if equals else chance.choice(("", "[[steps]]", "x", lines[at] * 2))
            )
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        data = spoiled(chance, data)
    (folder / "x.toml").write_bytes(data)
    return ["rehearse", "x.toml", *chance.choice(([], ["--json"], ["--html", "page"], ["--sysroot", "root"]))]


def spoiled(chance: random.Random, data: bytes) -> bytes:
    """Bytes with some changed, left out or put in."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed) + 1)
        changed[at : at + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
    return bytes(changed[: chance.randrange(len(changed) + 1)] if chance.random() < 0.3 else changed)


def captured(chance: random.Random, folder: Path) -> list[str]:
    """A capture with files changed, as a folder, or its archive spoiled."""
    import tarfile

    archive = chance.choice(sorted((DATA / "captures").glob("*.tar.xz")))
    if chance.random() < 0.3:
        (folder / "x.tar.xz").write_bytes(spoiled(chance, archive.read_bytes()))
        return ["rehearse", "--machine", "x.tar.xz", "--plug", "1G"]
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "c", filter="data")
    files = sorted(path for path in (folder / "c").rglob("*") if path.is_file())
    for path in chance.sample(files, min(3, len(files))):
        path.write_bytes(spoiled(chance, path.read_bytes()))
    capture = files[0].parent.parent
    return ["rehearse", "--machine", str(capture), "--plug", "1G", "--json"]


def options(chance: random.Random, folder: Path) -> list[str]:
    """A command with options that go together or not."""
    (folder / "x.toml").write_text('[machine]\npreset = "riscv-vm"\nmemory = "1G"\n', encoding="utf-8")
    name = chance.choice(list(COMMANDS))
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    own = ["--help", *(text for each in command.params if isinstance(each, click.Option) for text in each.opts)]
    words = [chance.choice((chance.choice(own), *chance.sample((*WORDS, "x.toml"), 2))) for _ in range(4)]
    return [name, *COMMANDS[name], *words[: chance.randint(1, 4)]]


def interrupted(chance: random.Random, folder: Path) -> list[str]:
    """A run of some length, to be interrupted."""
    return chance.choice((
        ["rehearse", "--machine", "x86-64tib", "--plug", "1T", "--html", "page"],
        ["explore", "vmalloc-vs-hot-remove", "--variant", "V5"],
        ["matrix", "--jobs", "2", "--arch", "riscv64"],
    ))  # fmt: skip


def takes_signals(pid: int) -> bool:
    """Whether the process has got as far as memhp's first line: it catches SIGTERM then."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


KINDS = {each.__name__: each for each in (scenario, captured, options, interrupted)}


@pytest.mark.parametrize("number", range(RUNS))
@pytest.mark.parametrize("kind", KINDS)
def test_memhp_ends_well_whatever_comes(kind: str, number: int, tmp_path: Path) -> None:
    make: Callable[[random.Random, Path], list[str]] = KINDS[kind]
    chance = random.Random(f"{SEED} {kind} {number}")
    args = [each.encode("utf-8", "surrogateescape").replace(b"\0", b"") for each in make(chance, tmp_path)]
    with subprocess.Popen(
        [sys.executable.encode(), b"-c", WITHIN_LIMITS, *args], cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        sent = None
        if kind == "interrupted":
            while process.poll() is None and not takes_signals(process.pid):
                time.sleep(0.002)
            time.sleep(chance.random())
            sent = chance.choice((signal.SIGINT, signal.SIGTERM))
            process.send_signal(sent)
        try:
            _, said = process.communicate(timeout=2 * MOST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"no end: {args}")
    err = said.decode("utf-8", "backslashreplace")
    assert "Traceback" not in err, (args, err)
    allowed = {0, 1, 2} if sent is None else {0, 1, 128 + sent}
    assert process.returncode in allowed, (args, process.returncode, err)
    if process.returncode == 2:
        last = err.splitlines()[-1]
        assert last.startswith("memhp: "), (args, err)
        assert len(last) < 700, (args, err)
        assert last.isprintable(), (args, err)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], args


@pytest.mark.parametrize("number", range(RUNS))
def test_a_spoiled_core_is_refused_or_read(number: int, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} core {number}")
    core = lzma.decompress(chance.choice(sorted(DATA.rglob("*.elf.xz"))).read_bytes())
    at = chance.choice((64, 512, 4096, len(core)))
    data = spoiled(chance, core[:at]) + core[at:]
    (tmp_path / "core").write_bytes(data if chance.random() < 0.7 else spoiled(chance, lzma.compress(data, preset=0)))
    try:
        read = ElfCore(tmp_path / "core")
        read.root()
    except BadInput as error:
        assert "\n" not in str(error)
