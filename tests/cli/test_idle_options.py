"""Options that a command has no use for are refused, each by its name; those of a guest that it has are heeded."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from cli.test_hostile_input import complaint
from every_command import CAPTURE
from memhp.cli.guest_options import GuestChoice
from memhp.errors import BadInput

ON_GUEST = ["--kernel", "7.2:x86_64"]
CAPTURES = ["conform", "--captures", CAPTURE]
RANDOM = "is for --random"
A_GUEST = "guest: give --kernel or --linux"


@pytest.mark.parametrize(
    ("words", "option", "why"),
    [
        (["capture", "--out", "new", *ON_GUEST, "--linux", "tree"], "--kernel", "does not go with --linux"),
        (["capture", "--out", "new", *ON_GUEST, "--arch", "arm64"], "--arch", "is for --kernel with the path"),
        (["capture", "--out", "new", "--linux", "tree", "--arch", "arm64"], "--arch", "is for --kernel with the path"),
        (["capture", "--out", "new", *ON_GUEST, "--private"], "--private", "is for a SOURCE"),
        *(
            (["capture", CAPTURE, "--out", "new", option, "x"], option, A_GUEST)
            for option in ("--append", "--cpu", "--initrd", "--qemu", "--modules", "--config")
        ),
        ([*CAPTURES, "--append", "foo"], "--append", A_GUEST),
        (["conform", "x.toml", "--with", CAPTURE, "--cpu", "max"], "--cpu", A_GUEST),
        (["conform", "--all", "--config", "x"], "--config", A_GUEST),
        (["guest", "shell", "--append", "foo"], "--append", A_GUEST),
        ([*CAPTURES, "--seed", "0"], "--seed", RANDOM),
        ([*CAPTURES, "--keep", "lives"], "--keep", RANDOM),
        ([*CAPTURES, "--served"], "--served", RANDOM),
        ([*CAPTURES, "--timeout", "5"], "--timeout", "is for --all and --random"),
        ([*CAPTURES, "--json", "--ktap"], "--json", "does not go with --ktap"),
        ([*CAPTURES, "--json=hex", "--ktap"], "--json", "does not go with --ktap"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    words: list[str],
    option: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = complaint(words, capsys)
    assert said.startswith(f"memhp: {option} "), said
    assert why in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_for_every_guest_goes_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "no kernel is fetched" in complaint(["conform", "--all", "--append", "x", "--timeout", "5"], capsys)


def chosen(**options: Path) -> GuestChoice:
    """A fetched kernel, and a guest's files as the options name them."""
    given: dict[str, Path | None] = dict.fromkeys(("initrd", "modules", "config", "qemu"))
    return GuestChoice(kernel="7.2:x86_64", linux=None, arch=None, append="", cpu=None, **{**given, **options})


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files of a user who has fetched a kernel with modules and a configuration."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fetched = tmp_path / "cache/memhp/kernels/7.2.1-cloud-amd64"
    (fetched / "lib/modules").mkdir(parents=True)
    (fetched / "boot").mkdir()
    (fetched / "boot/vmlinuz-7.2.1-cloud-amd64").touch()
    (fetched / "boot/config-7.2.1-cloud-amd64").touch()
    for name in ("initrd", "config", "qemu"):
        (tmp_path / name).touch()
    (tmp_path / "modules").mkdir()
    return {name: tmp_path / name for name in ("initrd", "modules", "config", "qemu")}


def test_files_of_the_users_own_take_the_place_of_a_fetched_kernels(own: dict[str, Path]) -> None:
    _, with_own = chosen(**own).resolve()
    _, fetched = chosen(qemu=own["qemu"]).resolve()
    assert (with_own.initrd, with_own.kernel.modules, with_own.kernel.config) == (
        own["initrd"],
        own["modules"],
        own["config"],
    )
    assert (with_own.kernel.image, with_own.kernel.release) == (fetched.kernel.image, fetched.kernel.release)
    assert fetched.kernel.modules is not None and fetched.kernel.modules.parts[-2:] == ("lib", "modules")
    assert fetched.kernel.config is not None and fetched.kernel.config.name == "config-7.2.1-cloud-amd64"


@pytest.mark.parametrize("option", ["initrd", "modules", "config", "qemu"])
def test_a_file_of_a_guest_that_is_not_there_is_refused_up_front(option: str, own: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match=rf"^--{option} /nope: no such "):
        chosen(**{**own, option: Path("/nope")}).resolve()


@pytest.mark.parametrize(
    ("moment", "lacks"), [(f"{CAPTURE}:", "step"), (":x", "capture"), (":", "capture"), ("nowhere:", "step")]
)
def test_a_moment_to_compare_with_is_named_whole(
    moment: str, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(["conform", "examples/first-plug.toml", "--with", moment], capsys)
    assert said == f"memhp: --with {moment}: names no {lacks} (CAPTURE:STEP, or CAPTURE for its last step)\n"


@pytest.mark.parametrize("out", ["-", "./-"])
def test_a_capture_is_no_stream(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint(["capture", CAPTURE, "--out", out], capsys) == (
        "memhp: -: this cannot go to stdout (name a file or a folder)\n"
    )
    assert list(tmp_path.iterdir()) == []
