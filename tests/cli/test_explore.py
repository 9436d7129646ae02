"""``memhp explore``: what it prints, the keys of its JSON, and how it ends."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path
from typing import Any

import pytest

from memhp.cli.main import COMMANDS, main
from memhp.explore.cases import CASES

RISCV = "riscv64-4K-48-linux-6.12"
LOCKED = ("ptdump-vs-hot-remove", "--variant", "hotplug-lock", "--configuration", RISCV)
UNLOCKED = ("ptdump-vs-vmalloc-huge", "--variant", "no-lock", "--configuration", "riscv64-4K-39-linux-7.2")


def explore(*args: str) -> int:
    return main(["explore", *args])


def report(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_it_is_listed() -> None:
    assert COMMANDS["explore"].target == "memhp.cli.explore:explore"


def test_without_a_name_it_lists_every_race(capfd: pytest.CaptureFixture[str]) -> None:
    assert explore() == 0
    lines = capfd.readouterr().out.splitlines()
    for one in CASES:
        (line,) = (line for line in lines if line.startswith(f"{one.name} "))
        assert line.split()[-2:] == [
            str(sum(variant.stands_for == known for variant in one.variants)) for known in ("broken", "repaired")
        ]


def test_a_race_without_a_variant_lists_its_variants_and_machines(capfd: pytest.CaptureFixture[str]) -> None:
    for one in CASES:
        assert explore(one.name) == 0
        out = capfd.readouterr().out
        assert all(f"--variant {variant.name}  known as {variant.stands_for}" in out for variant in one.variants)
    assert explore(LOCKED[0], "--json") == 0
    found = report(capfd)
    assert RISCV in {name for variant in found["variants"] for name in variant["configurations"]}


def test_a_repaired_variant_that_is_safe_is_as_known(capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*LOCKED, "--json") == 0
    found = report(capfd)
    assert {"name", "variant", "configuration", "verdict", "executions", "classes", "bound", "trace"} <= found.keys()
    assert (found["name"], found["variant"], found["configuration"]) == (LOCKED[0], LOCKED[2], RISCV)
    assert (found["verdict"], found["executions"]) == ("safe", found["classes"])
    assert found["classes"] >= 2, "the dump comes first, or the removal"
    assert (found["bound"], found["trace"], found["reason"]) == (None, None, None)
    assert found["coverage"]["never_fired"] == []


def test_a_broken_variant_that_breaks_is_as_known_and_comes_with_its_trace(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "trace.html"
    assert explore(*UNLOCKED, "--json", "--html", str(target)) == 0
    found = report(capfd)
    assert found["verdict"] == "broken"
    trace = found["trace"]
    assert {"schedule", "end", "reason", "lines"} <= trace.keys()
    assert (trace["end"], trace["reason"]) == ("broken", found["reason"])
    assert [line["step"] for line in trace["lines"]] == list(range(1, len(trace["lines"]) + 1))
    assert trace["lines"][-1]["place"] == "mm/pagewalk.c:walk_pte_range"
    assert trace["schedule"] in target.read_text(encoding="utf-8")
    assert explore(*UNLOCKED, "--replay", trace["schedule"], "--json") == 0
    assert report(capfd)["trace"] == trace


@pytest.mark.parametrize("extra", [("--executions", "1"), ("--random", "2", "--seed", "3")])
def test_a_verdict_that_is_not_reached_is_not_as_known(
    extra: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert explore(*LOCKED, *extra, "--json") == 1
    assert report(capfd)["verdict"] == "undecided"


def test_a_bound_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*LOCKED, "--preemptions", "0", "--json") == 0
    found = report(capfd)
    assert (found["verdict"], found["bound"]) == ("bounded", "0 preemptions")


@pytest.mark.parametrize("view", ["columns", "diff", "sequence", "mermaid"])
def test_every_view_shows_a_replayed_schedule(view: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*UNLOCKED, "--replay", "b2", "--extend", "2", "--view", view) == 0
    out = capfd.readouterr().out
    assert "lock mem_hotplug_lock" in out
    if view == "mermaid":
        assert out.startswith("sequenceDiagram\n")
    else:
        assert "schedule b4: 4 steps, 0 preemptions; it is not at its end" in out


@pytest.mark.parametrize(
    "option",
    [
        ("--configuration", RISCV),
        ("--choice", "ptdump_lock=none"),
        ("--patch", "x.py"),
        ("--view", "diff"),
        ("--full",),
        ("--html", "x.html"),
        ("--replay", "a"),
        ("--extend", "1"),
        ("--preemptions", "0"),
        ("--random", "3"),
        ("--seed", "1"),
        ("--no-reduction",),
        ("--executions", "5"),
        ("--rounds", "5"),
        ("--steps", "5"),
    ],
    ids=lambda option: str(option[0]),
)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=" ".join)
def test_an_option_that_nothing_would_come_of_is_refused(
    option: tuple[str, ...], more: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    name = LOCKED[0]
    assert explore(*option, *more) == 2
    out, err = capfd.readouterr()
    assert (out, err) == (
        "",
        f"memhp: {option[0]} goes with the name of a race; memhp explore lists them (see memhp explore --help)\n",
    )
    assert explore(name, *option, *more) == 2
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"memhp: {option[0]}: which variant of {name}? (memhp explore {name} lists them)\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing",), "there is no race 'nothing'"),
        (("vmaloc-fault",), "did you mean vmalloc-fault?"),
        ((*LOCKED, "--seed", "1"), "--seed goes with --random"),
        (("ptdump-vs-hot-remove", "--variant", "other"), "has no variant 'other'"),
        ((*LOCKED[:3], "--configuration", "sparc"), "is not explored on 'sparc'"),
        ((*LOCKED, "--replay", "a3z"), "step 4 of 'a3z' cannot be done: there are 2 threads"),
        ((*LOCKED, "--replay", "a-b"), "is not a step"),
        ((*LOCKED, "--extend", "1"), "--extend goes with --replay"),
        ((*LOCKED, "--replay", "a", "--random", "1"), "--replay follows one schedule"),
        ((*LOCKED, "--preemptions", "1", "--no-reduction"), "exclude each other"),
        ((*LOCKED, "--html", "no/such/folder/x.html"), "there is no such folder"),
    ],
)
def test_bad_input_is_told_in_one_line(args: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*args) == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.rstrip("\n").split("\n")[-1]
    assert last.startswith("memhp: ")
    assert said in last


def test_a_search_that_gives_up_names_the_bound(capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*LOCKED, "--executions", "1") == 1
    told = capfd.readouterr().out
    assert ": undecided\n" in told and "undecided: the limit on executions came first (--executions N)\n" in told


COUNTED = ("online-vs-unplug", "--variant", "sub-block-grow-ACK", "--choice")


def test_another_choice_is_told_and_what_counts_then_is_that_nothing_breaks(capfd: pytest.CaptureFixture[str]) -> None:
    assert explore(*COUNTED, "virtio_mem_count_lock=hotplug-mutex") == 0
    lines = capfd.readouterr().out.splitlines()
    assert "chosen: virtio_mem_count_lock=hotplug-mutex" in lines
    assert "known as broken, without that choice" in lines
    assert not any("docs/findings.md" in line for line in lines)
    assert explore(*COUNTED, "virtio_mem_count_lock=unlocked") == 1
    assert "known as broken, without that choice" in capfd.readouterr().out


@pytest.mark.parametrize("choice", ["page_table_section=__init", "layout=6.4"])
def test_a_kernel_that_does_not_come_to_the_race_is_one_line(choice: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert explore("two-hotplugs", "--variant", "remove-and-online", "--choice", choice) == 2
    assert capfd.readouterr().err.startswith("memhp: --choice: with these choices the race cannot be set up: Kernel")
