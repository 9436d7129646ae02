"""``--json=hex``: documents for readers whose numbers are exact below 2^53 only, and the schemas of these documents."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

EXACT = 1 << 53
"""From here on a number of JavaScript, and of many who read JSON, is not exact."""


def hexadecimal(value: Any) -> Any:
    """A report of plain values with each integer that is not exact everywhere as text, ``"0xffffffc600000000"``."""
    if isinstance(value, dict):
        return {key: hexadecimal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [hexadecimal(each) for each in value]
    return f"{value:#x}" if isinstance(value, int) and abs(value) >= EXACT else value


def hex_schema(schema: Any) -> Any:
    """A JSON Schema (draft 2020-12) of a report as that of the same report in hexadecimal: its integers are exact, or
    text.
    """
    if isinstance(schema, list):
        return [hex_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") != "integer":
        return {key: hex_schema(each) for key, each in schema.items()}
    about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    exact = {key: value for key, value in schema.items() if key not in about}
    exact["minimum"] = max(exact.get("minimum", 1 - EXACT), 1 - EXACT)
    exact["maximum"] = min(exact.get("maximum", EXACT - 1), EXACT - 1)
    sign = "-?" if exact["minimum"] < 0 else ""
    return {**about, "anyOf": [exact, {"type": "string", "pattern": f"^{sign}0x[0-9a-f]{{14,}}$"}]}
