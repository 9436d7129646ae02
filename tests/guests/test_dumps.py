"""Dumps that QEMU makes of a guest: each format has the page tables that the others have, and the laws hold on them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from pathlib import Path

import pytest

from memhp.check.dump_laws import LAWS, DumpedTables, check_dumped
from memhp.facts import iomem
from memhp.facts.page_table_laws import memory_frames, ram_frames
from memhp.facts.page_tables import differences, read_tables_of
from memhp.facts.table_source import open_tables
from memhp.spans import Span
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import fetched
from memhp.target.guest.plugged import GuestMachine
from memhp.target.guest.qemu import GuestSpec, VirtioMemDevice, find_qemu
from memhp.target.guest.versions import newest
from memhp.units import GiB, MiB

ARCHES = ("x86_64", "riscv64")
EVERYWHERE = [Span(0, 1 << 64)]


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest that says where its notes are; where QEMU has virtio-mem, with memory plugged."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == request.param}
    if not found:
        pytest.skip(f"NO VM WAS DUMPED: run memhp guest fetch 7.2:{request.param}")
    plugs = (VirtioMemDevice("vm0", GiB, 2 * MiB),) if request.param == "x86_64" else ()
    spec = GuestSpec(found[newest(found)], nodes=(512 * MiB,), virtio_mem=plugs, extra=("-device", "vmcoreinfo"))
    with running(user_cache(), find_qemu(user_cache(), request.param), spec) as started:
        started.load("qemu_fw_cfg")
        if plugs:
            started.load("virtio_mem")
            device, size = "/machine/peripheral/vm0", 256 * MiB
            started.monitor.execute("qom-set", path=device, property="requested-size", value=size)
            assert GuestMachine(started).until(
                lambda: started.monitor.execute("qom-get", path=device, property="size") == size
            )
        yield started


@pytest.mark.parametrize("guest", ARCHES, indirect=True)
def test_every_format_of_a_dump_has_the_same_page_tables(guest: Guest, tmp_path: Path) -> None:
    resources = iomem.parse(guest.agent.run("cat /proc/iomem").text, where="/proc/iomem")
    guest.monitor.execute("stop")
    seen = []
    for name in ("elf", "kdump-zlib", "kdump-raw-zlib"):
        guest.monitor.execute("dump-guest-memory", paging=False, protocol=f"file:{tmp_path / name}", format=name)
        seen.append(read_tables_of(open_tables(tmp_path / name)))
    guest.monitor.execute("cont")
    assert [each.source.kind for each in seen] == ["ELF core", "compressed dump", "compressed dump"]
    assert not any(each.missing for each in seen)
    assert [differences(seen[0], each, EVERYWHERE) for each in seen[1:]] == [[], []]
    first = seen[0]
    assert first.kernel is not None
    shift = first.fmt.page_shift
    memory = ram_frames(resources, shift), memory_frames(resources, shift)
    laws = check_dumped(DumpedTables(first.everything, first.tables, first.kernel.maps, *memory))
    assert {each.law: (each.breaches, each.unchecked) for each in laws} == {each.name: ((), "") for each in LAWS}
