"""A race of one's own: a file with a CASE is explored as those of the package; errors in it are errors, no verdicts."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import case
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.explored import Explored, How, explore
from memhp.linux.state import Kernel
from memhp.report.trace_page import page
from memhp.spans import SpanSet

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_race.py"
MACHINE = Configuration("riscv64", 4096, 48)


def test_the_planted_bug_of_the_example_is_found_and_the_repair_is_safe() -> None:
    broken = explore(str(EXAMPLE), "free-first")
    assert (broken.verdict, broken.as_known) == ("broken", True)
    assert broken.reason is not None and broken.reason.startswith("flush-before-free: ")
    assert explore(str(EXAMPLE), "flush-first").verdict == "safe"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n", "there is no CASE"),
        ("CASE = 1\n", "there is a CASE that is a int"),
        ("x = 1\ny = x +\n", r"own.py:2: SyntaxError"),
        ("x = 1\nx()\n", r"own.py:2: TypeError"),
        ("# coding: latin-1\nx = 'é'\n", "there is no CASE"),
        ("def __getattr__(name):\n    raise ValueError(name)\n", r"own.py:2: asked for CASE it raised ValueError"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(text, encoding="latin-1" if "latin-1" in text else "utf-8")
    with pytest.raises(BadInput, match=told):
        case(str(file))
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot read it: No such file or directory"):
        case("nothing/here.py")


OWN = """\
from dataclasses import replace
from memhp.explore.cases.two_table_allocs import CASE as ANOTHER; from memhp.linux.mm.vmalloc import vmalloc
def check(k):
    {check}
def build(variant, configuration):
    {build}
CASE = replace(ANOTHER, build=build)
"""
"""A race of the package with another check."""
MADE = "return replace(ANOTHER.build(variant, configuration)"
TOO_LARGE = "vmalloc(ANOTHER.build(variant, configuration).kernel, 1 << 60, 'x')"
CHECKED = "return replace(ANOTHER.build(variant, configuration), check=check)"


@pytest.mark.parametrize(
    ("check", "build", "told"),
    [
        ("return k.nothing", CHECKED, r"own.py:4: AttributeError: 'Kernel' object has no attribute 'nothing'"),
        ("return True", CHECKED, r"own.py:3: check= gave a bool, wanted what is wrong as text, or None"),
        ("return ''", CHECKED, r"own.py:3: check= gave an empty text, wanted what is wrong as text, or None"),
        ("yield", CHECKED, r"own.py:6: check: wanted .*: calling a generator runs nothing of it"),
        ("raise SystemExit(3)", CHECKED, r"own.py:4: SystemExit: 3"),
        ("return None", "yield", r"own.py:5: build\(\) gave a generator, wanted a KernelProgram"),
        ("return None", "return 1 + ''", r"own.py:6: TypeError: unsupported operand"),
        ("return None", "return ANOTHER", r"own.py:5: build\(\) gave a Case, wanted a KernelProgram"),
        ("return None", f"{MADE}, actors=(), names=())", r"own.py:5: build\(\) gave a KernelProgram without actors"),
        ("return None", f"{MADE}, names=('a', 'a'))", r"own.py:6: names: two threads are called 'a' \(give each"),
        ("return None", TOO_LARGE, r"own.py:6: KernelError: ENOMEM: vmap allocation for size \d+ failed"),
    ],
)
def test_an_error_in_check_or_build_is_an_error_and_no_verdict(
    tmp_path: Path, check: str, build: str, told: str
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.format(check=check, build=build), encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        explore(str(file), "looked-at-again")


def booted() -> Kernel:
    return boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))


RACE = """\
import random, sys, time; from collections import Counter
from dataclasses import dataclass, make_dataclass
from greenlet import GreenletExit
from memhp.errors import BadInput
from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram

SEEN = []; Copied = make_dataclass("Copied", ["x"], namespace=dict(__getstate__=lambda self: dict()))

@dataclass
class Own:
    count: int = 0
    when: float = 0.0
    call: object = None

def nothing(k):
    with k.hw.locked("lock"):
        pass

def actor(k):
    nothing(k)
    {does}

def build(variant, configuration):
    k = boot(variant.config(configuration))
    k.statics(Own)
    return KernelProgram(k, (actor, nothing), ("one", "two"))

def variant(**how):
    return Variant(**dict(name="v", about="v", stands_for="repaired",
                          configurations=(Configuration("riscv64", 4096, 48),), of_kernel=False) | how)

def race(**how):
    return Case(**dict(name="own", actors="own", variants=(variant(),), build=build) | how)

CASE = race({case})
"""
"""A race of a user's, what its first actor does, and what else its case says."""


