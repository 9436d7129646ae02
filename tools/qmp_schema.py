"""The part of QEMU's own schema that a twin's monitor keeps: its commands and events, and the types that they name.

Run: python -m tools.qmp_schema < ANSWER > src/memhp/twin/qemu/schema.json, with what ``query-qmp-schema`` returned.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import sys
from collections.abc import Iterator
from typing import Any

from memhp.twin.qemu.commands import CAPABILITIES, COMMANDS
from memhp.twin.qemu.monitor import EVENTS
from memhp.twin.qemu.objects import BACKENDS

Entry = dict[str, Any]


def names_in(entry: Entry) -> Iterator[str]:
    """The types that an entry of a schema refers to (``qapi/introspect.json``)."""
    for key in ("arg-type", "ret-type", "element-type"):
        if key in entry:
            yield entry[key]
    for part in (*entry.get("members", ()), *entry.get("variants", ())):
        if isinstance(part, dict) and "type" in part:
            yield part["type"]


def memory_part(schema: list[Entry]) -> list[Entry]:
    """The entries for the twin's commands and events, in their order; of all objects, memory backends alone."""
    by_name = {entry["name"]: entry for entry in schema}
    kinds = by_name[by_name["object-add"]["arg-type"]]
    tag = next(member["type"] for member in kinds["members"] if member["name"] == kinds["tag"])
    by_name[kinds["name"]] = {**kinds, "variants": [each for each in kinds["variants"] if each["case"] in BACKENDS]}
    words = by_name[tag]
    by_name[tag] = {
        **words,
        "members": [each for each in words["members"] if each["name"] in BACKENDS],
        "values": [each for each in words["values"] if each in BACKENDS],
    }
    wanted: set[str] = set()
    left = [CAPABILITIES, *COMMANDS, *EVENTS]
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.add(name)
            left += names_in(by_name[name])
    return [by_name[entry["name"]] for entry in schema if entry["name"] in wanted]


if __name__ == "__main__":
    for row in memory_part(json.load(sys.stdin)):
        print(json.dumps(row, separators=(",", ":")))
