"""A flattened device tree with one more node: what a machine says of itself, and of memory that it is to say more of.

Devicetree Specification 0.4, chapter 5: a header of big-endian 32-bit words, the memory reservations, a block of tokens
and a block of property names.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from collections.abc import Mapping

from memhp.errors import BadInput

MAGIC = 0xD00DFEED
_HEADER = struct.Struct(">10I")
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
_LAST = struct.pack(">2I", END_NODE, END)
"""How a block of tokens ends: with the root."""


def with_node(blob: bytes, name: str, properties: Mapping[str, bytes]) -> bytes:
    """The tree with a node below its root. Raises :class:`BadInput` for what is no tree."""
    if len(blob) < _HEADER.size or _HEADER.unpack_from(blob)[0] != MAGIC:
        raise BadInput("is no flattened device tree", where="device tree")
    _, total, at_struct, at_strings, at_reserved, version, compatible, cpu, strings_size, struct_size = (
        _HEADER.unpack_from(blob)
    )
    tokens, strings = blob[at_struct : at_struct + struct_size], blob[at_strings : at_strings + strings_size]
    while tokens.endswith(struct.pack(">2I", END, END)):
        tokens = tokens[:-4]
    if not tokens.endswith(_LAST) or total > len(blob):
        raise BadInput("is cut off", where="device tree")
    node = struct.pack(">I", BEGIN_NODE) + _padded(name.encode() + b"\0")
    for key, value in properties.items():
        at = strings.find(b"\0" + key.encode() + b"\0") + 1
        if not at:
            at, strings = len(strings), strings + key.encode() + b"\0"
        node += struct.pack(">3I", PROP, len(value), at) + _padded(value)
    tokens = tokens[: -len(_LAST)] + node + struct.pack(">I", END_NODE) + _LAST
    reserved = _reservations(blob, at_reserved)
    start = _HEADER.size + -_HEADER.size % 8
    places = (start + len(reserved), start + len(reserved) + len(tokens))
    size = places[1] + len(strings)
    header = _HEADER.pack(MAGIC, size, *places, start, version, compatible, cpu, len(strings), len(tokens))
    return header + bytes(start - _HEADER.size) + reserved + tokens + strings


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _reservations(blob: bytes, at: int) -> bytes:
    """The reserved ranges, the pair of zeros at their end included."""
    end = at
    while any(blob[end : end + 16]):
        end += 16
    return blob[at : end + 16]