def race(folder: Path, does: str = "pass", case: str = "") -> str:
    file = folder / "own.py"
    file.write_text(RACE.format(does=does, case=case), encoding="utf-8")
    return str(file)


SILENT = "type('Silent', (), dict(__str__=lambda self: 1 / 0))()"


def machines(one: str) -> str:
    """A case of one variant, on one machine."""
    return f"variants=(variant(configurations=(Configuration({one}),)),)"


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("k.nonsense()", "own.py:23: one raised AttributeError: 'Kernel' object has no attribute 'nonsense'"),
        ("sys.exit(0)", "own.py:23: one raised SystemExit: 0"),
        ("raise GreenletExit", "own.py:21: one raised GreenletExit"),
        ("raise BaseException('enough')", "own.py:23: one raised BaseException: enough"),
        ("raise BadInput('is none', where='it')", "own.py:23: it: is none"),
        ("k.zone_of('abc')", "own.py:23: one raised TypeError: can only concatenate"),
        ("k.statics(Own).count = iter(())", "own.py:23: one raised TypeError: Own.count(CPU 0) is a tuple_iter"),
        ("return (each for each in ())", "one: gave a generator, of which nothing has run"),
        ("k.hw.wait(lambda: 1 / 0, 'it', on='it')", "own.py:23: what one waits for raised ZeroDivisionError: division"),
        ("k.hw.wait(lambda: k.hw.unlock('a'), 'it', on='it')", "own.py:23: wait: a wait on it does 'unlock a'"),
        ("k.hw.wait(lambda: True, 'it')", "own.py:23: wait: a wait for it: wanted on=, the name of the field"),
        ("k.hw.wait(lambda: True, 7, on=['it'])", "own.py:23: wait: a wait for 7: wanted on=, the name of the field"),
        ("k.hw.violations.append(7)", "k.hw.violations: wanted a Violation, and got a int"),
        ("k.statics(Own).call = Counter()", "own.py:23: one raised TypeError: Own.call(CPU 0) is a Counter: how"),
        ("k.statics(Own).call = Copied(1)", "own.py:23: one raised TypeError: Own.call(CPU 0) is a Copied, whose __"),
    ],
)
def test_whatever_leaves_an_actor_and_is_no_kernel_error_is_the_user_s_with_the_line_in_the_user_s_file(
    tmp_path: Path, does: str, told: str
) -> None:
    with pytest.raises(BadInput) as error:
        explore(race(tmp_path, does), "v")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("SEEN.append(1)", "own.py: code of the race changes SEEN"),
        ("variant.seen = 1", "own.py: code of the race changes variant.seen"),
        ("Own.total = 1", "one changes Own.total, of which nobody is told"),
        ("random.random()", "own.py: code of the race changes the numbers that random gives"),
        ("k.statics(Own).when = time.perf_counter()", "own.py: the same steps once more lead to another end"),
    ],
)
def test_actors_that_are_no_functions_of_the_kernel_are_an_error(tmp_path: Path, does: str, told: str) -> None:
    with pytest.raises(BadInput) as error:
        explore(race(tmp_path, does), "v")
    assert told in str(error.value)


@pytest.mark.parametrize("does", ["k.statics(Own).count += 1", "k.statics(Own).call = lambda: does"])
def test_actors_that_go_by_the_kernel_are_decided(tmp_path: Path, does: str) -> None:
    assert explore(race(tmp_path, f"does = 1; {does}"), "v").verdict == "safe"


def test_a_wait_that_looks_at_something_else_than_it_names_is_an_error(tmp_path: Path) -> None:
    file = Path(race(tmp_path, "k.hw.wait(lambda: k.statics(Own).count, 'a count', on='when')"))
    changes = "def sets(k):\n    k.hw.atomic('count')\n    k.statics(Own).count = 1\n\ndef build"
    text = file.read_text(encoding="utf-8").replace("def build", changes).replace("(actor, nothing)", "(actor, sets)")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"own.py:23: whether one can wait for a count changes at a step that"):
        explore(str(file), "v")


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("k.statics(Own).count += 1", "of Own.count by one at own.py:23 (holding no lock)"),
        ("k.hw.unlock('other')", "one: KernelBug: CPU 0 lets go of other, which it does not hold (own.py:23)"),
    ],
)
def test_what_goes_wrong_in_no_function_of_the_kernel_is_told_with_the_line_of_the_user_s(
    tmp_path: Path, does: str, reason: str
) -> None:
    file = Path(race(tmp_path, does))
    file.write_text(file.read_text(encoding="utf-8").replace("(actor, nothing)", "(actor, actor)"), encoding="utf-8")
    found = explore(str(file), "v")
    assert found.reason is not None and reason in found.reason
    assert found.trace is not None
    assert [line.place for line in found.trace.lines if line.what == "lock"][:1] == ["own.py:18"]


