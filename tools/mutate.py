"""``python3 dev.py mutate FILE... --tests TESTS...``: which small changes of a module no test notices.

A mutant is the module with one comparison moved by one or turned round, one ``and`` an ``or``, one ``not`` left out, or
one call for its effect dropped. Each is put in the place of the module in a copy of ``src``, and the tests run on that
copy; one that they pass *survives*, and is a boundary, an order or a roll-back that nothing states. Mutants come in an
order that a seed decides, so that a budget of seconds takes a fair sample of them.

Exit 0: no mutant that was tried survived; 1: some did; 2: the tests fail without any mutant.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
}
"""A comparison, and those that take its place."""
At = Callable[[int, int], int]
"""``(line, column in bytes) -> place in the text``, as :mod:`ast` counts them."""


@dataclass(frozen=True)
class Mutant:
    """A change of a text: the characters ``[start, end)`` are replaced."""

    start: int
    end: int
    new: str
    line: int

    def applied(self, text: str) -> str:
        """The text with the change."""
        return text[: self.start] + self.new + text[self.end :]

    def told(self, text: str) -> str:
        """The line that changes, and what becomes of it."""
        old = " ".join(text[self.start : self.end].split())
        return f"{self.line}: {old} -> {self.new}"


def mutants(text: str) -> Iterator[Mutant]:
    """Every mutant of a module's text, in the order in which they stand there."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(text[starts[line - 1] : starts[line]].encode()[:column].decode())

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            left = node.left
            for op, right in zip(node.ops, node.comparators, strict=True):
                yield from _between(text, _end(at, left), at(right.lineno, right.col_offset), op, right.lineno)
                left = right
        elif isinstance(node, ast.BoolOp):
            word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                start, end = _end(at, left), at(right.lineno, right.col_offset)
                place = text.find(word, start, end)
                if place >= 0:
                    yield Mutant(place, place + len(word), other, right.lineno)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            start = at(node.lineno, node.col_offset)
            yield Mutant(start, at(node.operand.lineno, node.operand.col_offset), "", node.lineno)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield Mutant(at(node.lineno, node.col_offset), _end(at, node), "pass", node.lineno)


def _end(at: At, node: ast.expr | ast.stmt) -> int:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return at(node.end_lineno, node.end_col_offset)


def _between(text: str, start: int, end: int, op: ast.cmpop, line: int) -> Iterator[Mutant]:
    word, others = COMPARISONS[type(op)]
    place = text.find(word, start, end)
    if place >= 0:
        for other in others:
            yield Mutant(place, place + len(word), other, line)


def passes(source: Path, tests: Sequence[str], limit: float) -> bool:
    """Whether tests pass on a copy of the sources; too slow is not passed."""
    path = os.pathsep.join((str(source), str(ROOT / "tests")))
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutants until the budget is spent, and list those that survived."""
    parser = argparse.ArgumentParser(prog="dev.py mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="modules below src")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest is to run")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds in all (600)")
    parser.add_argument("--seed", type=int, default=0, help="which mutants come first (0)")
    asked = parser.parse_args(argv)
    texts = {path.resolve(): path.read_text() for path in asked.files}
    every = [(path, mutant) for path, text in texts.items() for mutant in mutants(text)]
    random.Random(asked.seed).shuffle(every)
    began = time.monotonic()
    survived: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        if not passes(source, asked.tests, asked.budget):
            print("the tests fail without any mutant, or take longer than the budget", file=sys.stderr)
            return 2
        once = time.monotonic() - began
        tried = 0
        for path, mutant in every:
            if time.monotonic() - began + once > asked.budget:
                break
            place = source / path.relative_to(SOURCE)
            place.write_text(mutant.applied(texts[path]))
            if passes(source, asked.tests, 10 * once + 10):
                survived.append(f"{path.relative_to(ROOT)}:{mutant.told(texts[path])}")
                print(survived[-1], flush=True)
            place.write_text(texts[path])
            tried += 1
    print(f"{len(survived)} of {tried} mutants survived; there are {len(every)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
