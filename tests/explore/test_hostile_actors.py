"""Code of a race that does what no code of a kernel does: one line with its place, and never a verdict."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput, Interrupted
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.search import search
from memhp.explore.explored import explore
from memhp.linux.state import Kernel

RACE = """\
import os, subprocess, sys, threading
from dataclasses import dataclass, replace
from greenlet import getcurrent, greenlet
from memhp.errors import Interrupted
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER

@dataclass
class Own:
    count: int = 0

class Untold(Exception):
    def __str__(self):
        raise ValueError

def nothing(k):
    with k.hw.locked("lock"):
        k.statics(Own).count += 1

def actor(k):
    {does}

def check(k):
    {check}

def build(variant, configuration):
    sys.own_machines = getattr(sys, "own_machines", 0) + 1
    made = ANOTHER.build(variant, configuration)
    made.kernel.statics(Own)
    return replace(made, actors=(actor, nothing), names=("one", "two"), check=check)

CASE = replace(ANOTHER, build=build)
"""
VARIANT = "looked-at-again"
MACHINE = Configuration("riscv64", 4096, 48)


def race(folder: Path, does: str = "nothing(k)", check: str = "return None") -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "own.py"
    file.write_text(RACE.format(does=does, check=check), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("getcurrent().parent.switch(1)", "one switches greenlets itself"),
        ("getcurrent().parent.switch(None)", "one switches greenlets itself"),
        ("greenlet(nothing).switch(k)", "one takes a step in a greenlet of its own"),
        ("del k.hw", "one takes the doors of the machine away"),
        ("k.hw.stepper = None; nothing(k)", "one takes the doors of the machine away"),
        ("k.hw.seen = True", "one changes the machine past its doors"),
        ("k.hw.nr_cpus = 5", "one changes the machine past its doors"),
        ("threading.Thread(target=nothing, args=(k,)).start()", "an actor starts a thread, which nobody follows"),
        ("os.fork()", "an actor starts a process, which nobody follows"),
        ("subprocess.run(['true'])", "an actor starts a process, which nobody follows"),
        ("raise Untold", "one raised Untold, which cannot be told as text"),
        ("k.hw.wait(None, 'it', on='it')", "wait: a wait for it: wanted a function that says whether to go on, not"),
        ("k.hw.wait(lambda x: x, 'it', on='it')", "what one waits for raised TypeError"),
        (
            "from memhp.linux.kernel.rcu import call_rcu; call_rcu(k.hw, None)",
            "one raised TypeError: call_rcu() wants a function of no arguments, not NoneType",
        ),
        (
            "from memhp.linux.kernel.rcu import call_rcu; call_rcu(k.hw, actor)",
            "one raised TypeError: call_rcu() wants a function of no arguments, and actor() wants 1",
        ),
        ("k.hw.arm(5, lambda n: n)", "one raised TypeError: arm() wants a function of no arguments, and actor."),
    ],
)
def test_what_nobody_could_follow_is_an_error_with_the_line(tmp_path: Path, does: str, told: str) -> None:
    with pytest.raises(BadInput) as error:
        explore(race(tmp_path, does), VARIANT)
    place, _, text = str(error.value).partition(": ")
    assert place in {f"{tmp_path}/own.py:{line}" for line in (16, 19, 20)}
    assert text.startswith(told)


CLOSURE = """\
from dataclasses import dataclass, field, replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER

@dataclass
class Own:
    count: int = 0

@dataclass
class Held:
    things: list[Own] = field(default_factory=list)

def build(variant, configuration):
    made = ANOTHER.build(variant, configuration)
    thing = Own()

    def actor(k):
        {does}
        k.statics(Held).things.append(thing)

    return replace(made, actors=(actor, lambda k: None), names=("one", "two"), check=None)

