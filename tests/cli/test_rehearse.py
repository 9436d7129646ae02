"""``memhp rehearse`` without a file: the machine that options name."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json

import pytest

from captures import DATA
from memhp.cli.main import main
from memhp.units import GiB


def machine(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """The machine of the report."""
    assert main(["rehearse", *words, "--plug", "2G", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)["machine"]
    return found


def test_memory_and_kernel_are_those_of_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    found = machine(capsys, "--machine", "arm64-vm", "--memory", "8G", "--profile", "7.2")
    assert found["ram"] == [[GiB, 9 * GiB, 0]]
    assert found["profile"] == "linux-7.2"


def test_a_command_line_of_qemu_has_the_kernel_of_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    found = machine(capsys, "--qemu", "-M q35 -m 62G,slots=1,maxmem=66G", "--profile", "6.1")
    assert (found["profile"], found["block_size"]) == ("linux-6.1", 2 * GiB)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--qemu", "-m 1G", "--memory", "2G", "--plug", "1G"], "--memory: the command line tells this"),
        (["--machine", "x86-vm", "--memory", "lots", "--plug", "1G"], "--memory: want a size"),
        (["--machine", "x86-vm", "--profile", "2.6", "--plug", "1G"], "no kernel profile '2.6'"),
        (["--qemu", "-m 1G", "--step", "0-before"], "--step goes with --machine"),
        (["any.toml", "--memory", "1G"], "--memory and --profile go with --machine or --qemu"),
        (["--qemu", "-m -2G"], "--qemu: -m: want a size such as 128M, 2G or 0x8000000, got '-2G'"),
        (["--qemu", "-bogus"], "--qemu: nothing tells of memory; not known here: -bogus"),
        (["--qemu", "-M q35"], "--qemu: 96 MiB cannot be reserved in the RAM there is"),
        (["--machine", "x86-vm", "--qemu", "-m 2G", "--plug", "1G"], "give one of --machine and --qemu"),
        (["--memory", "8G", "--profile", "7.2"], "--memory needs --machine PRESET"),
        (["--profile", "7.2", "--plug", "1G"], "--profile needs --machine or --qemu"),
        (["--qemu", "-M isapc"], "--qemu: machine isapc of x86_64 is not known"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_machine_alone_is_shown_with_what_is_assumed_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    capture = sorted(DATA.glob("captures/x86_64-6.12.*-automovable301.tar.xz"))[0]
    assert main(["rehearse", "--machine", str(capture)]) == 0
    shown = capsys.readouterr().out
    assert "rests on\n  memory in use: " in shown
    assert "told by /proc/zoneinfo" in shown and "assumed: " in shown and "zones\n" in shown


def test_what_a_command_line_of_qemu_leaves_open_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    line = "-M q35 -m 2G,slots=1,maxmem=4G"
    assert main(["rehearse", "--qemu", line, "--plug", "1G"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "machine: RAM, nodes, slots and devices, told by the command line of QEMU" in shown
    assert "kernel: assumed: linux-6.12" in shown and "if what is assumed holds: memory in use" in shown
    assert main(["rehearse", "--qemu", line, "--profile", "7.2"]) == 0
    assert "kernel: assumed" not in capsys.readouterr().out
