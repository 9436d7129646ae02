"""JSON reports are the same bytes for the same report; a pipe gets plain text of a fixed width."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from dataclasses import dataclass

import numpy as np
import pytest

from memhp.cli.output import PIPE_WIDTH, console, emit_json, json_bytes, progress


@dataclass(frozen=True)
class Row:
    size: int
    name: str


def test_json_does_not_depend_on_the_order_of_keys() -> None:
    assert json_bytes({"b": 1, "a": {"d": 2, "c": 3}}) == json_bytes({"a": {"c": 3, "d": 2}, "b": 1})


def test_json_holds_dataclasses_and_numpy_values_as_plain_numbers_and_lists() -> None:
    report = {"rows": [Row(1 << 40, "x")], "address": np.uint64(0xFFFF_FFFF_FFFF_FFFF), "counts": np.arange(3)}
    assert json.loads(json_bytes(report)) == {
        "rows": [{"name": "x", "size": 1 << 40}],
        "address": 0xFFFF_FFFF_FFFF_FFFF,
        "counts": [0, 1, 2],
    }


def test_emit_json_ends_with_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"claims": []})
    assert capsys.readouterr().out == '{\n  "claims": []\n}\n'


def test_a_pipe_gets_no_colours_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("x" * PIPE_WIDTH, style="bold red")
    with progress() as shown:
        shown.advance(shown.add_task("boot", total=1))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("x" * PIPE_WIDTH + "\n", "")