CASE = replace(ANOTHER, build=build)
"""


@pytest.mark.parametrize(
    ("does", "line", "told"),
    [
        ("pass", 18, "one raised TypeError: Held.things[Own]: it was there in another execution"),
        ("thing.count += 1", 17, "one reaches into the kernel of another execution: all must go by the kernel"),
    ],
)
def test_an_object_that_build_made_beside_its_kernel_cannot_be_put_into_one(
    tmp_path: Path, does: str, line: int, told: str
) -> None:
    file = tmp_path / "own.py"
    file.write_text(CLOSURE.format(does=does), encoding="utf-8")
    with pytest.raises(BadInput) as error:
        explore(str(file), VARIANT)
    place, _, text = str(error.value).partition(": ")
    assert place == f"{file}:{line}" and text.startswith(told)


def test_other_threads_may_start_threads_once_a_race_was_decided(tmp_path: Path) -> None:
    assert explore(race(tmp_path), VARIANT).verdict == "safe"
    other = threading.Thread(target=len, args=("",))
    other.start()
    other.join()


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"does": "raise KeyboardInterrupt"}, "own.py:20: one raised KeyboardInterrupt"),
        ({"does": "k.hw.wait(lambda: exec('raise KeyboardInterrupt'), 'it', on='it')"}, "own.py:20: what one waits"),
        ({"check": "raise KeyboardInterrupt"}, "own.py:23: KeyboardInterrupt"),
    ],
)
def test_who_raises_what_ctrl_c_would_is_told_as_such_where_ctrl_c_raises_something_else(
    tmp_path: Path, parts: dict[str, str], place: str
) -> None:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with pytest.raises(BadInput, match=place):
            explore(race(tmp_path, **parts), VARIANT)
        with pytest.raises(Interrupted):
            explore(race(tmp_path / "other", does="raise Interrupted"), VARIANT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("time", range(1, 8))
def test_an_end_that_is_wanted_while_an_actor_has_locks_is_heard_at_once(time: int) -> None:
    """On its way out it gives them back: those are no steps, whether it does new ones or the same once more."""
    left = time

    def one(k: Kernel) -> None:
        nonlocal left
        with k.hw.locked("outer"), k.hw.locked("inner"):
            left -= 1
            if not left:
                raise Interrupted
            k.hw.reads("theirs")

    def other(k: Kernel) -> None:
        with k.hw.locked("inner"):
            k.hw.atomic("theirs")
        with k.hw.locked("outer"):
            k.hw.atomic("theirs")

    run = KernelProgram(kernel(), (one, other), ("one", "other")).run()
    with pytest.raises(Interrupted):
        search(run, Limits(), reduce=False)
    assert not left


def test_with_pythons_own_handler_it_may_be_ctrl_c(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the command line has another one
    try:
        with pytest.raises(KeyboardInterrupt):
            explore(race(tmp_path, does="signal = __import__('signal'); signal.raise_signal(signal.SIGINT)"), VARIANT)
    finally:
        signal.signal(signal.SIGINT, before)


def kernel() -> Kernel:
    return boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))


def run_of(*actors: Callable[[Kernel], None], check: Callable[[Kernel], str | None] | None = None) -> KernelRun:
    names = ("one", "two")[: len(actors)]
    return KernelProgram(kernel(), actors, names, check=check, of_user=True).run()


def other(k: Kernel) -> None:
    k.hw.lock("other")
    k.hw.unlock("other")


class Changing:
    """Something else each time, in a place where nobody looks for what code has changed."""

    def __init__(self, patch: pytest.MonkeyPatch, first: object, then: object) -> None:
        patch.setattr(sys, "own_values", chain([first], repeat(then)), raising=False)

    def now(self) -> str:
        return str(next(getattr(sys, "own_values")))  # noqa: B009 (no such name is known there)


def test_an_actor_that_comes_to_another_step_is_an_error_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not its step that is done once more: it only waits for its turn."""
    lock = Changing(monkeypatch, "a", "b")
    run = run_of(lambda k: k.hw.lock(lock.now()), other)
    run.step(0, 0)
    run.step(1, 0)
    with pytest.raises(BadInput, match=r"\.py:\d+: one does 'lock b', and did 'lock a' when the same steps were done"):
        run.back(1)


def test_an_actor_that_ends_or_does_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = Changing(monkeypatch, "on", "")
    run = run_of(lambda k: other(k) if goes_on.now() else None, other)
    run.step(0, 0)
    run.step(1, 0)
    with pytest.raises(BadInput, match="one has ended, and did 'lock other' when the same steps were done before"):
        run.back(1)


