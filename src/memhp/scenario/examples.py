"""The scenarios that come with the package: ``examples/`` of the source tree, which a wheel carries along."""
# SPDX-License-Identifier: GPL-2.0-or-later

import tomllib
from collections.abc import Iterator
from pathlib import Path

import memhp

SUFFIX = ".toml"


def folder() -> Path:
    """Where the examples are: in the package, or beside it in a source tree."""
    package = Path(memhp.__file__).parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parents[1] / "examples"


def examples() -> Iterator[Path]:
    """The files of all examples, by name."""
    return iter(sorted(folder().glob(f"*{SUFFIX}")))


def example(name: str) -> Path | None:
    """The file of an example by name, or None."""
    return next((path for path in examples() if path.name == f"{name.removesuffix(SUFFIX)}{SUFFIX}"), None)


def example_at(path: Path) -> Path:
    """The file at a path; where there is none and the path is ``examples/NAME.toml``, the example of that name."""
    if path.parent == Path("examples") and not path.exists():
        return example(path.name) or path
    return path


def title(path: Path) -> str:
    """An example's title."""
    text = tomllib.loads(path.read_text(encoding="utf-8")).get("title", "")
    assert isinstance(text, str)
    return text
