"""/proc/iomem: what is read from real kernels, trees of any shape, and files that no kernel prints."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import facts, open_capture
from memhp.errors import BadInput
from memhp.facts import iomem
from memhp.facts.iomem import MAX_IORES_LEVEL, Resource


def test_a_resource_lies_inside_the_one_it_is_indented_below() -> None:
    text = open_capture("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default")["1-plugged"].read("/proc/iomem")
    assert "100000000-17fffffff : virtio1\n  100000000-11fffffff : System RAM (virtio_mem)\n" in text
    (device,) = [resource for resource in iomem.parse(text) if resource.name == "virtio1"]
    assert device.size == 2 << 30
    assert device.children == (Resource(0x100000000, 0x11FFFFFFF, "System RAM (virtio_mem)"),)


def test_system_ram_is_found_at_any_depth_with_the_driver_that_added_it() -> None:
    tree = facts("riscv64-7.2.13+deb14-riscv64-kmem-map-ram-momf", "2-kmem-added").iomem
    found = [(ram.start, ram.end, iomem.ram_driver(ram)) for ram in iomem.system_ram(tree)]
    assert found == [(0x80060000, 0xBFFFFFFF, ""), (0x108000000, 0x13FFFFFFF, "kmem")]


def test_kernel_code_and_reserved_memory_are_no_system_ram_of_their_own() -> None:
    tree = (Resource(0, 0xFFF, "System RAM", (Resource(0, 0xFF, "Kernel code"), Resource(0x200, 0x2FF, "reserved"))),)
    assert iomem.system_ram(tree) == [tree[0]]


@st.composite
def trees(draw: st.DrawFn, start: int = 0, size: int = 1 << 40, depth: int = 0) -> tuple[Resource, ...]:
    """Resources inside ``[start, start + size)`` as the kernel keeps them: ascending, apart, children inside."""
    cuts = sorted(draw(st.sets(st.integers(start, start + size - 1), max_size=6)))
    found = []
    for low, high in zip(cuts[::2], cuts[1::2], strict=False):
        inner: tuple[Resource, ...] = ()
        if depth < MAX_IORES_LEVEL + 2 and draw(st.booleans()):
            inner = draw(trees(low, high - low + 1, depth + 1))
        name = draw(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), min_size=1, max_size=12))
        found.append(Resource(low, high, name, inner))
    return tuple(found)


@given(trees())
def test_any_tree_is_read_back_from_its_text(tree: tuple[Resource, ...]) -> None:
    if tree:
        assert iomem.parse(iomem.render(tree)) == tree


def test_what_lies_too_deep_to_be_indented_is_put_where_its_range_says() -> None:
    tree = Resource(0, 0xFFFF, "level 8")
    for level in range(7, -1, -1):
        tree = Resource(0, 0xFFFF, f"level {level}", (tree,))
    text = iomem.render((tree,))
    assert [len(line) - len(line.lstrip()) for line in text.splitlines()] == [0, 2, 4, 6, 8, 10, 10, 10, 10]
    assert iomem.parse(text) == (tree,)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", None, "is empty"),
        ("00001000-0009fbff : System RAM\n00100000-3ffdf", 2, "ends within line 2"),
        ("00001000-0009fbff : System RAM\nnonsense\n", 2, "want a line such as"),
        ("00001000-0009fbff : System RAM\n    00001000-00001fff : deep\n", 2, "want an indentation"),
        ("00001000-0009fbff : System RAM\n  00001000-000fffff : child\n", 2, "inside its parent"),
        ("00001000-0009fbff : System RAM\n00002000-00003fff : next\n", 2, "behind its neighbour"),
        ("00001000-00000fff : System RAM\n", 1, "ends behind its start"),
        (" 00001000-0009fbff : System RAM\n", 1, "want a line such as"),
    ],
)
def test_what_no_kernel_prints_is_refused_with_its_line(text: str, line: int | None, problem: str) -> None:
    with pytest.raises(BadInput) as refused:
        iomem.parse(text, where="proc_iomem")
    assert problem in refused.value.message
    assert refused.value.where == ("proc_iomem" if line is None else f"proc_iomem:{line}")


def test_addresses_hidden_from_ordinary_users_are_said_to_be_hidden() -> None:
    text = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n00000000-00000000 : Reserved\n"
    with pytest.raises(BadInput, match="root only") as refused:
        iomem.parse(text)
    assert refused.value.fix == "read it as root"
