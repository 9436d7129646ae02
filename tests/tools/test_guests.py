"""What CI says of real kernels: what differs fails; what could not be tried is told, and fails nothing."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tools.guests import BUDGET, Ended, Report, ended, guests

MACHINE = {"name": "virtio-mem on 7.2.13", "facts": 900, "equal": 900, "differing": 0, "incomparable": 0}
WRONG = {"step": "2-plug", "fact": "MemTotal", "expected": 1, "got": 2, "verdict": "differing"}
LIVES = {"drawn": 10, "finished": 10, "differed": 0, "steps": 140, "unfinished": [], "unsteady": 0, "kept": []}


def document(**other: object) -> str:
    return json.dumps({"machines": [MACHINE], "skipped": {}, "details": [], "lives": None, **other})


class Fake:
    """Programs that answer by what they are asked for."""

    def __init__(self, have: Sequence[str], fetch: Ended, compared: Ended, lives: Ended, tests: Ended) -> None:
        kernels = [{"release": f"7.2.13+deb14-{flavour}"} for flavour in have]
        self.answers = {
            "fetch": fetch, "list": Ended(0, json.dumps({"kernels": kernels}), ""), "--all": compared,
            "--random": lives, "pytest": tests,
        }  # fmt: skip
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str | Path], seconds: float) -> Ended:
        assert seconds <= BUDGET
        word = next(word for word in self.answers if word in command)
        self.asked.append(word)
        return self.answers[word]


FINE = Ended(0, document(), "")
LIVED = Ended(0, document(machines=[], lives=LIVES), "")
PASSED = Ended(0, "16 passed", "")
ARCHES = ("cloud-amd64", "cloud-arm64", "riscv64")


def run(have: Sequence[str] = ARCHES, fetch: Ended = FINE, compared: Ended = FINE, lives: Ended = LIVED,
        tests: Ended = PASSED) -> Report:  # fmt: skip
    return guests(Fake(have, fetch, compared, lives, tests), BUDGET)


def test_all_is_shown_where_all_was_there() -> None:
    report = run()
    assert (report.missing, report.wrong) == ([], [])
    assert "virtio-mem on 7.2.13: 900 of 900 facts equal" in report.shown
    assert [line for line in report.shown if "10 lives" in line] != []
    assert report.shown[-1] == "tests/guests: 16 passed"


def test_without_a_network_nothing_fails_and_each_architecture_is_named() -> None:
    report = run(have=(), fetch=Ended(2, "", "memhp: the archive is not reachable"))
    assert report.wrong == report.shown == []
    assert [line.split(":")[1] for line in report.missing] == [*ARCHES]
    assert all("NO KERNEL OF THIS ARCHITECTURE WAS BOOTED" in line for line in report.missing)


def test_what_was_fetched_before_is_booted_without_a_network() -> None:
    report = run(have=("cloud-arm64",), fetch=Ended(None, "", "not done after 240 s"))
    assert len(report.missing) == 2
    assert any("lives" in line for line in report.shown)


def test_a_fact_that_differs_fails() -> None:
    report = run(compared=Ended(1, document(details=[WRONG]), ""))
    assert report.wrong == ["2-plug: MemTotal: kernel 1, model 2"] * 3


def test_a_life_that_differs_fails_with_its_scenario() -> None:
    kept = {**LIVES, "differed": 1, "kept": ["steps = []"]}
    assert run(lives=Ended(1, document(machines=[], lives=kept), "")).wrong == ["steps = []"] * 3
    once = run(lives=Ended(1, document(machines=[], details=[WRONG], lives={**kept, "unsteady": 1}), ""))
    assert once.wrong == []
    assert [line.partition(":\n")[2] for line in once.missing] == ["steps = []"] * 3


def test_what_did_not_fit_is_told_and_is_no_failure() -> None:
    late = {"virtio-mem on 7.2.13": "time is up", "dimm on 6.1": "a guest cannot do 'plug': QEMU has no DIMMs there"}
    few = {**LIVES, "finished": 3, "unfinished": ["after 9 steps: time is up"]}
    report = run(
        compared=Ended(0, document(skipped=late), ""),
        lives=Ended(0, document(machines=[], lives=few), ""),
        tests=Ended(None, "", "not done after 80 s"),
    )
    assert report.wrong == []
    assert report.missing == [
        *["virtio-mem on 7.2.13: time is up"] * 3,
        *(f"random lives on 7.2:{arch}: 7 of 10 lives (after 9 steps: time is up)" for arch in ARCHES),
        "tests/guests: not done after 80 s",
    ]


def test_a_program_that_breaks_fails() -> None:
    broken = Ended(1, "", "Traceback (most recent call last):\nValueError: no")
    assert run(compared=broken).wrong == [f"scenarios on 7.2:{each}: exit code 1: ValueError: no" for each in ARCHES]
    assert run(tests=Ended(1, "FAILED tests/guests/test_vm.py", "")).wrong == [
        "tests/guests\nFAILED tests/guests/test_vm.py"
    ]


def test_a_program_whose_time_is_up_ends_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    done = ended(["bash", "-c", f"sleep 600 & echo $! > {child}; wait"], 2)
    assert done == Ended(None, "", "not done after 2 s")
    end = time.monotonic() + 10
    while _lives(int(child.read_text())):
        assert time.monotonic() < end
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
