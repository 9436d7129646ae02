"""What surrounds the commands: completion scripts, the manual page, examples that come along."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import click
import pytest
from click.shell_completion import ShellComplete
from hatchling.builders.wheel import WheelBuilder

from memhp.cli.main import COMMANDS, cli, main
from memhp.scenario.examples import examples

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert f"_MEMHP_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("explore vmalloc-f", "plain,vmalloc-fault"),
        ("explore ptdump-vs-vmalloc-huge --variant no-", "plain,no-lock"),
        ("races memblock-", "plain,memblock-order"),
        ("rehearse --machine riscv-vm-sv3", "plain,riscv-vm-sv39 file,riscv-vm-sv3"),
        ("rehearse examples/refu", "plain,examples/refused.toml file,examples/refu"),
        ("rehearse --choice pgd_po", "plain,pgd_policy"),
        ("example refu", "plain,refused"),
        ("schema guest", "plain,guest run"),
        ("choices pgd_p", "plain,pgd_policy"),
        ("claims a64-1", "plain,a64-1"),
        ("twin run riscv-vm-sv5", "plain,riscv-vm-sv57 file,riscv-vm-sv5"),
    ],
)
def test_a_shell_is_told_names(words: str, told: str) -> None:
    _, *args, begun = ["memhp", *words.split()]
    items = ShellComplete(cli, {}, "memhp", "_MEMHP_COMPLETE").get_completions(args, begun)
    assert told in " ".join(f"{item.type},{item.value}" for item in items)


def test_a_shell_is_told_commands_and_options() -> None:
    code = "from memhp.cli.main import main; main()"
    env = {**os.environ, "_MEMHP_COMPLETE": "bash_complete", "COMP_WORDS": "memhp re", "COMP_CWORD": "1"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["plain,rehearse"]


def test_the_manual_page_has_every_command_and_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["man"]) == 0
    page = capfd.readouterr().out
    assert page.isascii()
    plain = page.replace("\\-", "-")
    ctx = click.Context(cli)
    for name in COMMANDS:
        assert f".SS memhp {name}" in plain
        command = cli.get_command(ctx, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and option.hidden:
                continue
            assert all(text in plain for text in option.opts if text.startswith("--"))
    if program := shutil.which("groff"):
        done = subprocess.run(
            [program, "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True, check=True
        )
        assert "warning" not in done.stderr


def test_examples_are_listed_printed_and_copied(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "--json"]) == 0
    names = [row["name"] for row in json.loads(capfd.readouterr().out)["examples"]]
    assert names == [path.stem for path in sorted((ROOT / "examples").glob("*.toml"))]
    assert main(["example", "refused"]) == 0
    text = (ROOT / "examples" / "refused.toml").read_text(encoding="utf-8")
    assert capfd.readouterr().out == text
    copy = tmp_path / "mine.toml"
    assert main(["example", "refused", "--copy", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == text
    assert main(["example", "refused", "--copy", str(copy)]) == 2
    assert main(["example", "refuse"]) == 2


def test_an_example_runs_by_its_path_where_there_is_no_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rehearse", "examples/first-plug.toml"]) == 0
    assert main(["rehearse", "examples/no-such.toml"]) == 2
    capfd.readouterr()


def test_a_wheel_carries_the_examples() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"examples": "memhp/examples"}
    assert all(path.is_file() for path in examples())


def test_a_wheel_carries_the_manual_page_where_man_finds_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".data/data/share/man/man1/memhp.1"))
        text = archive.read(name).decode()
    capfd.readouterr()
    assert main(["man"]) == 0
    assert text == capfd.readouterr().out