def test_how_many_rounds_are_endless_can_be_told(tmp_path: Path) -> None:
    """A loop of sixty rounds, of which nothing can be seen but its steps."""
    file = race(tmp_path, "lines = __import__('io').StringIO('.\\n' * 60)\n    while lines.readline(): nothing(k)")
    found = explore(file, "v")
    assert found.reason is not None and found.reason.startswith("livelock: ")
    found = explore(file, "v", how=How(rounds=70))
    assert found.verdict == "safe"
    assert any("goes round 70 times more" in line for line in found.rests_on)


def test_an_actor_that_takes_other_steps_the_second_time_is_an_error_where_it_does(tmp_path: Path) -> None:
    does = "k.hw.lock('b' if SEEN else 'a'); SEEN.append(1); k.hw.lock('c')"
    run = replace(case(race(tmp_path, does)).program("v"), of_user=False).run()
    for _ in range(5):
        run.step(0, 0)
    run.back(4)
    with pytest.raises(BadInput, match=r"own.py:23: one does 'lock b', and did 'lock a' when the same steps"):
        run.step(1, 0)


def test_a_kernel_that_an_actor_has_from_elsewhere_is_refused() -> None:
    k = booted()

    def actor(_: Kernel) -> None:
        k.hw.lock("lock")

    with pytest.raises(BadInput, match="one: goes by 'k', a kernel that no execution is about"):
        KernelProgram(k, (actor,), ("one",))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("variants=(variant(stands_for='borken'),)", "variant v: is known as 'borken' (did you mean broken?)"),
        ("variants=(variant(), variant())", "race own: two variants are called 'v'"),
        ("variants=(variant(configurations=()),)", "variant v: wanted a tuple of Configurations, and got an empty one"),
        ("variants=()", "race own: wanted a tuple of Variants, and got an empty one"),
        ("variants=build", "race own: wanted a tuple of Variants, and got <function build"),
        ("variants=(variant(name=' '),)", "variant: wanted a name, a line of text, and got ' '"),
        ("name=1", "race: wanted a name, a line of text, and got 1"),
        ("build='build'", "race own: build is a str, wanted a function"),
        ("limits=5", "race own: limits are a int, wanted Limits"),
        (
            "variants=(variant(choices=[('a', 1)]),)",
            "variant v: wanted a mapping of names to values as choices, and got [('a', 1)]",
        ),
        (
            "variants=(variant(generic={1: 2}),)",
            "variant v: wanted a mapping of names to values as generic, and got {1: 2",
        ),
        (
            "variants=(variant(options=None),)",
            "variant v: wanted a mapping of names to values as options, and got None",
        ),
        (
            "variants=(variant(options={'hov': True}),)",
            f"variant v on {MACHINE.name}: options: hov: there is no such opt",
        ),
        ("variants=(variant(options={'page_size': 4096}),)", f"variant v on {MACHINE.name}: options: page_size: there"),
        (
            "variants=(variant(choices={'node_spam': 'by-page'}),)",
            f"variant v on {MACHINE.name}: node_spam: there is no",
        ),
        (
            "variants=(variant(generic={'node_span': 7}),)",
            f"variant v on {MACHINE.name}: node_span: cannot be 7 (one of",
        ),
        (
            f"variants=(variant(generic={{'node_span': {SILENT}}}),)",
            "asked for its kernels it raised ZeroDivisionError",
        ),
        (machines("'riscv64', '4096', 48"), 'page_size: want a whole number, got "4096"'),
        (machines("'mips', 4096, 48"), "variant v on mips-4K-48-linux-6.12: arch: no architecture 'mips' (one of risc"),
        (machines("'riscv64', 4096, 48, 6"), "release: want text, got 6"),
        (machines(r"'riscv64', 4096, 48, note='\n'"), r"configuration: wanted a line of text as note, and got '\n'"),
        (
            machines("'riscv64', 4096, 48, 'linux-9.9'"),
            "variant v on riscv64-4K-48-linux-9.9: profile: no kernel profile",
        ),
        (
            machines("'riscv64', 3, 48"),
            "variant v on riscv64-0K-48-linux-6.12: page_size: riscv64 has no 3 B pages (one",
        ),
    ],
)
def test_a_case_that_says_what_it_cannot_mean_is_refused_where_it_is_made(tmp_path: Path, how: str, told: str) -> None:
    with pytest.raises(BadInput) as error:
        case(race(tmp_path, case=how))
    assert re.search(rf"own.py:\d+: {re.escape(told)}", str(error.value))


