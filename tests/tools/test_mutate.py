"""Small changes of a module: which there are, that each is one change of its text, and which tests are to notice it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import os
import subprocess
import sys
from pathlib import Path

from tools.mutate import drawn, first_of, function_at, mutants, reaching
from tools.reach import OUT, TREE, Reach, read_reach

TEXT = """def f(a, b, done):
    assert b is not None and b > 0
    if not a and b <= 3 < len("\u00e4") or a is None:
        done.append(b)
    return a not in done
"""


def changed(text: str) -> list[str]:
    """By mutant: the line that differs, without its indentation."""
    lines = text.splitlines()
    found = []
    for mutant in mutants(text):
        new = mutant.applied(text).splitlines()
        ((old, now),) = [(old, now) for old, now in zip(lines, new, strict=True) if old != now]
        assert old == lines[mutant.line - 1]
        ast.parse(mutant.applied(text))
        found.append(now.strip())
    return found


def test_each_comparison_word_and_call_is_changed_by_itself() -> None:
    assert sorted(changed(TEXT)) == sorted(
        [
            'if a and b <= 3 < len("\u00e4") or a is None:',
            'if not a or b <= 3 < len("\u00e4") or a is None:',
            'if not a and b < 3 < len("\u00e4") or a is None:',
            'if not a and b > 3 < len("\u00e4") or a is None:',
            'if not a and b <= 3 <= len("\u00e4") or a is None:',
            'if not a and b <= 3 >= len("\u00e4") or a is None:',
            'if not a and b <= 3 < len("\u00e4") and a is None:',
            'if not a and b <= 3 < len("\u00e4") or a is not None:',
            "pass",
            "return a in done",
        ]
    )


def test_a_text_without_any_has_none() -> None:
    assert changed("x = 1\n") == []


def test_of_each_file_as_many_are_drawn_as_asked_and_the_seed_says_which() -> None:
    every = {Path(name): list(mutants(TEXT)) for name in "ab"}
    assert len(drawn(every, None, 1)) == 20
    some = drawn(every, 3, 1)
    assert sorted(path.name for path, _ in some) == ["a"] * 3 + ["b"] * 3
    assert some == drawn(every, 3, 1) != drawn(every, 3, 2)


def test_a_line_is_the_innermost_functions_that_is_around_it() -> None:
    tree = ast.parse("x = 1\n\n@dec\ndef f():\n    def g():\n        return 1\n    return g\n")
    assert [function_at(tree, line) for line in range(1, 8)] == [None, None, 3, 3, 5, 5, 3]


REACH = Reach(
    {"broad": 1.0, "narrow": 2.0, "slow": 60.0},
    {
        ("a.py", 1): frozenset({"broad", "slow"}),
        ("a.py", 9): frozenset({"broad", "narrow"}),
        ("b.py", 1): frozenset({"broad", "slow"}),
    },
)


def test_the_narrowest_tests_that_call_a_function_come_first_as_many_as_there_is_time_for() -> None:
    assert REACH.breadth == {"broad": 3, "narrow": 1, "slow": 2}
    assert first_of(reaching(REACH, "a.py", 9), REACH, REACH.breadth, 5) == ["narrow", "broad"]
    assert first_of(reaching(REACH, "a.py", 9), REACH, REACH.breadth, 2) == ["narrow"]
    assert first_of(reaching(REACH, "a.py", 1), REACH, REACH.breadth, 5) == ["slow"], "one at least"
    assert reaching(REACH, "a.py", None) == {"broad", "narrow", "slow"}
    assert not reaching(REACH, "c.py", 1)


def test_what_tests_call_is_recorded_with_their_fixtures(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "own.py").write_text("def one():\n    return 1\n\ndef two():\n    return one() + 1\n")
    (tmp_path / "test_own.py").write_text(
        "import own, pytest\n@pytest.fixture\ndef got():\n    return own.one()\n"
        "def test_a(got): assert got == 1\ndef test_b(): assert own.two() == 2\ndef test_c(): pass\n"
    )
    out, tree = tmp_path / "reach.json", tmp_path / "src"
    root = Path(__file__).parents[2]
    env = {**os.environ, OUT: str(out), TREE: str(tree), "PYTHONPATH": os.pathsep.join(map(str, (tree, root)))}
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "tools.reach"]
    subprocess.run([*command, "test_own.py"], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL)
    reach = read_reach(out)
    named = {line: {test.partition("::")[2] for test in tests} for (_, line), tests in reach.tests.items()}
    assert named == {1: {"test_a", "test_b"}, 4: {"test_b"}}
    assert len(reach.seconds) == 3
