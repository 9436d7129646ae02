"""``memhp conform`` on captures: it agrees where the model is right, and tells where something is wrong."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from captures import all_captures, archive, captures, open_capture
from memhp.cli.main import main
from memhp.conform.captured import captures_below, conform_capture
from memhp.conform.refusals import refused_bindings
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source, open_steps
from memhp.target.captures.flatten import flatten
from memhp.target.captures.write import write

NAMES = [name for name in captures() if name.endswith(("-virtio-mem-default", "-kmem-map-ram-mom0", "-pc-dimm-memmap"))]
DIMM = "arm64-6.12.107+deb13-cloud-arm64-pc-dimm-memmap"


@pytest.mark.parametrize("name", NAMES)
def test_the_model_goes_through_what_happened_to_a_machine_and_no_fact_differs(name: str) -> None:
    found = conform_capture(archive(name))
    assert [detail for detail in found.details if detail.verdict == "differing"] == []
    assert found.equal + found.incomparable == found.facts
    assert found.equal > 0.9 * found.facts > 400
    assert all(detail.reason for detail in found.details)


ODD = "riscv64-6.12.117+deb13-riscv64-kmem-odd-sv48-mom1"
HALFWAY = "x86_64-6.12.117+deb13-cloud-amd64-oom-halfway-x86"


def test_drivers_that_could_not_take_a_device_leave_the_same_behind_in_the_model() -> None:
    """device_dax ran out of altmap and left 2816 pages of struct pages, so that kmem met memory that was there."""
    found = conform_capture(archive(ODD))
    assert found.equal == found.facts
    first, second, third = (observe(each) for each in list(open_steps(archive(ODD)).values())[:3])
    assert [(step.mode, step.expect) for step in refused_bindings(first, second)] == [("devdax", "ENOMEM")]
    assert [(step.mode, step.expect) for step in refused_bindings(second, third)] == [("kmem", "EEXIST")]
    assert third.vmstat["nr_memmap_pages"] == 2816


def test_what_an_add_left_that_ran_out_of_memory_is_told_apart_by_the_log_alone() -> None:
    found = conform_capture(archive(HALFWAY))
    assert found.differing == 0
    left = [each for each in found.details if each.fact == "/proc/vmstat nr_memmap_pages"]
    assert {each.expected for each in left} == {45568}
    assert all("ran out of memory" in each.reason for each in left)
    assert not any(each.step.endswith("1-ballast-48M") for each in left)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A capture in which one block of the added memory is in another zone than any kernel would put it."""
    steps = {step: flatten(open_source(archive(DIMM), step=step)) for step in list(open_capture(DIMM))[:3]}
    *_, last = steps.values()
    lines = last["proc_zoneinfo"].replace("        spanned  ", "        spanned  1", 1)
    last["proc_zoneinfo"] = lines
    write(steps, tmp_path / "damaged")
    return tmp_path


