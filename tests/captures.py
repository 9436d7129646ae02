"""The captures of real machines under tests/data, opened for tests.

``tests/data/captures/NAME.tar.xz`` holds every step of one capture as folders of flat files;
``tests/data/ptcores/GUEST/facts.tar.xz`` the same for the guests whose page tables are kept beside it;
``tests/data/lsmem/NAME.tar.bz2`` the sysfs trees of util-linux's own tests, with what its lsmem prints for them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from itertools import pairwise
from pathlib import Path

from memhp.facts.observed import Facts, observe
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import Source
from memhp.linux.arch.registry import ARCHES

DATA = Path(__file__).parent / "data"


def all_captures() -> list[str]:
    """The names of all captures of whole scenarios, of machines that are modelled and others."""
    return sorted(path.name.removesuffix(".tar.xz") for path in (DATA / "captures").glob("*.tar.xz"))


def captures() -> list[str]:
    """The captures of machines whose architecture has a port: their names begin with it."""
    return [name for name in all_captures() if name.split("-")[0] in ARCHES]


def guests() -> list[str]:
    """The names of the guests whose page tables are kept."""
    return sorted(path.parent.name for path in (DATA / "ptcores").glob("*/facts.tar.xz"))


def archive(name: str) -> Path:
    """The archive of a capture or of a guest's facts. Raises KeyError for a name that is neither."""
    for path in (DATA / "captures" / f"{name}.tar.xz", DATA / "ptcores" / name / "facts.tar.xz"):
        if path.is_file():
            return path
    raise KeyError(name)


@cache
def open_capture(name: str) -> dict[str, Source]:
    """Every step of a capture or guest, in order, ready to be read."""
    path = archive(name)
    return {step: open_source(path, step=step) for step in steps(path)}


@cache
def facts(name: str, step: str) -> Facts:
    """The facts of one step, read once in a test run."""
    return observe(open_capture(name)[step])


def everything_read() -> list[tuple[str, str]]:
    """The name of every capture with each of its steps, of machines that are not modelled too."""
    return [(name, step) for name in all_captures() for step in steps(archive(name))]


def every_step() -> list[tuple[str, str]]:
    """The name of every capture and guest with each of its steps."""
    return [(name, step) for name in (*captures(), *guests()) for step in steps(archive(name))]


def neighbours() -> list[tuple[str, str, str]]:
    """Every two steps of a capture or guest that follow each other: name, earlier step, later step."""
    named = every_step()
    return [(name, step, later) for (name, step), (other, later) in pairwise(named) if name == other]