@pytest.mark.parametrize(
    "args", [(), ("--json",), ("--variant", "v"), ("--variant", "v", "--choice", "node_span=by-page")]
)
def test_a_variant_without_a_kernel_is_told_whatever_is_asked_of_the_race(
    tmp_path: Path, args: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", race(tmp_path, case="variants=(variant(options={'nope': 1}),)"), *args]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(
        rf"memhp: {tmp_path}/own.py:\d+: variant v on {MACHINE.name}: options: nope: there is no such .*\n", told.err
    )


def test_what_goes_wrong_with_other_choices_is_told_as_of_these(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^--choice node_span: cannot be"):
        explore(race(tmp_path), "v", choices={"node_span": "nope"})


def test_of_a_class_made_from_case_what_it_describes_is_explored(tmp_path: Path) -> None:
    file = Path(race(tmp_path))
    own = "class Mine(Case):\n    def variant(self, name):\n        raise RuntimeError\n\nCASE = Mine(**vars(race()))\n"
    file.write_text(file.read_text(encoding="utf-8").replace("CASE = race()\n", own), encoding="utf-8")
    assert explore(str(file), "v").verdict == "safe"


def wrong_at_its_end(folder: Path, does: str) -> Explored:
    """A race whose check says so, and what was found out of it."""
    file = Path(race(folder, does))
    text = file.read_text(encoding="utf-8").replace("import BadInput", "import BadInput, KernelBug")
    file.write_text(text.replace('("one", "two"))', '("one", "two"), check=lambda k: "bad")'), encoding="utf-8")
    return explore(str(file), "v")


def test_what_cannot_be_told_as_text_is_told_as_that(tmp_path: Path) -> None:
    trace = wrong_at_its_end(tmp_path, f"return {SILENT}").trace
    assert trace is not None
    told = [change.new for line in trace.lines for change in line.changes]
    assert "done: Silent, which cannot be told as text" in told


def test_bytes_that_are_no_text_are_written_out_in_the_page(tmp_path: Path) -> None:
    assert r"\ud800" in page(wrong_at_its_end(tmp_path, r"raise KernelBug('\ud800', place='')"))


def test_two_records_of_a_user_s_may_have_fields_of_one_name() -> None:
    @dataclass
    class First:
        count: int = 0
        spans: SpanSet = field(default_factory=SpanSet)

    @dataclass
    class Second(First):
        """Another one with the same fields."""

    def counts(record: type[First], k: Kernel) -> None:
        k.statics(record).count += 1
        k.statics(record).spans.add(0, 1)

    k = booted()
    for record in (First, Second):
        k.statics(record)
    for second, word in ((Second, "safe"), (First, "broken")):
        program = KernelProgram(k, (partial(counts, First), partial(counts, second)), ("one", "two"))
        assert search(program.run()).word == word


def test_what_a_call_does_not_run_is_no_actor() -> None:
    def generator(_: Kernel) -> Iterator[None]:
        yield

    async def coroutine(_: Kernel) -> None:
        """Never runs."""

    class Called:
        async def __call__(self, k: Kernel) -> None:
            """Never runs."""

    for actor, kind in ((generator, "generator"), (coroutine, "coroutine"), (Called(), "coroutine")):
        with pytest.raises(BadInput, match=f"one: wanted .*: calling a {kind} runs nothing of it"):
            KernelProgram(booted(), (partial(actor),), ("one",))  # type: ignore[arg-type]


def test_wrong_signatures_and_equal_names_are_refused() -> None:
    k = booted()

    def good(k: Kernel) -> None:
        """An actor."""

    def bad() -> None:
        """No actor."""

    with pytest.raises(BadInput, match="one: wanted a function of one argument"):
        KernelProgram(k, (bad,), ("one",))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="two threads are called 'one'"):
        KernelProgram(k, (good, good), ("one", "one"))
    for name in ("", "a\nb", 1):
        with pytest.raises(BadInput, match="wanted names, each a line of text"):
            KernelProgram(k, (good,), (name,))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="two threads are called 'RCU callbacks'"):
        KernelProgram(k, (good,), ("RCU callbacks",))
    names = tuple(f"actor {number}" for number in range(26))
    with pytest.raises(BadInput, match="actors: wanted at most 25 actors, got 26"):
        KernelProgram(k, (good,) * 26, names)
    assert search(KernelProgram(k, (good,) * 25, names[:25]).run()).word == "safe"
    with pytest.raises(BadInput, match="wanted a name for each of 2 actors, got 1"):
        KernelProgram(k, (good, good), ("one",))
