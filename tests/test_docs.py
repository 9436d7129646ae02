"""What README and docs show of commands is what the commands print."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from memhp.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ("src", "tests", "bench", "tools", "examples")
    for path in (ROOT / folder).rglob("*.py")
]
ELISION = "…"
"""A line of a shown output that stands for any lines."""


class Shown(NamedTuple):
    """A command of ours in a console block, and the output that the page gives it."""

    page: str
    command: str
    output: list[str]


def shown() -> list[Shown]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, *output = part.rstrip("\n").split("\n")
                if command.startswith("memhp "):
                    found.append(Shown(page.name, command, output))
    return found


def matches(output: list[str], wanted: list[str]) -> bool:
    """Whether an output is what a page shows, with elisions."""
    pattern = "\n".join(".*" if line.strip() == ELISION else re.escape(line) for line in wanted)
    return re.fullmatch(pattern, "\n".join(output), re.S) is not None


def test_pages_show_commands() -> None:
    assert {one.page for one in shown()} >= {"README.md", "rehearse.md", "matrix.md", "claims.md", "scenarios.md"}


@pytest.mark.parametrize("one", shown(), ids=lambda one: f"{one.page}: {one.command}")
def test_a_command_prints_what_the_page_shows(
    one: Shown, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(re.split(r"\s+#", one.command)[0])
    main(words[1:])
    out, err = capfd.readouterr()
    lines = [line.rstrip() for line in (out or err).rstrip("\n").split("\n")]
    assert matches(lines, one.output), f"{one.page} shows another output of: {one.command}\n" + "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text(encoding="utf-8")))
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in FILES)} == set()


def test_an_elision_stands_for_any_lines_and_nothing_else_does() -> None:
    assert matches(["a", "b", "c", "d"], ["a", ELISION, "d"])
    assert not matches(["a", "b", "c"], ["a", "c"])
