"""Small changes of a module: which there are, and that each is one change of its text."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast

from tools.mutate import mutants

TEXT = """def f(a, b, done):
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
