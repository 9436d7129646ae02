"""What holds for the repository as a whole: headers, sizes, imports, locked dependencies, nothing from one machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LICENCE = "# SPDX-License-Identifier: GPL-2.0-or-later"
MOST_LINES = 450

ELSEWHERE = re.compile(r"(?<![\w.*])/(?:work|tmp|home|root|opt|mnt|srv)\b")
"""An absolute path that means something on one machine only."""
REGISTRY = re.compile(r"pypi\.|pythonhosted\.|deb\.debian\.|npmjs\.|index-url|find-links\s*=")


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert paths
    return paths


def test_every_source_file_starts_with_docstring_and_licence_and_holds_one_idea() -> None:
    wrong = []
    for path in tracked("*.py"):
        text = path.read_text(encoding="utf-8")
        lines, first = text.splitlines(), next(iter(ast.parse(text).body), None)
        if not ast.get_docstring(ast.parse(text)) or first is None or lines[first.end_lineno or 0 :][:1] != [LICENCE]:
            wrong.append(f"{path.relative_to(ROOT)}: no docstring followed by the licence")
        if len(lines) >= MOST_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
    assert wrong == []


def test_no_tracked_text_names_a_place_of_one_machine_or_a_registry() -> None:
    wrong = []
    for path in tracked("*"):
        if path.is_relative_to(ROOT / "tests" / "data"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            # A command line option and this file's own patterns are no places.
            if ELSEWHERE.search(line) or (REGISTRY.search(line) and path.name not in ("dev.py", Path(__file__).name)):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert wrong == []


def test_every_module_can_be_imported() -> None:
    failed = {}
    for path in tracked("src/memhp/*.py"):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            import_module(name)
        except Exception as error:  # whatever it is, the others are to be tried as well
            failed[name] = repr(error)
    assert failed == {}


def test_help_loads_neither_numpy_nor_rich() -> None:
    code = "import sys, json; from memhp.cli.main import main; main(['--help']); print(json.dumps([*sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in json.loads(out.splitlines()[-1])}
    assert "click" in loaded
    assert loaded.isdisjoint({"numpy", "rich", "msgspec", "drgn", "jinja2"})


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "python3 dev.py test" in (ROOT / ".ci" / "run").read_text()
    assert "python3 dev.py test" in (ROOT / "README.md").read_text()


def pins(name: str) -> dict[str, str]:
    """Package → version of a requirements file, each of which must have hashes."""
    found: dict[str, str] = {}
    for entry in re.sub(r"\\\n", " ", (ROOT / name).read_text()).splitlines():
        if entry and not entry.lstrip().startswith("#"):
            package, _, rest = entry.partition("==")
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), f"{name}: {package} has no hash"
            found[canonicalize_name(package)] = rest.split()[0]
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "extra"),
    [("requirements.txt", None), ("requirements-dev.txt", "dev"), ("requirements-bench.txt", "bench")],
)
def test_locked_versions_are_within_the_bounds_of_pyproject(name: str, extra: str | None) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = settings["project"]["dependencies"] + settings["build-system"]["requires"]
    if extra is not None:
        wanted += settings["project"]["optional-dependencies"][extra]
    locked = pins(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(requirement)


def test_tests_run_with_the_very_versions_that_users_get() -> None:
    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()