def test_a_fact_that_no_rule_explains_is_told_with_both_values_and_fails(
    damaged: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["conform", "--captures", str(damaged), "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert report["verdict"] == "differs"
    assert report["facts"] == report["equal"] + report["differing"] + report["incomparable"]
    wrong = [detail for detail in report["details"] if detail["verdict"] == "differing"]
    assert len(wrong) == report["differing"]
    assert any(detail["fact"].endswith(" spanned") for detail in wrong)
    assert all(detail["expected"] != detail["got"] for detail in wrong)


def test_a_page_tells_what_differs_with_both_values_and_needs_no_other_file(damaged: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["conform", "--captures", str(damaged), "--html", str(page)]) == 1
    text = page.read_text()
    found = conform_capture(damaged / "damaged")
    wrong = [detail for detail in found.details if detail.verdict == "differing"]
    assert wrong
    for detail in wrong:
        assert f"<dt>{detail.step}: {detail.fact}</dt>" in text
        assert f"kernel <code>{detail.expected}</code>, model <code>{detail.got}</code>" in text
    assert f"{found.equal} of {found.facts} facts are equal" in text
    assert "http" not in text


def test_an_archive_that_is_cut_off_among_others_differs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    whole = archive(DIMM).read_bytes()
    (folder / "whole.tar.xz").write_bytes(whole)
    (folder / "cut-off.tar.xz").write_bytes(whole[:3000])
    assert main(["conform", "--captures", str(folder), "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    (wrong,) = (detail for detail in report["details"] if detail["verdict"] == "differing")
    assert (wrong["step"], wrong["fact"]) == ("cut-off.tar.xz", "the capture")
    assert report["equal"] > 400


def test_what_cannot_have_happened_to_a_machine_differs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A block that is said to be offline where device memory was added and all of it is in use."""
    name = "x86_64-6.12.107+deb13-cloud-amd64-kmem-map-pmem-mom1"
    steps = {step: flatten(open_source(archive(name), step=step)) for step in open_capture(name)}
    *_, last = steps.values()
    lines = last["sys_memory.tsv"].splitlines(keepends=True)
    (at,) = (number for number, line in enumerate(lines) if line.startswith("memory55/state"))
    lines[at] = lines[at].replace("online", "offline")
    last["sys_memory.tsv"] = "".join(lines)
    write(steps, tmp_path / "falsified")
    assert main(["conform", "--captures", str(tmp_path)]) == 1
    assert "0 differing" not in capfd.readouterr().out.splitlines()[-1]


def test_nothing_compared_is_no_success(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    name = next(name for name in all_captures() if name not in captures())
    (folder / "it.tar.xz").write_bytes(archive(name).read_bytes())
    assert main(["conform", "--captures", str(folder)]) == 2
    assert "nothing could be compared" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--all", "--random", "3"],
        ["--random", "3"],
        ["a.toml", "--captures", "x"],
        ["a.toml", "--all", "--with", "x"],
        ["--captures", "x", "--kernel", "7.2:arm64"],
        ["--all", "--with", "x"],
        ["--selftest", "x", "--random", "1", "--kernel", "7.2:arm64"],
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", *words]) == 2
    assert "give FILE with --kernel" in capfd.readouterr().err


def test_ktap_is_what_a_kernel_ci_reads(damaged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--captures", str(damaged), "--ktap"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["KTAP version 1", "1..1"]
    assert lines[-1] == "not ok 1 damaged"
    assert any(line.startswith("# ") and "spanned: the kernel " in line for line in lines)


def test_a_machine_that_the_model_cannot_be_is_skipped_with_the_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = flatten(next(iter(open_capture(DIMM).values())))
    files["osrelease"] = "4.19.0\n"
    write({"0": files}, tmp_path / "old")
    (tmp_path / "young.tar.xz").write_bytes(archive(DIMM).read_bytes())
    assert main(["conform", "--captures", str(tmp_path), "--ktap"]) == 0
    assert "ok 1 old # SKIP" in capfd.readouterr().out


def test_a_scenario_is_held_against_a_captured_moment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = open_capture(DIMM)
    size = "\nsteps = [{ do = 'plug', size = '{}' }]\n"
    text = f"machine = {{ source = '{archive(DIMM)}', step = '{first}' }}"
    (tmp_path / "same.toml").write_text(text + size.replace("{}", "512M"))
    (tmp_path / "other.toml").write_text(text + size.replace("{}", "256M"))
    moment = f"{archive(DIMM)}:{second}"
    assert main(["conform", str(tmp_path / "same.toml"), "--with", moment]) == 0
    assert main(["conform", str(tmp_path / "other.toml"), "--with", moment]) == 1
    assert "model None" in capfd.readouterr().out


def test_a_folder_of_captures_is_walked_in_order(tmp_path: Path) -> None:
    files = flatten(next(iter(open_capture(DIMM).values())))
    write({"0": files}, tmp_path / "b")
    write({"0": files}, tmp_path / "a.tar.xz")
    (tmp_path / "notes.txt").write_text("nothing\n")
    assert [path.name for path in captures_below(tmp_path)] == ["a.tar.xz", "b"]

AUTOMOVABLE = "x86_64-6.12.117+deb13-cloud-amd64-automovable301"
FALSEHOODS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "free memory of DMA32": ("proc_zoneinfo", r"(zone +DMA32\n +pages free +)(\d+)", lambda pages: int(pages) - 25600),
    "managed pages": ("proc_zoneinfo", r"(zone +Normal[\s\S]*?managed +)(\d+)", lambda pages: int(pages) + 1),
    "a watermark": ("proc_zoneinfo", r"(zone +Normal[\s\S]*?high +)(\d+)", lambda pages: int(pages) + 1),
    "CommitLimit": ("proc_meminfo", r"(CommitLimit: +)(\d+)", lambda kbytes: 2 * int(kbytes)),
    "MemTotal": ("proc_meminfo", r"(MemTotal: +)(\d+)", lambda kbytes: int(kbytes) + 4),
    "VmallocTotal": ("proc_meminfo", r"(VmallocTotal: +)(\d+)", lambda kbytes: int(kbytes) + 1),
    "DirectMap4k": ("proc_meminfo", r"(DirectMap4k: +)(\d+)", lambda kbytes: int(kbytes) + (512 << 10)),
    "DirectMap2M": ("proc_meminfo", r"(DirectMap2M: +)(\d+)", lambda kbytes: int(kbytes) - 2048),
    "DirectMap1G": ("proc_meminfo", r"(DirectMap1G: +)(\d+)", lambda kbytes: int(kbytes) + (1 << 20)),
    "pageblocks of Movable": ("proc_pagetypeinfo", r"(\nNode 0, zone  Movable +\d+ +)(\d+)", lambda n: int(n) + 1),
    "the end of a resource": ("proc_iomem", r"(300000000-33)(f)(?=ffffff : System RAM)", lambda _: "e"),
}  # fmt: skip


@pytest.mark.parametrize("what", FALSEHOODS)
def test_a_fact_that_is_falsified_in_a_later_moment_is_noticed(what: str, tmp_path: Path) -> None:
    name, wrong, change = FALSEHOODS[what]
    moments = list(open_capture(AUTOMOVABLE))[: None if "Movable" in what else 2]
    steps = {step: flatten(open_source(archive(AUTOMOVABLE), step=step)) for step in moments}
    later = list(steps.values())[-1]
    later[name], count = re.subn(wrong, lambda found: f"{found[1]}{change(found[2])}", later[name], count=1)
    assert count == 1
    write(steps, tmp_path / "false.tar.xz")
    found = conform_capture(tmp_path / "false.tar.xz")
    assert {each.step.split("/")[1] for each in found.details if each.verdict == "differing"} == {list(steps)[-1]}
