"""/proc/iomem: the tree of physical address ranges, as ``kernel/resource.c:r_show`` prints it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memhp.errors import BadInput
from memhp.facts.lines import bad_line, lines
from memhp.spans import Span

MAX_IORES_LEVEL = 5
"""The deepest indentation: what lies deeper is printed at this depth (``kernel/resource.c``)."""

_DRIVER = re.compile(r"System RAM \((.+)\)")
_LINE = re.compile(r"( *)([0-9a-f]{4,16})-([0-9a-f]{4,16}) : (.*)")


@dataclass(frozen=True)
class Resource:
    """One ``struct resource``: bytes `start` to `end`, both included as in the kernel, and what lies inside."""

    start: int
    end: int
    name: str
    children: tuple["Resource", ...] = ()

    @property
    def span(self) -> Span:
        """The bytes as a half-open span."""
        return Span(self.start, self.end + 1)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end + 1 - self.start

    def line(self, depth: int = 0) -> str:
        """The line of /proc/iomem for this resource, without newline."""
        return f"{'  ' * min(depth, MAX_IORES_LEVEL)}{self.start:08x}-{self.end:08x} : {self.name}"


class _Open:
    """A resource whose children are still being read."""

    def __init__(self, start: int, end: int, name: str, depth: int) -> None:
        self.start = start
        self.end = end
        self.name = name
        self.depth = depth
        self.children: list[Resource] = []

    def close(self) -> Resource:
        return Resource(self.start, self.end, self.name, tuple(self.children))


def parse(text: str, *, where: str = "/proc/iomem") -> tuple[Resource, ...]:
    """The top-level resources of a /proc/iomem text.

    Raises :class:`BadInput` for what the kernel cannot have printed: a line of another form, an indentation that jumps,
    a range outside its parent or overlapping its neighbour; and for a file of zeros, which is what a reader without
    CAP_SYS_ADMIN gets.
    """
    numbered = lines(text, where)
    roots: list[Resource] = []
    stack: list[_Open] = []
    all_zero = True

    def close_down_to(depth: int) -> None:
        while len(stack) > depth:
            done = stack.pop().close()
            (stack[-1].children if stack else roots).append(done)

    for number, line in numbered:
        match = _LINE.fullmatch(line)
        if match is None or len(match[1]) % 2:
            raise bad_line(where, number, line, "a line such as '00001000-0009fbff : System RAM'")
        start, end, printed = int(match[2], 16), int(match[3], 16), len(match[1]) // 2
        all_zero = all_zero and start == end == 0
        if printed > MAX_IORES_LEVEL or printed > len(stack):
            raise bad_line(where, number, line, f"an indentation of at most {min(len(stack), MAX_IORES_LEVEL)} levels")
        depth = printed
        if printed == MAX_IORES_LEVEL:
            while len(stack) > depth and start >= stack[depth].start and end <= stack[depth].end:
                depth += 1
        if end < start:
            raise bad_line(where, number, line, "a range that ends behind its start")
        close_down_to(depth)
        if not all_zero:
            problem = _misplaced(start, end, stack[-1] if stack else None, roots)
            if problem:
                raise bad_line(where, number, line, problem)
        stack.append(_Open(start, end, match[4], depth))
    close_down_to(0)
    if all_zero and len(numbered) > 1:
        raise BadInput(
            "every address is zero: the kernel shows addresses of /proc/iomem to root only",
            where=where,
            fix="read it as root",
        )
    return tuple(roots)


def _misplaced(start: int, end: int, parent: _Open | None, roots: list[Resource]) -> str:
    """What a range ought to be, where it cannot be a resource at its place; "" where it can."""
    if parent is not None and not (parent.start <= start and end <= parent.end):
        return f"a range inside its parent {parent.start:08x}-{parent.end:08x}"
    siblings = parent.children if parent is not None else roots
    if siblings and start <= siblings[-1].end:
        return f"a range behind its neighbour, which ends at {siblings[-1].end:08x}"
    return ""


def walk(resources: tuple[Resource, ...], depth: int = 0) -> Iterator[tuple[int, Resource]]:
    """Every resource with its depth, in the order of the file: parents before children."""
    for resource in resources:
        yield depth, resource
        yield from walk(resource.children, depth + 1)


def render(resources: tuple[Resource, ...]) -> str:
    """The text of /proc/iomem."""
    return "".join(f"{resource.line(depth)}\n" for depth, resource in walk(resources))


def system_ram(resources: tuple[Resource, ...]) -> list[Resource]:
    """Every resource that is System RAM, at any depth: ``System RAM`` and ``System RAM (driver)``.

    The name of added memory is ``System RAM`` or what the driver chose, which must be ``System RAM ($DRIVER)``
    (``mm/memory_hotplug.c:add_memory_driver_managed``).
    """
    return [r for _, r in walk(resources) if is_system_ram(r)]


def is_system_ram(resource: Resource) -> bool:
    """Whether a resource is memory that the kernel uses, boot memory or added by whatever driver."""
    return resource.name == "System RAM" or ram_driver(resource) != ""


def ram_driver(resource: Resource) -> str:
    """The driver in the name of a System RAM resource: ``kmem``, ``virtio_mem``; "" for any other name."""
    match = _DRIVER.fullmatch(resource.name)
    return match[1] if match else ""
