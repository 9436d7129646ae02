"""Input that is wrong, huge, endless or made to harm: one clear line that names the place, and exit code 2."""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import json
import lzma
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from every_command import CAPTURE, RUNS
from memhp import limits
from memhp.cli.main import main
from memhp.facts import archive
from memhp.limits import LIMITS, Limit

MACHINE = '[machine]\npreset = "riscv-vm"\nmemory = "1G"\n'
STEP = MACHINE + "[[steps]]\n"
VIRTIO = STEP + 'do = "virtio-mem"\nsize = "1G"\n'

SCENARIOS = {
    "a number for a step's name": (STEP + "do = 3", "steps[0].do: want the name of a step in quotes, got 3"),
    "a table for a step's name": (STEP + "do = {}", "want the name of a step in quotes, got a table"),
    "a slip in a step's name": (STEP + 'do = "plugg"', "did you mean plug?"),
    "a slip in a key": (STEP + 'do = "plug"\nsise = "1G"', "steps[0].sise: there is no such key (did you mean size?)"),
    "a slip in a feature": (
        VIRTIO + 'features = ["acpi_pxm"]',
        'features[0]: cannot be "acpi_pxm" (did you mean acpi-pxm',
    ),
    "a number for a feature": (VIRTIO + "features = [3]", "features[0]: want one of"),
    "time without end": (STEP + 'do = "wait"\nseconds = inf', "want a number from 0 to 1000000000, got Infinity"),
    "no time": (STEP + 'do = "wait"\nseconds = nan', "want a number from 0 to 1000000000, got NaN"),
    "very much time": (STEP + 'do = "wait"\nseconds = 1e308', "want a number from 0 to 1000000000"),
    "a late answer": (VIRTIO + "faults = [{ delay = 1e300 }]", "faults[0].delay: want a number from 0 to 1000000000"),
    "deep lists": ("x = " + "[" * 5000, "the depth of a scenario is 32 levels at most"),
    "lists not so deep": ("x = " + "[" * 100 + "]" * 100, "the depth of a scenario is 32 levels at most"),
    "deep tables": ("[a" + ".a" * 5000 + "]", "the depth of a scenario is 32 levels at most"),
    "a key of very many parts": ("a." * 500_000 + "a = 1", "the depth of a scenario is 32 levels at most"),
    "a heading of very many parts": ("[" + "'a' . " * 300_000 + "a]", "the depth of a scenario is 32 levels at most"),
    "a choice of very many digits": (
        MACHINE + f"choices = {{ pgd_policy = 0x{'f' * 5000} }}",
        "cannot be a number of more than 80 bits",
    ),
    "RAM that no address reaches": ('machine = { preset = "x86-vm", memory = "15E" }', "no machine has room for"),
    "a number of many digits": ("x = " + "1" * 5000, "not TOML that can be read"),
    "an octal number?": (STEP + 'do = "plug"\nsize = "010M"', "want a size such as 128M"),
    "a huge size": (STEP + 'do = "plug"\nsize = "16384P"', "16384P does not fit into 64 bits"),
    "a huge number": (STEP + f'do = "plug"\nsize = {1 << 64}', "does not fit into 64 bits (write less)"),
    "pinned below zero": (
        STEP + 'do = "dax"\nat = "8G"\nsize = "1G"\npinned = -1',
        "steps[0].pinned: want a whole number of 0 or",
    ),
    "blocks said twice": (STEP + 'do = "online"\nblocks = [1]\nat = 0', "`blocks` and `at` both say which blocks"),
    "one domain thrice": (MACHINE + "proximity = [0, 0, 0]", "machine.proximity: domain 0 stands there twice"),
    "an outcome in small letters": (STEP + 'do = "plug"\nsize = "128M"\nexpect = "ebusy"', "did you mean EBUSY?"),
    "a device that is not aligned": (
        VIRTIO + "at = 0x12345000",
        "steps[0].at: 0x12345000 is not made of",
    ),
    "a device of odd size": (
        STEP + 'do = "virtio-mem"\nsize = "1M"',
        "steps[0].size: 0x100000 is not made of",
    ),
}
"""What is wrong: the file's text, and words that the complaint must hold."""

