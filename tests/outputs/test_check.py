"""What is refused before anything runs: an output in the place of an input, or of another output."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fake_host import write_host
from memhp.cli.lives import Played, keep
from memhp.cli.main import main
from memhp.conform.life_results import Lives
from memhp.linux.arch.registry import ARCHES

CAPTURES = [*Path(__file__).parents[1].glob("data/captures/*.tar.xz")]
OWN_RACE = Path(__file__).parents[2] / "examples" / "own_race.py"
SCENARIO = '[machine]\npreset = "riscv-vm"\nmemory = "512M"\n[[steps]]\ndo = "plug"\nsize = "128M"\n'
UNLOCKED = ("ptdump-vs-vmalloc-huge", "--variant", "no-lock", "--replay", "a")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "x.toml"
    file.write_text(SCENARIO, encoding="utf-8")
    return file


def refused(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_the_scenario_is_not_written_over_under_any_of_its_names(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = scenario.with_name("soft"), scenario.with_name("hard")
    soft.symlink_to(scenario)
    hard.hardlink_to(scenario)
    for name in (scenario, soft, hard, scenario.parent / "." / ".." / scenario.parent.name / scenario.name):
        refused(["rehearse", str(scenario), "--html", str(name)], "--html: ", capsys)
        refused(["rehearse", str(scenario), "--ptdump", str(name)], "is read by this run", capsys)
    assert scenario.read_text(encoding="utf-8") == SCENARIO


def test_the_capture_that_a_twins_scenario_names_is_not_written_over(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copy(CAPTURES[0], scenario.with_name("source.tar.xz")))
    before = source.read_bytes()
    scenario.write_text(f'[machine]\nsource = "{source.name}"\n', encoding="utf-8")
    refused(["twin", "--record", str(source), str(scenario), "--", "true"], "is read by this run", capsys)
    assert source.read_bytes() == before


def test_a_number_that_no_open_file_has(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["rehearse", str(scenario), "--html", f"/dev/fd/{10**20}"], "cannot write: ", capsys)


def test_two_outputs_do_not_share_a_file(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = scenario.with_name("one")
    two = scenario.with_name("two")
    two.symlink_to("one")
    for other in (one, two):
        args = ["rehearse", str(scenario), "--html", str(one), "--ptdump", str(other)]
        refused(args, "--ptdump: ", capsys)
    assert not one.exists()


def test_the_machine_that_is_read_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "root"
    assert main(["rehearse", "--machine", "riscv-vm", "--plug", "128M", "--sysroot", str(made)]) == 0
    capsys.readouterr()
    args = ["rehearse", "--machine", str(made), "--plug", "128M"]
    refused([*args, "--html", str(made / "proc" / "iomem")], "the machine that is read", capsys)
    refused([*args, "--sysroot", str(made)], "is read by this run", capsys)
    refused([*args, "--sysroot", str(made / "again")], "the machine that is read", capsys)


@pytest.mark.parametrize(
    "args",
    [
        "explore own.py --variant flush-first --html own.py",
        "explore vmalloc-fault --variant no-fault-handler --patch own.py --html own.py",
        "plan --machine own.py --grow-by 1G --out own.py",
        "plan --machine own.py/0-now --grow-by 1G --out own.py",
        "twin run --record own.py own.py true",
        "twin run --script own.py --record own.py x86-vm true",
        "twin run --expect own.py --record own.py x86-vm true",
        "twin run --uevents own.py own.py true",
        "conform own.py --kernel 6.12:amd64 --html own.py",
        "conform x.toml --with own.py --html own.py",
        "conform x.toml --with own.py:0-now --html own.py",
        "conform x.toml --kernel own.py --arch x86_64 --html own.py",
        "conform x.toml --kernel 6.12:amd64 --initrd own.py --html own.py",
    ],
)
def test_what_a_command_reads_is_not_written_over(
    args: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path(shutil.copy(OWN_RACE, "own.py"))
    shutil.copy(OWN_RACE, "x.toml")
    refused(args.split(), "own.py is read by this run", capsys)
    assert own.read_bytes() == OWN_RACE.read_bytes()


def test_a_capture_that_is_compared_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = Path(shutil.copy(min(CAPTURES, key=lambda path: path.stat().st_size), tmp_path))
    before = capture.read_bytes()
    refused(["conform", "--captures", str(capture), "--html", str(capture)], "is read by this run", capsys)
    assert capture.read_bytes() == before


def test_a_capture_is_not_kept_in_the_machine_that_it_is_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = write_host(tmp_path / "host")
    refused(["capture", str(host), "--out", str(host / "now")], "the machine that is read", capsys)
    assert not (host / "now").exists()


def test_an_example_is_copied_by_the_rules_of_all_outputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "refused"]) == 0
    text = capfd.readouterr().out
    (tmp_path / "loop").symlink_to("loop")
    for out in ("-", "/dev/stdout"):
        assert main(["example", "refused", "--copy", out]) == 0
        assert capfd.readouterr().out == text
    assert main(["example", "refused", "--copy", str(tmp_path / "no" / "x")]) == 2
    assert main(["example", "refused", "--copy", str(tmp_path / "loop")]) == 2
    assert names(tmp_path) == ["loop"]
    assert "Too many levels of symbolic links" in capfd.readouterr().err


def test_a_plan_on_stdout_is_all_that_stands_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    host = write_host(tmp_path / "host")
    for out in ("-", "/dev/stdout"):
        main(["plan", "--sysroot", str(host), "--shrink-by", "256M", "--out", out])
        printed = capfd.readouterr()
        assert json.loads(printed.out)["steps"]
        assert "2 steps to 256 MiB, as wanted." in printed.err


def test_a_page_of_a_comparison_on_stdout_is_all_that_stands_there(capfd: pytest.CaptureFixture[str]) -> None:
    modelled = [path for path in CAPTURES if path.name.split("-")[0] in ARCHES]
    capture = min(modelled, key=lambda path: path.stat().st_size)
    assert main(["conform", "--captures", str(capture), "--html", "-"]) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("<!doctype html>") and printed.out.endswith("</html>\n")
    assert "0 differing" in printed.err
    assert main(["conform", "--captures", str(capture), "--html", "-", "--ktap"]) == 2
    assert "stdout is where --ktap goes" in capfd.readouterr().err


def test_a_journal_is_kept_where_outputs_may_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = write_host(tmp_path / "host")
    plan = tmp_path / "plan.json"
    assert main(["plan", "--sysroot", str(host), "--shrink-by", "256M", "--out", str(plan)]) == 0
    capsys.readouterr()
    apply = ["apply", str(plan), "--sysroot", str(host), "--yes", "--journal"]
    refused([*apply, str(plan)], "it is no folder", capsys)
    refused([*apply, str(tmp_path / "no" / "such")], "there is no such folder", capsys)
    odd = tmp_path / "odd"
    odd.mkdir()
    os.mkfifo(odd / "x.journal")
    refused([*apply, str(odd)], "x.journal: is no journal: no regular file", capsys)
    assert names(tmp_path) == ["host", "odd", "plan.json"]


def test_lives_are_kept_in_a_folder_whose_place_is_looked_at_before_they_are_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    lives = ["conform", "--kernel", "6.12:amd64", "--random", "1", "--keep"]
    refused([*lives, str(tmp_path / "file")], "it is no folder", capsys)
    refused([*lives, str(tmp_path / "no" / "such")], "there is no such folder", capsys)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_lives_that_are_kept_keep_the_mode_of_the_files_that_they_replace(tmp_path: Path) -> None:
    there = tmp_path / "6.12-7-0.toml"
    there.write_text("before", encoding="utf-8")
    there.chmod(0o600)
    keep(Played("6.12", Lives(), ["after"]), 7, tmp_path)
    assert there.read_text(encoding="utf-8") == "after"
    assert stat.S_IMODE(there.stat().st_mode) == 0o600


def test_no_output_lies_in_a_folder_that_is_written_as_a_whole(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    args = ["rehearse", str(scenario), "--sysroot", str(tmp_path / "root"), "--html", str(tmp_path / "root" / "page")]
    refused(args, "which --sysroot writes as a whole", capsys)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("option", ["--html", "--ptdump", "--sysroot"])
def test_one_rule_for_all_outputs_no_folder_is_made_above_them(
    option: str, scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["rehearse", str(scenario), option, str(tmp_path / "no" / "x")], "there is no such folder", capsys)
    assert names(tmp_path) == ["x.toml"]


def test_json_and_a_page_do_not_share_stdout(scenario: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert main(["rehearse", str(scenario), "--json", "--html", name]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert "stdout is where --json goes" in err


def memhp(*args: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memhp", *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(command, check=False, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_a_page_on_stdout_is_all_that_stands_there(scenario: Path) -> None:
    done = memhp("rehearse", str(scenario), "--html", "-")
    assert done.returncode == 0
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.rstrip().endswith("</html>")
    assert "The rehearsal went as expected." in done.stderr


def test_the_file_that_stdout_goes_to_is_written_to_and_never_replaced(scenario: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("w") as stdout:
        inode = os.fstat(stdout.fileno()).st_ino
        refusal = memhp("rehearse", str(scenario), "--html", str(target), stdout=stdout)
        done = memhp("rehearse", str(scenario), "--html", "/dev/stdout", stdout=stdout)
    assert refusal.returncode == 2
    assert f"{target} is where stdout goes" in refusal.stderr
    assert done.returncode == 0
    assert target.stat().st_ino == inode
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_null_device_takes_any_number_of_outputs_and_stays_a_device(scenario: Path) -> None:
    null = Path(os.devnull)
    assert main(["rehearse", str(scenario), "--html", str(null), "--ptdump", str(null)]) == 0
    assert stat.S_ISCHR(null.stat().st_mode)


def test_explore_writes_its_page_by_the_same_rules(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", *UNLOCKED, "--html", "-"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("<!doctype html>")
    assert "schedule a" in err
    assert main(["explore", *UNLOCKED, "--html", str(tmp_path)]) == 2
    assert "it is a folder" in capfd.readouterr().err
