"""Everything a fresh clone needs, with nothing but Python 3.11 and a package registry.

``python3 dev.py memhp ARGS...`` runs memhp, ``python3 dev.py test [PYTEST ARGS...]`` runs every check, and
``python3 dev.py lock`` writes the three requirements files anew from pyproject.toml. The first two keep a virtual
environment in .venv that holds exactly what a requirements file pins, and renew it when that file changes.
``python3 dev.py drift SOURCE`` lists the kernel functions mirrored here that have another text in a kernel source tree
(``--record``: writes the lists of functions that places are held against),
and ``python3 dev.py mutate PATH --tests TESTS`` the small changes of modules that tests do not notice.
``python3 dev.py guests`` holds real kernels in QEMU against the model.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (whoever runs this has an older one)
    sys.exit(f"dev.py: memhp needs Python 3.11 or newer, not {sys.version.split()[0]}: run dev.py with a newer python3")

import fcntl
import hashlib
import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
RUN = ROOT / "requirements.txt"
DEV = ROOT / "requirements-dev.txt"
BENCH = ROOT / "requirements-bench.txt"
"""What the benchmarks set beside memhp; nothing else needs it."""

CHECKS = (
    ("ruff check", ("ruff", "check")),
    ("mypy --strict", ("mypy", "--strict")),
    ("import-linter", ("lint-imports",)),
)


def fingerprint(requirements: Path) -> str:
    """What an environment for this requirements file depends on, as one hash."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = [settings["project"], settings["build-system"]]
    return hashlib.sha256(repr([sys.version, sys.prefix, ROOT, package, requirements.read_text()]).encode()).hexdigest()


def stamp(requirements: Path) -> Path:
    """The file in the environment that records the fingerprint it was made for."""
    return VENV / f"{requirements.stem}.sha256"


def is_current(requirements: Path) -> bool:
    """Whether the environment holds what the requirements file pins."""
    return stamp(requirements).is_file() and stamp(requirements).read_text() == fingerprint(requirements)


def call(what: str, *command: str | Path) -> None:
    """Run a command quietly; on failure leave with one line that holds its last error."""
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR:", "Error:"))]
        sys.exit(f"dev.py: {what} failed: {(errors or lines or ['no reason given'])[-1]}")


def environment(requirements: Path) -> None:
    """Make .venv, or renew it, so that it holds what `requirements` pins and this package, editable."""
    with Path(__file__).open("rb") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if is_current(requirements):
            return
        print(f"dev.py: preparing .venv from {requirements.name} ...", file=sys.stderr, flush=True)
        call("making .venv", sys.executable, "-m", "venv", "--clear", VENV)
        pip = (BIN / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
        call(f"pip install of {requirements.name}", *pip, "--require-hashes", "--requirement", requirements)
        call("pip install of memhp", *pip, "--no-deps", "--no-index", "--no-build-isolation", "--editable", ROOT)
        for satisfied in {requirements, RUN}:  # requirements-dev.txt holds all of requirements.txt
            stamp(satisfied).write_text(fingerprint(satisfied))


def memhp(args: list[str]) -> int:
    """Become ``memhp ARGS``."""
    environment(RUN)
    os.execv(BIN / "memhp", ["memhp", *args])


def test(args: list[str]) -> int:
    """Run every check, whatever the ones before it said; pytest comes last and takes `args`."""
    environment(DEV)
    failed = []
    for name, command in CHECKS:
        print(f"== {name}", flush=True)
        if subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print("== pytest" + (f" (failed before: {', '.join(failed)})" if failed else ""), flush=True)
    done = subprocess.run([BIN / "python", "-m", "pytest", "-n", "auto", *args], cwd=ROOT, check=False)
    return 1 if failed or done.returncode else 0


def lock(args: list[str]) -> int:
    """Write the requirements files from pyproject.toml; ``lock --upgrade`` takes newer versions."""
    environment(DEV)
    os.environ["CUSTOM_COMPILE_COMMAND"] = "python3 dev.py lock"
    options = (
        "--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe", "--build-deps-for=editable",
        "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options",
    )  # fmt: skip
    within = "--constraint=requirements.txt"
    for output, extra in ((RUN, ()), (DEV, ("--extra=dev", within)), (BENCH, ("--extra=bench", within))):
        compile_ = (BIN / "pip-compile", *options, *extra, f"--output-file={output.name}", *args, "pyproject.toml")
        call(f"pip-compile of {output.name}", *compile_)
    return 0


def drift(args: list[str]) -> int:
    """Hold the kernel functions that memhp mirrors against a source tree: see ``tools/drift.py``."""
    return subprocess.run([sys.executable, "-m", "tools.drift", *args], cwd=ROOT, check=False).returncode


def mutate(args: list[str]) -> int:
    """Change modules a little and see whether tests notice: see ``tools/mutate.py``."""
    environment(DEV)
    return subprocess.run([BIN / "python", "-m", "tools.mutate", *args], cwd=ROOT, check=False).returncode


def guests(args: list[str]) -> int:
    """Hold real kernels in QEMU against the model: see ``tools/guests.py``."""
    environment(DEV)
    print("== guests", flush=True)
    return subprocess.run([BIN / "python", "-m", "tools.guests", *args], cwd=ROOT, check=False).returncode


COMMANDS = {"memhp": memhp, "test": test, "guests": guests, "lock": lock, "drift": drift, "mutate": mutate}


def main(argv: list[str]) -> int:
    """Run one of `COMMANDS`."""
    if not argv or argv[0] not in COMMANDS:
        sys.exit(f"dev.py: say what to do: python3 dev.py {{{','.join(COMMANDS)}}} ...")
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("dev.py: interrupted")