GEOMETRIES = {
    "no device block": (["--device-block", "0"], "--device-block: a device cannot work in blocks of 0 B"),
    "an odd device block": (["--device-block", "3"], "--device-block: a device cannot work in blocks of 3 B"),
    "no memory to speak of": (["--memory", "1"], "--memory: a machine needs RAM"),
    "an end before the memory": (["--max-memory", "1"], "--max-memory: memory cannot end at 0x1"),
}


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 700
    return err


@pytest.mark.parametrize("wrong", SCENARIOS)
def test_a_scenario(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = SCENARIOS[wrong]
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    said = complaint(["rehearse", str(tmp_path / "x.toml")], capsys)
    assert "x.toml: " in said
    assert words in said


def test_an_outcome_that_there_is_not_is_told_in_few_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.toml").write_text(STEP + 'do = "plug"\nsize = "1G"\nexpect = "X"', encoding="utf-8")
    assert len(complaint(["rehearse", str(tmp_path / "x.toml")], capsys)) < 250


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("\ufeff" + MACHINE, encoding="utf-8")
    assert main(["rehearse", str(tmp_path / "x.toml")]) == 0


@pytest.mark.parametrize("wrong", GEOMETRIES)
def test_a_geometry(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, words = GEOMETRIES[wrong]
    assert words in complaint(["geometry", *options], capsys)


def test_a_device_without_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = ["device", "virtio-mem", "--socket", str(tmp_path / "s"), "--guest", "x86_64:4G", "--size"]
    assert "--size: a device manages some memory" in complaint([*device, "0"], capsys)


def test_options_for_memory_that_nobody_adds(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--online says where" in complaint(["rehearse", "--machine", "x86-vm", "--online", "movable"], capsys)
    assert "--unplug takes away" in complaint(["rehearse", "--machine", "x86-vm", "--unplug", "--json"], capsys)


def test_an_unknown_command_is_told_which_one_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean rehearse?" in complaint(["reherse"], capsys)
    assert "such as vmalloc-vs-hot-remove, " in complaint(["explore", "vmaloc"], capsys)
    assert "one of rehearse" in complaint(["zzz"], capsys)
    assert "Did you mean '--json'? (see" in complaint(["lint", "--jsn"], capsys)
    assert "Did you mean '--help'? (see" in complaint(["lint", "--hepl"], capsys)


GONE = ("rehearse", "capture", "guest run", "twin ctl", "vm status", "apply", "plan", "device ctl")
"""Commands that look for files, and find that the folder they are in was deleted."""


@pytest.mark.parametrize("command", GONE)
def test_a_folder_that_was_deleted_meanwhile(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    said = complaint([*command.split(), *RUNS[command].words], capsys)
    assert not said.startswith(("memhp: cannot", "memhp: [Errno"))
    assert "No such file or directory" in said or "KERNEL" in said or "--kernel" in said


def test_a_schedule_longer_than_any(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["explore", "ptdump-vs-vmalloc-huge", "--variant", "no-lock", "--replay"]
    for text in ("a999999999999999", "a" + "9" * 5000, "a1000000b1"):
        assert f"a schedule is {limits.SCHEDULE_STEPS.text} at most" in complaint([*args, text], capsys)


# Files without an end ------------------------------------------------------------------------------------------


def test_a_device_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a scenario, a script or a plan is 4 MiB at most" in complaint(["rehearse", "/dev/zero"], capsys)
    assert "is a file, not a machine" in complaint(["rehearse", "--machine", "/dev/zero", "--plug", "1G"], capsys)


def test_what_is_named_as_an_input_and_is_none_is_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["explore", "vmalloc-fault", "--variant", "no-fault-handler"]
    loop, deep = tmp_path / "loop.py", tmp_path / "deep"
    loop.symlink_to(loop)
    deep.write_bytes(b'{"a":' * 100_000)
    for args, words in (
        (["apply", str(tmp_path), "--dry-run"], f"memhp: {tmp_path}: Is a directory"),
        (["conform", "--captures", "/dev/zero"], "memhp: /dev/zero: is a file, not a machine"),
        (["conform", "--captures", "no/such"], "memhp: no/such: no such file or folder"),
        ([*known, "--patch", "/dev/zero"], "memhp: /dev/zero: too large"),
        ([*known, "--patch", str(tmp_path)], f"memhp: {tmp_path}: cannot read it: Is a directory"),
        ([*known, "--patch", str(loop)], f"memhp: {loop}: cannot read it: Too many levels of symbolic links"),
        (["explore", str(loop)], f"memhp: {loop}: cannot read it: Too many levels of symbolic links"),
        ([*known, "--html", str(loop / "x")], f"memhp: {loop / 'x'}: cannot write: Too many levels of symbolic"),
        (["apply", str(deep)], f"memhp: {deep}: is no plan: "),
        (["twin", "run", "x86-vm", "--ctl", "x", "true"], "memhp: --ctl stands behind MACHINE"),
    ):
        assert complaint(args, capsys).startswith(words)


def test_a_pipe_that_nobody_writes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "x.toml")
    assert "machine is missing" in complaint(["rehearse", str(tmp_path / "x.toml")], capsys)
    os.mkfifo(tmp_path / "x.tar")
    said = complaint(["rehearse", "--machine", str(tmp_path / "x.tar"), "--plug", "1G"], capsys)
    assert "is no regular file" in said


def test_a_pipe_whose_writer_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("memhp.inputs.PIPE_SECONDS", Limit("the wait for a pipe's writer", 0, "seconds"))
    os.mkfifo(tmp_path / "x.toml")
    writer = os.open(tmp_path / "x.toml", os.O_RDWR)
    try:
        assert "nothing comes from it" in complaint(["rehearse", str(tmp_path / "x.toml")], capsys)
    finally:
        os.close(writer)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_scenario_comes_through_a_pipe(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memhp", "rehearse", name, "--json"],
        input=MACHINE,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def capture(tmp_path: Path, files: dict[str, bytes]) -> Path:
    step = tmp_path / "capture" / "0-before"
    step.mkdir(parents=True)
    for name, data in files.items():
        (step / name).write_bytes(data)
    return tmp_path / "capture"


def test_files_of_a_capture_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = capture(tmp_path, {"proc_iomem": b"0-fff : Reserved\n"})
    (folder / "0-before" / "proc_zoneinfo").symlink_to("/dev/zero")
    said = complaint(["rehearse", "--machine", str(folder), "--plug", "1G"], capsys)
    assert "proc_zoneinfo: is no regular file" in said


@pytest.mark.parametrize("step", [".", "..", "../out", "/out", "a/b", "a\nb", "\udcff", "x" * 300])
@pytest.mark.parametrize("name", ["out", "out.tar.xz"])
def test_a_moment_of_a_capture_is_no_path(
    step: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = capture(tmp_path, {"proc_iomem": b"0-fff : Reserved\n"})
    args = ["capture", str(machine), "--out", str(tmp_path / name), "--step", step]
    assert "--step: want a name" in complaint(args, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]


def tar(tmp_path: Path, name: str, files: dict[str, bytes]) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, data in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (tmp_path / name).write_bytes(lzma.compress(packed.getvalue()))
    return tmp_path / name


@pytest.mark.parametrize("limit", ["ARCHIVE_SIZE", "FILE_SIZE", "ARCHIVE_MEMBERS"])
def test_an_archive_beyond_a_limit(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = tar(tmp_path, "bomb.tar.xz", {f"0-before/proc_file{number}": bytes(100_000) for number in range(3)})
    smaller = Limit(getattr(limits, limit).name, 2 if limit == "ARCHIVE_MEMBERS" else 50_000)
    monkeypatch.setattr(archive, limit, smaller)
    said = complaint(["rehearse", "--machine", str(bomb), "--plug", "1G"], capsys)
    assert f"too large: {smaller.name} is" in said


# What a terminal shows ------------------------------------------------------------------------------------------


def on_a_terminal(args: list[str]) -> str:
    """What a command writes to the terminal that its stdout and stderr are."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "memhp", *args], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = 'title = "a \\u001b]0;gotcha\\u0007 [bold]x[/]"\n' + STEP + 'do = "plug"\nsize = "128M"\n'
    text += 'name = "shrink [/done] \\u001b[2J \\u202e :smile:"\n'
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    shown = on_a_terminal(["rehearse", str(tmp_path / "x.toml")])
    assert "\x1b]0;" not in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "a \\x1b]0;gotcha\\x07 [bold]x[/]" in shown
    assert "shrink [/done] \\x1b[2J \\u202e :smile:" in shown


def test_a_name_of_an_output_cannot_steer_the_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal(["capture", CAPTURE, "--out", str(tmp_path / "a\x1b]0;gotcha\x07.tar.xz")])
    assert "\x1b]0;" not in shown
    assert "a\\x1b]0;gotcha\\x07.tar.xz:" in shown


@pytest.mark.parametrize("command", ["blocks", "lint", "why 8", "plan --shrink-by 128M", "rehearse --plug 128M"])
def test_a_name_that_is_no_text_is_written_out_in_json(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / os.fsdecode(b"c\xff.tar.xz")
    machine.symlink_to(CAPTURE)
    assert main([*command.split(), "--machine", str(machine), "--json"]) in (0, 1)
    assert "c\\xff.tar.xz" in json.dumps(json.loads(capfd.readouterr().out)).replace("\\\\", "\\")


def test_the_page_and_a_complaint_show_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'title = "a \\u001b[2J <b>"\n' + MACHINE
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    assert main(["rehearse", str(tmp_path / "x.toml"), "--html", str(tmp_path / "page")]) == 0
    capsys.readouterr()
    page = (tmp_path / "page").read_text(encoding="utf-8")
    assert "a \\x1b[2J &lt;b&gt;" in page
    assert "\x1b" not in page
    said = complaint(["rehearse", str(tmp_path / "no\x1b[2J\nfile")], capsys)
    assert "no\\x1b[2J" in said


# What stdout can be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "args",
    [["rehearse", "--machine", "riscv-vm", "--plug", "128M"], ["geometry"], ["explore"]],
    ids=lambda args: args[0],
)
def test_a_poor_character_set_gets_plain_signs(args: list[str], charset: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memhp", *args],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": charset},
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith(b"memhp: still at work: ")]
    assert (done.returncode, complaints) == (0, [])
    assert b"\\u" not in done.stdout
    assert done.stdout.decode(charset)


def test_addresses_that_are_short_are_shared_among_machines() -> None:
    """A race has many machines at a time, and the tables of none may take half of all there is."""
    race = f"{sys.executable} -m memhp explore vmalloc-vs-hot-remove --variant V5"
    done = subprocess.run(["bash", "-c", f"ulimit -v {4 << 20}; {race}"], capture_output=True, text=True, check=False)
    assert "it ends broken" in done.stdout, done.stderr


def test_stdout_closed_or_full() -> None:
    run = f"{sys.executable} -m memhp"
    for command, code, said in (
        (f"{run} geometry >&-", 2, "memhp: stdout is closed (redirect it to a file, or to the null device)\n"),
        (f"{run} geometry > /dev/full", 2, "memhp: stdout: cannot write: No space left on device\n"),
        (f"{run} geometry --json > /dev/full", 2, "memhp: stdout: cannot write: No space left on device\n"),
        (f"{run} --version 2>&- >&-; exit $?", 2, ""),
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, said), command


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away(more: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "memhp", "geometry", *more]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_every_limit_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    assert len(LIMITS) > 10
    for limit in LIMITS:
        assert f"| {limit.name} | {limit.text} |" in text
