"""``memhp rehearse --plan``, ``memhp geometry --memmap-on-memory``, and what a failed plug advises."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path
from typing import Any

import pytest

from memhp.cli.main import main
from memhp.cli.output import PIPE_WIDTH

SHORT = """
[machine]
preset = "x86-vm"
memory = "1G"

[[steps]]
do = "plug"
size = "{size}"
expect = "{expect}"
"""


def report(capfd: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def scenario(folder: Path, size: str, expect: str) -> str:
    file = folder / "short.toml"
    file.write_text(SHORT.format(size=size, expect=expect), encoding="utf-8")
    return str(file)


def machine(folder: Path, key: str) -> str:
    """A scenario without steps: a machine with 4 GiB of RAM and one more key."""
    file = folder / "machine.toml"
    file.write_text(f'[machine]\npreset = "x86-vm"\n{key}\n', encoding="utf-8")
    return str(file)


def test_a_plan_comes_with_the_rehearsal_it_is_for(capfd: pytest.CaptureFixture[str]) -> None:
    found = report(capfd, "rehearse", "--machine", "riscv-vm", "--plug", "1G", "--online", "kernel", "--plan", "8G")
    assert set(found) == {"assumptions", "laws", "machine", "plan", "schema", "state", "steps", "title", "verdict"}
    (step,) = found["plan"]["steps"]
    (plugged,) = [run for run in found["state"]["blocks"] if run["first"] == 48]
    assert step["at"] == plugged["start"] + plugged["size"]
    assert (step["size"], step["zone"], found["plan"]["reached"]) == (8 << 30, "kernel", 8 << 30)


def test_the_exit_code_tells_that_a_plan_does_not_get_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """From one step with 4 GiB of RAM there is no way to 512 GiB, whose struct pages take 8 GiB."""
    assert main(["rehearse", machine(tmp_path, "slots = 1"), "--plan", "512G", "--json"]) == 1
    made = json.loads(capfd.readouterr().out)["plan"]
    assert (len(made["steps"]), made["short"]) == (1, "the only slot is taken")
    assert 0 < made["reached"] == made["largest"] < 256 << 30
    assert 8 << 30 <= made["needed"] < (8 << 30) + (1 << 20)


def test_without_a_slot_there_is_no_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", machine(tmp_path, "slots = 0"), "--plan", "1G"]) == 1
    out = capfd.readouterr().out
    assert "No step is safe now, not even one memory block: there is no slot for a DIMM." in out
    assert "There is no way to 1 GiB." in out


@pytest.mark.parametrize(
    ("preset", "most", "last"),
    [
        ("x86-vm", 65530, 0x3FFF_FFFF_FFFF),  # 46 bits, RAM and the hole for PCI below 6 GiB
        ("x86-vm-la57", (4 << 20) - 6, 0xF_FFFF_FFFF_FFFF),  # 52 bits
        ("riscv-vm-sv39", 128, 0x21_7FFF_FFFF),  # 132 GiB from 2 GiB on, 4 of them RAM
        ("riscv-vm", 65532, 0x4000_7FFF_FFFF),  # 64 TiB from 2 GiB on
        ("arm64-vm", 131068, 0x8000_3FFF_FFFF),  # 128 TiB from 1 GiB on
    ],
)
@pytest.mark.parametrize("wanted", ["5P", "15E"])
def test_a_plan_to_more_than_the_kernel_maps_is_refused_at_once(
    preset: str, most: int, last: int, wanted: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", "--machine", preset, "--plan", wanted]) == 2
    out, err = capfd.readouterr()
    size = f"{wanted[:-1]} {wanted[-1]}iB"
    reason = f"the kernel maps physical addresses up to {last:#x} ({most} GiB at most)"
    assert (out, err) == ("", f"memhp: --plan: {size} is more than can be added: {reason}\n")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ('max_memory = "20G"', "the machine's memory ends at 0x500000000 (max_memory) (14 GiB at most)"),
        ('device_memory = "9G"', "the machine has 9 GiB for memory devices (9 GiB at most)"),
    ],
)
def test_a_plan_to_more_than_the_machine_has_room_for_is_refused_at_once(
    key: str, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", machine(tmp_path, key), "--plan", "32G"]) == 2
    assert capfd.readouterr().err == f"memhp: --plan: 32 GiB is more than can be added: {reason}\n"
    most = reason.rsplit("(", 1)[1].split(maxsplit=1)[0]
    assert main(["rehearse", machine(tmp_path, key), "--plan", f"{most}G"]) == 0


def test_more_blocks_and_tables_than_are_modelled_are_refused_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """256 TiB are two million blocks of 128 MiB; in base pages 8 GiB of tables map 4 TiB."""
    assert main(["rehearse", "--machine", "x86-vm-la57", "--plan", "256T"]) == 2
    assert "--plan: too large: what is plugged at once is 1 000 000 memory blocks at most" in capfd.readouterr().err
    assert main(["rehearse", "--machine", "x86-vm-la57", "--plug", "256T"]) == 2
    assert "--plug: too large: what is plugged at once is 1 000 000 memory blocks at most" in capfd.readouterr().err
    for option in ("--plan", "--plug"):
        assert main(["rehearse", "--machine", "arm64-vm", option, "5T"]) == 2
        assert f"{option}: too large: the size of a modelled machine's page tables" in capfd.readouterr().err
    assert main(["rehearse", "--machine", "arm64-vm", "--memory", "5T", "--plug", "1G"]) == 2
    assert "the direct map is made of base pages here, which is 4 TiB at most" in capfd.readouterr().err


def test_a_plan_for_a_size_that_is_no_blocks_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--machine", "x86-vm", "--plan", "100M"]) == 2
    assert capfd.readouterr().err.startswith("memhp: --plan: 100 MiB is not made of whole memory blocks of 128 MiB")


def test_a_plug_that_finds_no_memory_is_told_what_it_takes_and_how_to_do_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["rehearse", scenario(tmp_path, "64G", "ENOMEM"), "--json"])
    outcome = json.loads(capfd.readouterr().out)["steps"][0]["outcome"]
    assert outcome["advice"].startswith("it takes 1.00 GiB of free memory, and ")
    assert "the largest safe step now is" in outcome["advice"]
    assert "one step will do" in outcome["advice"]


def test_the_steps_that_were_advised_succeed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = scenario(tmp_path, "32G", "ok")
    assert main(["rehearse", file, "--plan", "32G", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["plan"]["steps"]) == 2


def test_every_configuration_has_a_verdict_with_its_conditions(capfd: pytest.CaptureFixture[str]) -> None:
    rows = report(capfd, "geometry", "--memmap-on-memory")["memmap_on_memory"]
    for row in rows:
        assert row["supported"] == all(each["met"] for each in row["conditions"])
        assert all(each["met"] == (each["why_not"] == "") for each in row["conditions"])
    can = {(row["arch"], row["page_size"], row["profile"]) for row in rows if row["supported"]}
    assert can == {
        ("arm64", 4096, "linux-5.13"),
        ("x86_64", 4096, "linux-5.13"),
        *((arch, 4096, name) for arch in ("arm64", "riscv64", "x86_64") for name in ("linux-6.12", "linux-7.2")),
    }


@pytest.mark.parametrize(
    ("page_size", "mode", "unmet"),
    [
        ("16K", "Y", ["whole pageblocks", "whole PMDs"]),
        ("16K", "force", ["whole PMDs"]),
        ("64K", "Y", ["whole pageblocks", "whole PMDs"]),
        ("64K", "force", ["memory left", "whole PMDs"]),
        ("64K", "N", ["parameter", "whole pageblocks", "whole PMDs"]),
    ],
)
def test_conditions_that_large_pages_do_not_meet_on_arm64(
    page_size: str, mode: str, unmet: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--memmap-on-memory", "--profile", "linux-7.2", "--page-size", page_size)
    rows = report(capfd, "geometry", *options)["memmap_on_memory"]
    found = [[each["name"] for each in row["conditions"] if not each["met"]] for row in rows if row["mode"] == mode]
    assert found == [unmet] * len(found) != []


def test_the_table_of_verdicts_fits_into_the_columns_of_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["geometry", "--memmap-on-memory"]) == 0
    assert max(len(line.rstrip()) for line in capfd.readouterr().out.splitlines()) <= PIPE_WIDTH


def test_the_page_holds_the_plan_with_every_step_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    args = ["rehearse", "--machine", "riscv-vm", "--plan", "512G", "--html", str(target), "--json"]
    assert main(args) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    page = target.read_text(encoding="utf-8")
    assert "Plan: 512 GiB more, dimm" in page
    assert len(plan["steps"]) == 2
    for number, step in enumerate(plan["steps"], 1):
        assert f"<title>step {number}: " in page
        assert f"{step['at']:#x}–{step['at'] + step['size']:#x}</title>" in page


def test_a_page_without_a_plan_says_nothing_of_one(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert main(["rehearse", "--machine", "riscv-vm", "--plug", "128M", "--html", str(target)]) == 0
    assert "Plan:" not in target.read_text(encoding="utf-8")