def test_steps_that_are_taken_along_must_be_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Changing(monkeypatch, "a", "b")

    def actor(k: Kernel) -> None:
        k.hw.writes(field.now())
        k.hw.lock("lock")

    run = run_of(actor, other)
    run.tell_apart(frozenset({("lock", "lock")}))
    run.step(0, 0)
    run.step(0, 0)
    with pytest.raises(BadInput, match="one does not go on after 'begin' as when the same steps were done before"):
        run.back(1)


def test_an_error_of_the_search_is_heard_though_the_actor_hears_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Changing(monkeypatch, "a", "b")

    def actor(k: Kernel) -> None:
        try:
            k.hw.lock(lock.now())
        except Exception:
            k.hw.lock("a")

    run = run_of(actor, other)
    run.step(0, 0)
    run.step(0, 0)
    with pytest.raises(BadInput, match="one does 'lock b', and did 'lock a'"):
        run.back(1)


def test_a_check_that_says_now_this_and_now_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    says = Changing(monkeypatch, "bad", "")
    run = run_of(other, check=lambda k: says.now() or None)
    for _ in range(3):
        run.step(0, 0)
    assert run.failure() == "bad"
    with pytest.raises(BadInput, match="check= says something else of the same end"):
        run.back(0)


def test_what_goes_wrong_only_once_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "own_machines", 0, raising=False)
    says = "return 'bad' if sys.own_machines == 1 else None"
    with pytest.raises(BadInput, match=r"own.py: what went wrong once does not again with the same steps, nothing is"):
        explore(race(tmp_path, check=says), VARIANT)


def test_what_code_prints_is_no_part_of_the_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = race(tmp_path, "print('hello'); sys.stdout.close(); nothing(k)")
    assert main(["explore", file, "--variant", VARIANT, "--json"]) == 2
    told = capfd.readouterr()
    assert told.out == "" and "own.py:20: one raised ValueError" in told.err
    file = race(tmp_path / "other", "print('hello'); nothing(k)")
    assert main(["explore", file, "--variant", VARIANT, "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["verdict"] == "safe" and "hello" in told.err


def test_a_program_of_the_wrong_parts_is_refused() -> None:
    good = KernelProgram(kernel(), (other,), ("one",))
    for parts, told in (
        ({"kernel": None}, "kernel: wanted a Kernel, and got a NoneType"),
        ({"actors": other}, "actors: wanted a tuple of functions, and got a function"),
        ({"names": "o"}, "names: wanted a tuple of names, and got a str"),
        ({"failures": frozenset({1})}, "failures: wanted a frozenset of actors' numbers, below 1, and got"),
        ({"failures": 0}, "failures: wanted a frozenset of actors' numbers"),
        ({"actors": (3,)}, r"one: wanted a function of one argument \(the kernel, k\), and got 3"),
    ):
        with pytest.raises(BadInput, match=told):
            replace(good, **parts)


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ({"executions": 0}, "executions"),
        ({"executions": "x"}, "executions"),
        ({"failures": -1}, "failures"),
        ({"steps": 0}, "steps"),
        ({"rounds": None}, "rounds"),
        ({"step_seconds": 0}, "step_seconds"),
        ({"step_seconds": float("inf")}, "step_seconds"),
        ({"step_seconds": "1"}, "step_seconds"),
    ],
)
def test_limits_within_which_nothing_is_looked_at_are_refused(how: dict[str, object], where: str) -> None:
    with pytest.raises(BadInput, match=f"limits: {where}: wanted a "):
        Limits(**how)  # type: ignore[arg-type]


def test_a_race_that_is_given_up_amid_another_ones_steps_leaves_that_alone() -> None:
    """As garbage is collected at any moment."""
    given_up = [KernelProgram(kernel(), (other, other), ("one", "two")).run()]
    given_up[0].step(0, 0)

    def actor(k: Kernel) -> int:
        k.hw.lock("a")
        while given_up:
            given_up.pop().close()
        k.hw.lock("b")
        return 1

    run = KernelProgram(kernel(), (actor,), ("one",)).run()
    while run.pending[0] is not None:
        run.step(0, 0)
    assert run.behaviour() == ((1,), (), (None,))
