"""Whether a document is what the published schema of its command says, as it is and with ``--json=hex``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from typing import Any

from memhp.report.documents import json_schema
from memhp.report.json_hex import hexadecimal


def wrong(value: object, kind: dict[str, Any], schema: dict[str, Any], at: str = "$") -> list[str]:
    """Where a value is not what a JSON Schema says, as far as msgspec's schemas go; extra keys are wrong too."""
    if "$ref" in kind:
        return wrong(value, schema["$defs"][kind["$ref"].rpartition("/")[2]], schema, at)
    if "anyOf" in kind:
        options = [wrong(value, each, schema, at) for each in kind["anyOf"]]
        return [] if [] in options else min(options, key=len)
    if "enum" in kind:
        return [] if value in kind["enum"] else [f"{at}: {value!r} is not one of {kind['enum']}"]
    types: dict[str, type | tuple[type, ...]] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    if "type" not in kind:
        return []
    if not isinstance(value, types[kind["type"]]) or (isinstance(value, bool) and kind["type"] != "boolean"):
        return [f"{at}: {value!r} is no {kind['type']}"]
    if isinstance(value, str) and not re.search(kind.get("pattern", ""), value):
        return [f"{at}: {value!r} is not like {kind['pattern']}"]
    if isinstance(value, int) and not kind.get("minimum", value) <= value <= kind.get("maximum", value):
        return [f"{at}: {value} is out of bounds"]
    if isinstance(value, dict):
        known = kind.get("properties", {})
        more = kind.get("additionalProperties", {} if not known else None)
        found = [f"{at}.{key}: missing" for key in kind.get("required", []) if key not in value]
        for key, each in value.items():
            if key not in known and not isinstance(more, dict):
                found.append(f"{at}.{key}: not in the schema")
            else:
                found += wrong(each, known.get(key, more), schema, f"{at}.{key}")
        return found
    if isinstance(value, list):
        firsts = kind.get("prefixItems", [])
        items = [*firsts, *[kind.get("items")] * (len(value) - len(firsts))]
        pairs = zip(value, items, strict=True)
        return [bad for i, (each, item) in enumerate(pairs) if item for bad in wrong(each, item, schema, f"{at}[{i}]")]
    return []


def wrong_for(value: object, name: str) -> list[str]:
    """Where a document is not what the schema of a command says, as it is or in hexadecimal."""
    plain, hexed = json_schema(name), json_schema(name, hexadecimal=True)
    return [*wrong(value, plain, plain), *wrong(hexadecimal(value), hexed, hexed)]
