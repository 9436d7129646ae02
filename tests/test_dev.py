"""``dev.py`` runs every check whatever the ones before it said, and tells of a failed installation in one line."""
# SPDX-License-Identifier: GPL-2.0-or-later

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("codes", "total"), [((0, 0, 0), 0), ((1, 0, 0), 1), ((0, 2, 0), 1), ((0, 0, 5), 1)])
def test_all_checks_run_pytest_last_and_one_failure_is_a_failure(
    dev: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    codes: tuple[int, int, int],
    total: int,
) -> None:
    for name, code in zip(("first", "second", "python"), codes, strict=True):
        executable(tmp_path / name, f"echo {name} $*; exit {code}")
    monkeypatch.setattr(dev, "BIN", tmp_path)
    monkeypatch.setattr(dev, "CHECKS", (("one", ("first", "-x")), ("two", ("second",))))
    monkeypatch.setattr(dev, "environment", lambda requirements: None)
    assert dev.test(["tests/cli", "-k", "help"]) == total
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("==")] == [
        "first -x",
        "second",
        "python -m pytest -n auto tests/cli -k help",
    ]
    assert (" (failed before: one)" in lines[4]) == bool(codes[0])


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("ERROR: first\\nERROR: no matching distribution\\nnote: try again", "ERROR: no matching distribution"),
        ("something else\\n", "something else"),
        ("", "no reason given"),
    ],
)
def test_a_failed_installation_is_told_in_one_line(dev: ModuleType, output: str, says: str) -> None:
    with pytest.raises(SystemExit) as stop:
        dev.call("pip", sys.executable, "-c", f"print('{output}'); raise SystemExit(1)")
    assert stop.value.code == f"dev.py: pip failed: {says}"


def test_an_environment_is_renewed_when_its_requirements_or_the_package_change(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("click==8.1.0\n")
    assert not dev.is_current(requirements)
    dev.stamp(requirements).write_text(dev.fingerprint(requirements))
    assert dev.is_current(requirements)
    for path, change in ((requirements, "rich==13.7.0\n"), (tmp_path / "pyproject.toml", '[project.urls]\na = "b"\n')):
        before = path.read_text()
        path.write_text(before + change)
        assert not dev.is_current(requirements)
        path.write_text(before)
    assert dev.is_current(requirements)


@pytest.mark.parametrize("args", [[], ["nonsense"]])
def test_an_unknown_command_names_those_there_are(dev: ModuleType, args: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        dev.main(args)
    assert stop.value.code == "dev.py: say what to do: python3 dev.py {memhp,test,guests,lock,drift,mutate} ..."
