"""``python3 dev.py mutate PATH... --tests TESTS...``: which small changes of a module no test notices.

A mutant is the module with one comparison moved by one or turned round, one ``and`` an ``or``, one ``not`` left out, or
one call for its effect dropped. Each is put in the place of the module in a copy of ``src``, and tests run on that
copy: those that call the function concerned, as the tests without any mutant showed, the narrowest first, as many as
``--each-seconds`` allows. One that they pass *survives*, and is a boundary, an order or a roll-back that nothing
states; one whose function no test calls is told as such. ``--each N`` draws N mutants of each file by ``--seed``, which
decides their order too, so that a budget of processor seconds takes a fair sample of them.

Exit 0: no mutant that was tried survived; 1: some did; 2: the tests fail without any mutant.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import ast
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.reach import OUT, TREE, Reach, read_reach

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
    """Every mutant of a module's text; what it asserts is left as it is, as it tells a type checker what is known."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(text[starts[line - 1] : starts[line]].encode()[:column].decode())

    tree = ast.parse(text)
    asserted = {part for node in ast.walk(tree) if isinstance(node, ast.Assert) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if node in asserted:
            continue
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


def function_at(tree: ast.Module, line: int) -> int | None:
    """The first line of the innermost function around a line, decorators included, as a code object has it."""
    found = None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first <= line <= node.end_lineno and (found is None or first >= found):
                found = first
    return found


def reaching(reach: Reach, file: str, line: int | None) -> frozenset[str]:
    """The tests that call a function; those that call any of its file where the line is in none."""
    if line is not None:
        return reach.tests.get((file, line), frozenset())
    return frozenset().union(*(tests for (name, _), tests in reach.tests.items() if name == file))


def drawn(every: Mapping[Path, Sequence[Mutant]], each: int | None, seed: int) -> list[tuple[Path, Mutant]]:
    """The mutants to try, in order: of each file all or `each` of them."""
    draw = random.Random(seed)
    found = []
    for path, some in every.items():
        chosen = some if each is None or each >= len(some) else draw.sample(some, each)
        found += [(path, mutant) for mutant in chosen]
    draw.shuffle(found)
    return found


def spent() -> float:
    """Processor seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Trial:
    """A copy of the sources, on which tests run."""

    source: Path

    def passes(self, tests: Sequence[str], limit: float, *options: str, **environment: str) -> bool:
        """Whether tests pass; what takes more processor seconds than `limit` does not."""
        path = os.pathsep.join((str(self.source), str(ROOT / "tests"), str(ROOT)))
        command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *options, *tests]
        done = subprocess.run(
            command, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2)),
        )  # fmt: skip
        return done.returncode == 0

    def reach(self, tests: Sequence[str], limit: float) -> Reach | None:
        """Which tests call what; None where they do not pass."""
        out = self.source.parent / "reach.json"
        seen = self.passes(tests, limit, "-p", "tools.reach", **{OUT: str(out), TREE: str(self.source)})
        return read_reach(out) if seen else None


def first_of(tests: frozenset[str], reach: Reach, breadth: Mapping[str, int], seconds: float) -> list[str]:
    """The narrowest of some tests, one at least and as many as these seconds allow."""
    chosen: list[str] = []
    for test in sorted(tests, key=lambda test: (breadth[test], test)):
        seconds -= reach.seconds[test]
        if chosen and seconds < 0:
            break
        chosen.append(test)
    return chosen


def modules(paths: Sequence[Path]) -> list[Path]:
    """The Python files that some paths name, folders with all below them."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.resolve().rglob("*.py")) if path.is_dir() else [path.resolve()]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutants until the budget is spent, and list those that survived."""
    parser = argparse.ArgumentParser(prog="dev.py mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="modules below src, or folders of them")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest is to run")
    parser.add_argument("--budget", type=float, default=600.0, help="processor seconds in all (600)")
    parser.add_argument("--each", type=int, metavar="N", help="of each file only N mutants, drawn by the seed")
    parser.add_argument("--each-seconds", type=float, default=20.0, help="of tests for one mutant (20)")
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn, and come first (0)")
    asked = parser.parse_args(argv)
    texts = {path: path.read_text() for path in modules(asked.paths)}
    every = drawn({path: list(mutants(text)) for path, text in texts.items()}, asked.each, asked.seed)
    trees = {path: ast.parse(text) for path, text in texts.items()}
    survived = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder) / "src")
        shutil.copytree(SOURCE, trial.source, ignore=shutil.ignore_patterns("__pycache__"))
        reach = trial.reach(asked.tests, asked.budget)
        if reach is None:
            print("the tests fail without any mutant, or take longer than the budget", file=sys.stderr)
            return 2
        breadth = reach.breadth
        print(f"{len(reach.seconds)} tests in {spent():.0f} s; {len(every)} mutants", flush=True)
        for path, mutant in every:
            if spent() > asked.budget:
                break
            file = path.relative_to(SOURCE).as_posix()
            tests = reaching(reach, file, function_at(trees[path], mutant.line))
            chosen = first_of(tests, reach, breadth, asked.each_seconds)
            place = trial.source / file
            place.write_text(mutant.applied(texts[path]))
            if not tests or trial.passes(chosen, 10 * asked.each_seconds):
                survived += 1
                by = f"passes {len(chosen)} of {len(tests)} tests" if tests else "no test calls this"
                print(f"{path.relative_to(ROOT)}:{mutant.told(texts[path])}  ({by})", flush=True)
            place.write_text(texts[path])
            tried += 1
    print(f"{survived} of {tried} mutants survived, in {spent():.0f} s; {len(every)} were drawn")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
