"""``memhp geometry`` prints what the documentation shows, as a table and as JSON."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from memhp.cli.geometry import geometry
from memhp.cli.output import PIPE_WIDTH
from memhp.errors import BadInput
from memhp.linux.config import configs

DOCUMENT = Path(__file__).parents[2] / "docs" / "geometry.md"
SHOWN = re.findall(r"```\n\$ memhp geometry(.*)\n((?:.*\n)*?)```", DOCUMENT.read_text())


def printed(*args: str) -> str:
    result = CliRunner().invoke(geometry, args, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def rows(*args: str) -> list[dict[str, Any]]:
    report = json.loads(printed("--json", *args))
    assert (report["schema"], report["verdict"]) == (1, "listed")
    found: list[dict[str, Any]] = report["rows"]
    return found


def test_json_has_a_row_for_every_configuration() -> None:
    wanted = [(c.profile.name, c.arch, c.page_size, c.va_bits, c.va_bits_actual) for c in configs()]
    keys = ("profile", "arch", "page_size", "va_bits", "va_bits_actual")
    assert [tuple(row[key] for key in keys) for row in rows()] == wanted


def test_options_leave_what_they_name() -> None:
    found = rows("--arch", "arm64", "--profile", "linux-6.12", "--page-size", "16K", "--va-bits", "52")
    assert [(row["levels"], row["va_bits_actual"]) for row in found] == [(4, 52), (3, 47)]


def test_sizes_are_integers_of_bytes() -> None:
    (row,) = rows("--arch", "x86_64", "--profile", "linux-7.2", "--va-bits", "57")
    assert (row["section_size"], row["virtio_mem"]["unit"], row["memmap_bytes"]) == (134217728, 2097152, 2097152)


def test_a_larger_device_block_makes_virtio_mem_work_in_big_blocks() -> None:
    found = rows("--arch", "x86_64", "--profile", "linux-7.2", "--device-block", "512M")
    assert {(row["virtio_mem"]["mode"], row["virtio_mem"]["unit"]) for row in found} == {("big-block", 512 << 20)}


def test_every_line_fits_into_the_columns_of_a_pipe() -> None:
    assert max(len(line.rstrip()) for line in printed().splitlines()) <= PIPE_WIDTH
    assert max(len(line.rstrip()) for line in printed("--max-memory", "1T").splitlines()) <= PIPE_WIDTH


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--profile", "linux-9"], "no kernel profile 'linux-9'"),
        (["--arch", "riscv64", "--page-size", "64K"], "no configuration is left"),
        (["--page-size", "many"], "--page-size"),
        (["--memory", "0"], "needs RAM"),
    ],
)
def test_bad_input_is_told_in_one_line(args: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        CliRunner().invoke(geometry, args, catch_exceptions=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("args", "output"), SHOWN)
def test_the_documentation_shows_what_the_command_prints(args: str, output: str) -> None:
    assert [line.rstrip() for line in printed(*shlex.split(args)).splitlines()] == output.splitlines()


def test_the_documentation_shows_something() -> None:
    assert SHOWN
