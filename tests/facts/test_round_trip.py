"""Every file of every capture, read and printed again, is the text that the kernel printed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable

import pytest

from captures import every_step, facts, open_capture
from memhp.facts import buddyinfo, counters, iomem, nodes, pagetypeinfo, params, zoneinfo
from memhp.facts.source import SYS_MEMORY, SYS_NODE

AGAIN: dict[str, Callable[[str], str]] = {
    "/proc/iomem": lambda text: iomem.render(iomem.parse(text)),
    "/proc/zoneinfo": lambda text: zoneinfo.render(zoneinfo.parse(text)),
    "/proc/buddyinfo": lambda text: buddyinfo.render(buddyinfo.parse(text)),
    "/proc/pagetypeinfo": lambda text: pagetypeinfo.render(pagetypeinfo.parse(text)),
    "/proc/meminfo": lambda text: counters.render_meminfo(counters.parse_meminfo(text)),
    "/proc/vmstat": lambda text: counters.render_vmstat(counters.parse_vmstat(text)),
    f"{SYS_NODE}/node0/meminfo": lambda text: counters.render_meminfo(counters.parse_meminfo(text), node=0),
    f"{SYS_NODE}/node0/numastat": lambda text: counters.render_vmstat(counters.parse_vmstat(text)),
}

NARROW = re.compile(r"(FileHugePages|FilePmdMapped):(.{9}) kB")
"""Linux 6.1 prints these lines of a node's meminfo a column narrower than the others (``drivers/base/node.c``)."""


@pytest.mark.parametrize(("name", "step"), every_step())
def test_every_file_is_printed_again_as_it_was(name: str, step: str) -> None:
    source = open_capture(name)[step]
    for path, again in AGAIN.items():
        assert again(source.read(path)) == NARROW.sub(r"\1: \2 kB", source.read(path))
    line = facts(name, step).cmdline
    assert line is not None
    assert f"{line.text}\n" == source.read("/proc/cmdline")


@pytest.mark.parametrize(("name", "step"), every_step())
def test_every_attribute_is_shown_again_as_it_was(name: str, step: str) -> None:
    """Memory blocks, hotplug parameters, nodes. Spaces at a line's end are the guest's shell's."""
    source = open_capture(name)[step]
    memory, found = facts(name, step).memory, nodes.read(source)
    assert found is not None
    shown = {f"{SYS_MEMORY}/{file}": text for file, text in memory.files().items()}
    for block in memory.blocks:
        attributes = {f"{SYS_MEMORY}/{block.name}/{file}": text for file, text in block.files().items()}
        listed = source.listdir(f"{SYS_MEMORY}/{block.name}")
        assert set(attributes) == {f"{SYS_MEMORY}/{block.name}/{file}" for file in listed}
        shown |= attributes
    shown |= {f"{params.DIRECTORY}/{file}": text for file, text in params.read(source).files().items()}
    shown |= {f"{SYS_NODE}/{file}": text for file, text in found.files().items()}
    for path, text in shown.items():
        assert source.read(path).strip() == text.strip()
