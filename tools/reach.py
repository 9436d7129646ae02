"""A pytest plugin that records which functions of a tree each test calls, and the seconds that the test takes.

``pytest -p tools.reach``, with MEMHP_REACH naming the file to write and MEMHP_REACH_TREE the folder whose functions
count. What a fixture that several tests share calls is told of the first of them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

OUT, TREE = "MEMHP_REACH", "MEMHP_REACH_TREE"

Function = tuple[str, int]
"""A file, relative to the tree, and the first line of a function in it."""


@dataclass(frozen=True)
class Reach:
    """Which tests call what: seconds by test, and the tests by function."""

    seconds: Mapping[str, float]
    tests: Mapping[Function, frozenset[str]]

    @property
    def breadth(self) -> Mapping[str, int]:
        """How many functions each test calls."""
        found = dict.fromkeys(self.seconds, 0)
        for tests in self.tests.values():
            for test in tests:
                found[test] += 1
        return found


def read_reach(path: Path) -> Reach:
    """What the plugin wrote."""
    seconds: dict[str, float] = {}
    tests: defaultdict[Function, set[str]] = defaultdict(set)
    for test, (took, functions) in json.loads(path.read_text()).items():
        seconds[test] = took
        for file, line in functions:
            tests[file, line].add(test)
    return Reach(seconds, {function: frozenset(names) for function, names in tests.items()})


class Recorder:
    """The hooks: a trace function, for calls alone, while a test runs, and one file at the end."""

    def __init__(self, out: Path, tree: str) -> None:
        self._out = out
        self._tree = tree.rstrip("/") + "/"
        self._calls: set[CodeType] = set()
        self._found: dict[str, tuple[float, list[Function]]] = {}

    def _trace(self, frame: FrameType, _event: str, _arg: Any) -> None:
        self._calls.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Record one test with its fixtures."""
        self._calls.clear()
        began = time.process_time()
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            took = time.process_time() - began
            reached = {
                (code.co_filename.removeprefix(self._tree), code.co_firstlineno)
                for code in self._calls
                if code.co_filename.startswith(self._tree)
            }
            self._found[item.nodeid] = round(took, 3), sorted(reached)

    def pytest_sessionfinish(self) -> None:
        """Write what was found."""
        self._out.write_text(json.dumps(self._found))


def pytest_configure(config: pytest.Config) -> None:
    """Record where the environment says so."""
    if OUT in os.environ:
        config.pluginmanager.register(Recorder(Path(os.environ[OUT]), os.environ[TREE]))
