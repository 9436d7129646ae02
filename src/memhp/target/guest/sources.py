"""The machine's own package sources, rewritten for other suites: address and keyring stay, so signatures are checked.

``sources.list(5)``: stanzas of ``Field: value`` lines in ``*.sources`` (deb822), or lines ``deb [options] URI suite
component…`` in ``*.list``. The first one in use that names the distribution's main archive is taken.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from memhp.errors import BadInput

Stanza = dict[str, str]
"""Fields of a source, by name as deb822 spells it."""

_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_OPTIONS = {"signed-by": "Signed-By", "trusted": "Trusted"}
_KEPT = ("Types", "URIs", "Signed-By", "Trusted")


def parse_deb822(text: str) -> Iterator[Stanza]:
    """The stanzas of a ``*.sources`` file; a line that begins with a blank goes on with the field before."""
    for part in re.split(r"\n[ \t]*\n", text):
        stanza: Stanza = {}
        field = ""
        for line in part.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                if field:
                    stanza[field] += f"\n{line}"
                continue
            name, _, value = line.partition(":")
            field = next((known for known in (*_KEPT, "Suites", "Enabled") if known.lower() == name.lower()), name)
            stanza[field] = value.strip()
        if stanza:
            yield stanza


def parse_one_line(text: str) -> Iterator[Stanza]:
    """The ``deb`` lines of a ``*.list`` file, as stanzas."""
    for line in text.splitlines():
        match = _LINE.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        options = dict(each.partition("=")[::2] for each in (match[1] or "").split())
        kept = {_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS}
        yield {"Types": "deb", "URIs": match[2], "Suites": match[3], "Components": match[4], **kept}


def first_archive(stanzas: Iterable[Stanza]) -> Stanza | None:
    """The first source in use of binary packages whose suites are named, main among its components."""
    for stanza in stanzas:
        enabled = stanza.get("Enabled", "yes").lower() not in {"no", "false"}
        in_use = enabled and "deb" in stanza.get("Types", "").split()
        named = not any(suite.endswith(("-security", "/")) for suite in stanza.get("Suites", "/").split())
        if in_use and named and "main" in stanza.get("Components", "").split() and stanza.get("URIs"):
            return stanza
    return None


def rewritten(stanza: Stanza, suites: Iterable[str]) -> str:
    """A ``*.sources`` file with a stanza for each suite: a suite that is missing takes none of the others along."""
    kept = "".join(f"{name}: {stanza[name]}\n" for name in _KEPT if name in stanza)
    kept = kept.replace(f"Types: {stanza['Types']}\n", "Types: deb\n")
    return "\n".join(f"{kept}Suites: {suite}\nComponents: main\n" for suite in suites)


def own_archive(etc: Path = Path("/etc/apt")) -> Stanza:
    """The machine's own archive. Raises :class:`BadInput` where none is configured."""
    found: list[Stanza] = []
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        found += parse_deb822(file.read_text(encoding="utf-8"))
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        found += parse_one_line(file.read_text(encoding="utf-8")) if file.is_file() else ()
    stanza = first_archive(found)
    if stanza is None:
        raise BadInput(
            "names no archive to fetch kernels from",
            where=str(etc),
            fix="add the distribution's main archive, or give --kernel and --qemu of your own",
        )
    return stanza
