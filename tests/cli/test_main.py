"""The ``memhp`` command ends as promised: exit codes, one line for bad input, quiet when nobody reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import click
import pytest

from memhp import __version__
from memhp.cli.main import COMMANDS, LazyCommand, main, with_hex
from memhp.errors import BadInput

Install = Callable[[Callable[[], object]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a function in the table as the command ``probe``."""

    def put(body: Callable[[], object]) -> None:
        module = ModuleType("memhp_probe")
        module.probe = click.command("probe")(body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "memhp_probe", module)
        monkeypatch.setitem(COMMANDS, "probe", LazyCommand("memhp_probe:probe", "Try something."))

    return put


def raising(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


def test_every_row_of_the_table_is_a_command_that_tells_what_it_does() -> None:
    for name, row in COMMANDS.items():
        module, _, function = row.target.partition(":")
        command = getattr(import_module(module), function)
        assert isinstance(command, click.Command), name
        assert row.help.endswith(".") and command.help, name


def test_help_lists_a_command_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "absent", LazyCommand("memhp.no_such_module:absent", "Is listed all the same."))
    assert main(["--help"]) == 0
    assert "absent" in (out := capsys.readouterr().out) and "Is listed all the same." in out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: memhp ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"memhp {__version__}\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_is_what_the_command_returns(install: Install, returned: int | None, code: int) -> None:
    install(lambda: returned)
    assert main(["probe"]) == code


@pytest.mark.parametrize(
    ("args", "names", "read_on"),
    [
        (["nonsense"], "nonsense", "(see memhp --help)\n"),
        (["--nonsense"], "--nonsense", "(see memhp --help)\n"),
        (["probe", "extra"], "extra", "(see memhp probe --help)\n"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    install: Install, capsys: pytest.CaptureFixture[str], args: list[str], names: str, read_on: str
) -> None:
    install(lambda: None)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("memhp: ") and names in captured.err and captured.err.endswith(read_on)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            BadInput("want 128M or more,\n  got 1M", where="grow.toml: steps[0].size", fix="a whole memory block"),
            2,
            "memhp: grow.toml: steps[0].size: want 128M or more, got 1M (a whole memory block)\n",
        ),
        (FileNotFoundError(2, "No such file or directory", "x.toml"), 2, "memhp: x.toml: No such file or directory\n"),
        (click.BadParameter("odd"), 2, "memhp: Invalid value: odd (see memhp probe --help)\n"),
        (KeyboardInterrupt(), 130, "memhp: interrupted\n"),
        (click.Abort(), 130, "memhp: interrupted\n"),
    ],
)
def test_what_ends_a_run_early_is_one_line(
    install: Install, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    install(raising(error))
    assert main(["probe"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", says)


def test_a_defect_of_memhp_is_not_dressed_up_as_bad_input(install: Install) -> None:
    install(raising(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys, types, click\n"
        "from memhp.cli import main as m\n"
        "module = types.ModuleType('probe')\n"
        "module.probe = click.command('probe')(lambda: print('line\\n' * 100000))\n"
        "sys.modules['probe'] = module\n"
        "m.COMMANDS['probe'] = m.LazyCommand('probe:probe', 'Print much.')\n"
        "sys.exit(m.main(['probe']))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (141, b"")


def test_what_stands_behind_two_dashes_is_handed_on_as_it_is() -> None:
    assert with_hex(["blocks", "--json=hex"]) == ["blocks", "--json", "--json-hex"]
    assert with_hex(["twin", "x86-vm", "--", "tool", "--json=hex"]) == ["twin", "x86-vm", "--", "tool", "--json=hex"]
