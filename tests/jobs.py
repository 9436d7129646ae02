"""Jobs for the explorer that every process can make anew: generated programs, races, and some that end their worker."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from memhp.explore.engine.op import Run
from memhp.explore.engine.search import Limits
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared

EVERYTHING = Limits(deadlock_is_failure=False, keep_behaviours=True, keep_classes=True)


@dataclass(frozen=True)
class Generated:
    """The generated program of a number."""

    seed: int
    searched_within: Limits = EVERYTHING
    kin: Hashable = None

    def run(self) -> Run:
        return program(self.seed).run()


def increment(memory: Shared) -> None:
    memory.store("x", memory.load("x") + 1)


@dataclass(frozen=True)
class Increments:
    """Threads that increment a variable; where they are to lose none, that is a failure."""

    threads: int
    careful: bool = False
    searched_within: Limits = field(default_factory=Limits)
    kin: Hashable = None

    def run(self) -> Run:
        def check(cells: object) -> str | None:
            lost = self.careful and cells["x"] != self.threads  # type: ignore[index]
            return "lost: an increment" if lost else None

        return Program((increment,) * self.threads, {"x": 0}, check=check).run()


@dataclass(frozen=True)
class Deadly:
    """Increments whose first so many workers are killed: each leaves its process number behind."""

    marks: Path
    deaths: int
    searched_within: Limits = field(default_factory=Limits)
    kin: Hashable = None

    def run(self) -> Run:
        died = len(list(self.marks.iterdir()))
        if died < self.deaths:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Increments(3).run()


@dataclass(frozen=True)
class Endless:
    """A search that takes very long; its workers leave their process numbers behind."""

    marks: Path
    number: int
    searched_within: Limits = field(default_factory=Limits)
    kin: Hashable = None

    def run(self) -> Run:
        (self.marks / str(os.getpid())).touch()
        return Increments(9).run()
