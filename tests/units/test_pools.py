"""Workers make calls for the very package that they run, and for no other."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memhp import pools
from memhp.errors import BadInput
from memhp.pools import Call, Here, Processes, in_order, package_hash, same_package


def hash_of(folder: Path) -> str:
    """The hash of the package in a folder, as a process that runs it says."""
    code = "from memhp.pools import package_hash; print(package_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_same_files_elsewhere_are_the_same_package_and_a_byte_makes_another(tmp_path: Path) -> None:
    shutil.copytree(Path(pools.__file__).parent, tmp_path / "memhp", ignore=shutil.ignore_patterns("__pycache__"))
    assert hash_of(tmp_path) == package_hash()
    with (tmp_path / "memhp" / "units.py").open("a", encoding="utf-8") as file:
        file.write("#")
    changed = hash_of(tmp_path)
    assert changed != package_hash()
    (tmp_path / "memhp" / "units.py").rename(tmp_path / "memhp" / "unit.py")
    assert hash_of(tmp_path) not in {changed, package_hash()}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_arguments(workers: int) -> None:
    assert list(in_order(len, ["four", "a", "", "three"], workers)) == [4, 1, 0, 5]


def test_a_call_for_another_package_is_not_made() -> None:
    assert same_package(package_hash(), len, "four") == 4
    with pytest.raises(BadInput, match="runs another memhp"):
        same_package("another", len, "four")


def test_a_worker_that_runs_another_package_is_told_and_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "package_hash", lambda: "another")
    pool = Processes(1)
    try:
        pool.put(Call(0, len, ("four",)))
        with pytest.raises(BadInput, match="runs another memhp"):
            pool.get()
    finally:
        pool.close()


def test_a_worker_that_runs_the_same_makes_calls() -> None:
    pool = Processes(1)
    try:
        pool.put(Call(7, len, ("four",)))
        assert pool.get() == (7, 4)
    finally:
        pool.close()


def test_what_is_to_be_done_soon_is_done_before_what_waits() -> None:
    pool = Here()
    pool.put(Call(0, len, ("",)))
    pool.put(Call(1, len, ("a",)))
    pool.put(Call(2, len, ("ab",)), soon=True)
    assert [pool.get() for _ in range(3)] == [(2, 2), (0, 0), (1, 1)]
