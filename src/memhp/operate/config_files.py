"""Configuration in files of several folders, as udev, systemd and their kin read it: which count, and their lines."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator

from memhp.errors import BadInput
from memhp.facts.source import Source


def files_of(source: Source, folders: Iterable[str], suffix: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The files of some folders by name, the first folder's before its namesakes, with their lines in effect."""
    seen: dict[str, str] = {}
    for folder in folders:
        for name in source.listdir(folder):
            if name.endswith(suffix):
                seen.setdefault(name, f"{folder}/{name}")
    for name in sorted(seen):
        if text := _text(source, seen[name]):
            yield seen[name], list(lines_of(text))


def _text(source: Source, path: str) -> str | None:
    """A file's text; None for one that masks its namesakes by being a link to the null device."""
    try:
        return source.get(path)
    except BadInput:
        return None


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continued ones joined, without comments."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        whole = (joined + line).strip()
        if whole and whole[0] not in "#;":
            yield first, whole
        joined, first = "", 0
