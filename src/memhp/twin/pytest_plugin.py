"""The fixture `memhp_twin` for tests of other projects: commands run on a rehearsed machine, and asked about after.

def test_agent_gives_up(memhp_twin):
done = memhp_twin.run(["./agent", "--offline", "256M"], machine="ci/machine.toml")
assert done.returncode == 3
assert done.saw("write", "*/memory40/state", result="EBUSY")
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class TwinDone:
    """A command that ran on a twin: how it ended, what it printed, and the document of ``memhp twin --record``."""

    returncode: int
    stdout: str
    stderr: str
    document: dict[str, Any]

    def saw(self, what: str, path: str, *, text: str = "*", result: str | None = None) -> list[dict[str, Any]]:
        """The entries of the record that are of a kind, a path and a text (``*`` and ``?`` for anything)."""
        return [
            entry
            for entry in self.document["entries"]
            if entry["what"] == what
            and fnmatchcase(entry["path"], path)
            and fnmatchcase(entry.get("text", "").removesuffix("\n"), text)
            and result in (None, entry.get("result", "ok"))
        ]


class TwinRunner:
    """Runs commands, each on a machine of its own; records go to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def run(
        self, command: Sequence[str], *, machine: str, options: Sequence[str] = (), timeout: float = 300
    ) -> TwinDone:
        """Run a command on a machine: a scenario's file or its text, a preset's name, a capture.

        `options` are those of ``memhp twin``. Raises subprocess.TimeoutExpired, and RuntimeError with what memhp says
        when there is no record, as nothing was run.
        """
        self._count += 1
        if "\n" in machine:
            path = self.folder / f"machine-{self._count}.toml"
            path.write_text(machine, encoding="utf-8")
            machine = str(path)
        record = self.folder / f"twin-{self._count}.json"
        words = [sys.executable, "-m", "memhp", "twin", *options, "--record", str(record), machine, "--", *command]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
        if not record.exists():
            raise RuntimeError(done.stderr.strip() or f"memhp twin ended with {done.returncode}")
        return TwinDone(done.returncode, done.stdout, done.stderr, json.loads(record.read_text(encoding="utf-8")))


@pytest.fixture
def memhp_twin(tmp_path: Path) -> TwinRunner:
    """Run commands on rehearsed machines."""
    return TwinRunner(tmp_path)
