"""Input that cannot be used ends in one line that says where, and exit code 2; nothing is half-written."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from captures import DATA
from memhp.cli.main import main

MACHINE = '[machine]\npreset = "riscv-vm"\nmemory = "1G"\n'

SCENARIOS = {
    "unknown key": (MACHINE + '[[steps]]\ndo = "plug"\nsize = "1G"\nsizze = 3\n', ["sizze"]),
    "unknown step": (MACHINE + '[[steps]]\ndo = "explode"\n', ["explode"]),
    "missing key": (MACHINE + '[[steps]]\ndo = "plug"\n', ["size"]),
    "wrong type": (MACHINE + '[[steps]]\ndo = "plug"\nsize = [1]\n', ["steps[0]"]),
    "no size": (MACHINE + '[[steps]]\ndo = "plug"\nsize = "lots"\n', ["lots", "128M"]),
    "misaligned size": (MACHINE + '[[steps]]\ndo = "plug"\nsize = "100M"\n', ["128 MiB", "EINVAL"]),
    "less than a page": (MACHINE + '[[steps]]\ndo = "plug"\nsize = 77\n', ["page size"]),
    "a DIMM where a dax device is": (
        MACHINE + "".join(f'[[steps]]\ndo = "{do}"\nsize = "1G"\nat = "8G"\n' for do in ("dax", "plug")),
        ["overlaps"],
    ),
    "nothing plugged": (MACHINE + '[[steps]]\ndo = "remove"\n', ["at"]),
    "unknown preset": ('[machine]\npreset = "toaster"\n', ["toaster", "riscv-vm"]),
    "unknown profile": (MACHINE + 'profile = "linux-1.0"\n', ["linux-1.0", "linux-6.12"]),
    "unknown choice": (MACHINE + 'choices = { pgd_polcy = "none" }\n', ["pgd_polcy", "pgd_policy"]),
    "impossible choice": (MACHINE + 'choices = { pgd_policy = "maybe" }\n', ["maybe", "preallocate"]),
    "impossible layout": ('[machine]\narch = "arm64"\npage_size = "64K"\nva_bits = 39\n', ["39", "42"]),
    "impossible page size": ('[machine]\narch = "riscv64"\npage_size = "64K"\n', ["64 KiB", "4 KiB"]),
    "no machine": ("[machine]\n", ["preset"]),
    "overlapping RAM": (
        '[machine]\narch = "riscv64"\nmemory = [{ size = "1G", start = "2G" }, { size = "1G", start = "2G" }]\n',
        ["overlaps"],
    ),
    "not TOML": ("machine = {", ["TOML"]),
}
"""What is wrong: the file's text, and words that the complaint must hold."""


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("memhp: ")
    return err


@pytest.mark.parametrize("wrong", SCENARIOS)
def test_a_scenario_that_cannot_be_meant_is_told_in_one_line_with_its_file(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words = SCENARIOS[wrong]
    file = tmp_path / "wrong.toml"
    file.write_text(text, encoding="utf-8")
    said = complaint(["rehearse", str(file), "--sysroot", str(tmp_path / "out")], capsys)
    assert "wrong.toml" in said
    assert all(word in said for word in words), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong.toml"]


def test_a_misaligned_size_that_is_meant_is_refused_by_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "meant.toml"
    file.write_text(MACHINE + '[[steps]]\ndo = "plug"\nsize = "100M"\nexpect = "EINVAL"\n', encoding="utf-8")
    assert main(["rehearse", str(file)]) == 0


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.toml" in complaint(["rehearse", str(tmp_path / "nowhere.toml")], capsys)


def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    complaint(["rehearse"], capsys)
    complaint(["rehearse", "examples/first-plug.toml", "--plug", "1G"], capsys)


def test_an_archive_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = next((DATA / "captures").glob("*.tar.xz")).read_bytes()
    cut = tmp_path / "cut.tar.xz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "cut.tar.xz" in complaint(["rehearse", "--machine", str(cut), "--plug", "1G"], capsys)


def test_a_directory_that_is_somebody_elses_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter").write_text("keep me", encoding="utf-8")
    complaint(["rehearse", "--machine", "riscv-vm", "--plug", "128M", "--sysroot", str(theirs)], capsys)
    assert [path.name for path in theirs.iterdir()] == ["letter"]


@pytest.mark.parametrize("option", ["--html", "--ptdump"])
def test_a_file_that_cannot_be_written_leaves_nothing(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "missing" / "file"
    complaint(["rehearse", "--machine", "riscv-vm", "--plug", "128M", option, str(target)], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["nan", "inf", "1e400"])
@pytest.mark.parametrize(
    "words", [["twin", "run", "--speed"], ["apply", "plan.json", "--timeout"], ["conform", "x.toml", "--timeout"],
              ["vm", "resize", "--timeout"]],
)  # fmt: skip
def test_a_clock_is_set_to_a_number(words: list[str], number: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint([*words, number], capsys)
    assert "number" in said or "range" in said, said
