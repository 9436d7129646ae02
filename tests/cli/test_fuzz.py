"""Mutated scenarios, captures, cores, options and signals: whatever comes, memhp ends soon, in one line at most.

The inputs follow from `SEED`, so that a failure comes again; ``MEMHP_FUZZ_RUNS`` makes the search longer.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

from captures import DATA
from every_command import CAPTURE, CORE, RUNS, world
from memhp.cli.main import cli
from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore
from memhp.hw.reader import MissingTables
from memhp.scenario import schema

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("MEMHP_FUZZ_SEED", "1"))
NUMBER = int(os.environ.get("MEMHP_FUZZ_RUNS", "8"))
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
FAILS = "#!/bin/sh\nexit 1\n"
"""What stands in for programs that commands start."""

COPIES = {"capture.tar.xz": CAPTURE, "core.xz": CORE}
"""What is copied into the folder that a run happens in: any of it may be named as an output."""

PLACES = ("x.toml", "plan.json", "host", "page", "new", "image", "fifo", *COPIES)
"""What there is, or can be, in the folder that runs happen in."""


FILES: dict[str, str | bytes] = {
    "script.toml": '[[twin]]\nafter = 0.5\nthen = { do = "online", blocks = [8], zone = "movable" }\n',
    "expect.toml": 'exit = 0\n[[saw]]\nwhat = "read"\npath = "/sys/*"\nresult = "ok"\n[end]\n"/proc/x" = "-"\n',
    "race.py": (ROOT / "examples/own_race.py").read_bytes(),
    "patch.py": (ROOT / "examples/own_patch.py").read_bytes(),
    "iomem": "80000000-bfffffff : System RAM\n  80200000-8120ffff : Kernel code\n",
}
READERS = {
    "blocks --sysroot host --use": "host/**/*",
    "why 3 --sysroot host": "host/**/*",
    "plan --sysroot host --shrink-by 256M": "host/**/*",
    "lint --sysroot host --json": "host/**/*",
    "capture host --out new": "host/**/*",
    "apply plan.json --sysroot host --dry-run": "plan.json",
    "apply plan.json --sysroot host --yes --journal journal": "plan.json",
    "twin run --script script.toml x.toml -- true": "script.toml",
    "twin run --expect expect.toml x.toml -- true": "expect.toml",
    "twin run x.toml -- true": "x.toml",
    f"conform x.toml --with {CAPTURE}": "x.toml",
    "explore race.py": "race.py",
    "explore sysfs-write-vs-remove --variant lock-waited-for --patch patch.py": "patch.py",
    "pagetables core.xz --check": "core.xz",
    "pagetables core.xz --summary": "core.xz",
    f"pagetables {CORE} --check --iomem iomem": "iomem",
}
"""Commands that read files of the folder, and which of those are spoiled."""

BRIEF = {
    "rehearse": ("--machine", "riscv-vm", "--plug", "128M", "--memory", "1G"),
    "matrix": ("--arch", "riscv64", "--va-bits", "39", "--profile", "linux-6.12", "--jobs", "1"),
    "claims": ("rv-3",),
    "explore": ("vmalloc-fault", "--variant", "no-fault-handler"),
    "races": ("vmalloc-fault", "--variant", "no-fault-handler", "--arch", "riscv64", "--jobs", "1"),
    "twin run": ("x.toml", "--", "true"),
    "conform": ("--captures", CAPTURE),
    "device virtio-mem": ("--socket", "x.toml", "--control", "control", "--size", "1G", "--guest", "x86_64:4G"),
}
"""Runs that are over sooner than those of `RUNS`."""


def step(chance: random.Random) -> str:
    """A step, sensible or not."""
    keys = chance.sample(KEYS, chance.randint(0, 3))
    return (
        "[[steps]]\n"
        + f'do = "{chance.choice(STEPS)}"\n'
        + "".join(f"{key} = {chance.choice(VALUES)}\n" for key in keys if key != "do")
    )


def scenario(chance: random.Random, folder: Path, command: str) -> list[str]:
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


def captured(chance: random.Random, folder: Path, command: str) -> list[str]:
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


def inputs(chance: random.Random, folder: Path, command: str) -> list[str]:
    """A command that reads files, with some of those spoiled."""
    for name, text in FILES.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    shutil.copyfile(CORE, folder / "core.xz")
    found = sorted(path for path in folder.glob(READERS[command]) if path.is_file())
    for path in chance.sample(found, min(len(found), chance.randint(1, 4))):
        path.write_bytes(spoiled(chance, path.read_bytes()))
    return command.split()


def options(chance: random.Random, folder: Path, command: str) -> list[str]:
    """A command with options that go together or not, of its own and with values of every kind.

    Its run in `RUNS` comes last and has the last word on what it reads and where it acts.
    """
    os.mkfifo(folder / "fifo")
    for name, path in COPIES.items():
        shutil.copyfile(path, folder / name)
    drawn: list[str] = []
    for each in chance.choices(list(named(command)), k=chance.randint(1, 3)):
        drawn.append(chance.choice(each.opts))
        if not each.is_flag or chance.random() < 0.1:
            given = each.type.choices if isinstance(each.type, click.Choice) and chance.random() < 0.7 else ()
            drawn.append(chance.choice(given or (*WORDS, *PLACES)))
    if chance.random() < 0.2:
        drawn.insert(chance.randint(0, len(drawn)), chance.choice(WORDS))
    words = BRIEF[command] if command in BRIEF else RUNS[command].words
    # Nobody listens at a file, which shows at once.
    instead = {"silent": "x.toml", **{path: name for name, path in COPIES.items()}}
    args = [*command.split(), *drawn, *(instead.get(word, word) for word in words)]
    assert not [word for word in args if str(ROOT) in word], "a run could write there"
    return args


def named(name: str) -> Iterator[click.Option]:
    """The options of a command, --help among them."""
    command: click.Command | None = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    return (each for each in command.get_params(click.Context(command)) if isinstance(each, click.Option))


def interrupted(chance: random.Random, folder: Path, command: str) -> list[str]:
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


KINDS = {each.__name__: each for each in (scenario, captured, inputs, options, interrupted)}
SUBJECTS = {"inputs": sorted(READERS), "options": sorted(RUNS)}
"""The commands that a kind of input is about, where it is about one at a time."""


@pytest.mark.parametrize("number", range(NUMBER))
@pytest.mark.parametrize("kind", KINDS)
def test_memhp_ends_well_whatever_comes(kind: str, number: int, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {kind} {number}")
    command = chance.choice(SUBJECTS.get(kind, [""]))
    with world(tmp_path, "apply" if "host" in command else command, FAILS) as environment:
        drawn = KINDS[kind](chance, tmp_path, command)
        args = [each.encode("utf-8", "surrogateescape").replace(b"\0", b"") for each in drawn]
        code, err = ended(args, tmp_path, environment, chance if kind == "interrupted" else None)
    assert "Traceback" not in err, (args, err)
    assert code in ((0, 1, 2) if kind != "interrupted" else (0, 1, 130, 143)), (args, code, err)
    if code == 2:
        last = err.splitlines()[-1]
        assert last.startswith("memhp: "), (args, err)
        assert len(last) < 700, (args, err)
        assert last.isprintable(), (args, err)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], args


def ended(
    args: list[bytes], folder: Path, environment: dict[str, str], chance: random.Random | None
) -> tuple[int, str]:
    """How a run ended, and what it said on stderr; with `chance` it is interrupted."""
    with subprocess.Popen(
        [sys.executable.encode(), b"-c", WITHIN_LIMITS, *args], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**environment, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        if chance is not None:
            while process.poll() is None and not takes_signals(process.pid):
                time.sleep(0.002)
            time.sleep(chance.random())
            process.send_signal(chance.choice((signal.SIGINT, signal.SIGTERM)))
        try:
            _, said = process.communicate(timeout=2 * MOST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"no end: {args!r}")
    return process.returncode, said.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("number", range(NUMBER))
def test_a_spoiled_core_is_refused_or_read(number: int, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} core {number}")
    core = lzma.decompress(chance.choice(sorted(DATA.rglob("*.elf.xz"))).read_bytes())
    at = chance.choice((64, 512, 4096, len(core)))
    data = spoiled(chance, core[:at]) + core[at:]
    (tmp_path / "core").write_bytes(data if chance.random() < 0.7 else spoiled(chance, lzma.compress(data, preset=0)))
    try:
        read = ElfCore(tmp_path / "core")
        read.root()
    except MissingTables:
        pass  # as facts/table_source.py takes it
    except BadInput as error:
        assert "\n" not in str(error)
