"""A node more in a flattened device tree, read back by the specification's rules."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct

import pytest

from memhp.errors import BadInput
from memhp.spans import Span
from memhp.target.guest.fdt import with_node
from memhp.target.guest.pmem import device_tree

Tree = dict[str, object]


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def blob() -> bytes:
    """A root with a property and one node, a reservation, and space after the end, as QEMU leaves it."""
    strings = b"compatible\0reg\0"
    tokens = struct.pack(">I", 1) + pad(b"\0")
    tokens += struct.pack(">3I", 3, 5, 0) + pad(b"virt\0")
    tokens += struct.pack(">I", 1) + pad(b"memory@0\0")
    tokens += struct.pack(">3I", 3, 16, 11) + struct.pack(">2Q", 0x8000_0000, 1 << 30)
    tokens += struct.pack(">3I", 2, 2, 9)
    reserved = struct.pack(">4Q", 0x8000_0000, 4096, 0, 0)
    at = 40, 40 + len(reserved), 40 + len(reserved) + len(tokens)
    total = at[2] + len(strings) + 64
    header = struct.pack(">10I", 0xD00DFEED, total, at[1], at[2], at[0], 17, 16, 0, len(strings), len(tokens))
    return header + reserved + tokens + strings + bytes(64)


def read(tree: bytes) -> tuple[Tree, list[tuple[int, int]]]:
    """Nodes and properties by name; and the reserved ranges."""
    magic, total, at, names, reserved, version, _, _, names_size, size = struct.unpack_from(">10I", tree)
    assert (magic, version, total) == (0xD00DFEED, 17, len(tree))
    assert reserved % 8 == at % 4 == 0
    ranges = []
    while any(tree[reserved : reserved + 16]):
        ranges.append(struct.unpack_from(">2Q", tree, reserved))
        reserved += 16
    end, stack = at + size, [Tree()]
    while at < end:
        (token,) = struct.unpack_from(">I", tree, at)
        at += 4
        if token == 1:
            name = tree[at : tree.index(b"\0", at)].decode()
            at += len(pad(name.encode() + b"\0"))
            stack.append(Tree())
            stack[-2][name] = stack[-1]
        elif token == 2:
            stack.pop()
        elif token == 3:
            length, name_at = struct.unpack_from(">2I", tree, at)
            assert name_at < names_size
            key = tree[names + name_at : tree.index(b"\0", names + name_at)].decode()
            stack[-1][key] = tree[at + 8 : at + 8 + length]
            at += 8 + len(pad(bytes(length)))
        elif token == 9:
            assert at == end
    assert len(stack) == 1
    return stack[0], [(low, high) for low, high in ranges]


def test_a_region_is_a_node_of_its_own_and_all_else_stays() -> None:
    found, reserved = read(device_tree(blob(), [Span(0x1_0400_0000, 0x1_3800_0000)]))
    assert reserved == [(0x8000_0000, 4096)]
    root = found[""]
    assert isinstance(root, dict)
    assert root["compatible"] == b"virt\0"
    assert root["memory@0"] == {"reg": struct.pack(">2Q", 0x8000_0000, 1 << 30)}
    assert root["pmem@104000000"] == {
        "compatible": b"pmem-region\0",
        "reg": struct.pack(">2Q", 0x1_0400_0000, 0x3400_0000),
        "numa-node-id": bytes(4),
    }


def test_nodes_are_added_one_after_the_other() -> None:
    root = read(device_tree(blob(), [Span(1 << 32, 2 << 32), Span(2 << 32, 3 << 32)]))[0][""]
    assert isinstance(root, dict)
    assert [name for name in root if name.startswith("pmem@")] == ["pmem@100000000", "pmem@200000000"]


@pytest.mark.parametrize("wrong", [b"", b"\xd0\x0d", blob()[:100], bytes(200)])
def test_what_is_no_tree_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadInput, match="device tree"):
        with_node(wrong, "pmem@0", {})
