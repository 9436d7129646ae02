"""Findings on a real kernel: a window made wide by a debugger, and a CPU that few have (docs/findings.md)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import threading
from pathlib import Path

import pytest

from guest_debugger import Debugger, extra, functions
from memhp.conform.lockstep import conform
from memhp.scenario import schema
from memhp.scenario.load import load
from memhp.target.guest.cache import user_cache
from memhp.target.guest.flavours import wanted
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import Kernel, fetched, find
from memhp.target.guest.plugged import SYS, GuestMachine
from memhp.target.guest.qemu import GuestSpec, VirtioMemDevice, find_qemu
from memhp.target.guest.target import GuestTarget, spec_for
from memhp.units import GiB, KiB, MiB

EXAMPLES = Path(__file__).parents[2] / "examples"
CORTEX_X4 = "max,pauth-impdef=on,midr=0x410fd823"
SLEEP = 6000
"""Milliseconds."""
NOTHING = 84 * GiB
"""An address within the window of the PCI bus, where no device is."""
OFFLINE = 2
"""``VIRTIO_MEM_SBM_MB_OFFLINE``."""
ONE_LESS = re.compile(rb"\x48\x83\xe8\x01(?P<store>\x49\x89\x84\xd0....)", re.DOTALL)
"""``sub $1,%rax``, ``mov %rax,N(%r8,%rdx,8)``: a count of blocks by state, in the release that this was written for."""
WORDS = "what-one-task-says"
"""As long as nothing else that is written."""


def kernel(name: str) -> Kernel:
    """A fetched kernel of 7.2."""
    if not any(each.wanted.startswith("7.2") and each.wanted.endswith(f":{name}") for each in fetched(user_cache())):
        pytest.skip(f"NO 7.2 KERNEL {name} WAS BOOTED: run memhp guest fetch 7.2:{name}")
    return find(user_cache(), wanted(f"7.2:{name}", where="KERNEL"))


def test_a_reader_of_kpagecount_is_held_while_the_struct_page_goes_f_8(tmp_path: Path) -> None:
    stub = tmp_path / "gdb"
    spec = GuestSpec(kernel("cloud-amd64"), extra=extra(stub), dimms=True)
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as guest:
        text = functions(guest.agent.run("cat /proc/kallsyms").text)
        target = GuestTarget(guest)
        guest.agent.write(f"{SYS}/auto_online_blocks", "offline")
        guest.agent.run("dmesg -n 8")
        plugged = target.carry_out(schema.Plug(size="128M", online="movable")).step
        assert isinstance(plugged, schema.Plug) and isinstance(plugged.at, int)
        pfn = plugged.at // (4 * KiB)
        debugger, answered, held = Debugger(stub), [0], threading.Event()

        def hold() -> None:
            debugger.until(text["kpage_read"].start)
            debugger.until(text["pfn_to_online_page"].start, lambda now: now["rdi"] == pfn)
            answered[0] = debugger.returned()["rax"]
            held.set()
            debugger.call(text["msleep"], SLEEP)
            debugger.go()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        guest.agent.run(f"dd if=/proc/kpagecount bs=8 skip={pfn} count=1 >/dev/null 2>&1 &")
        assert held.wait(60) and target.carry_out(schema.Eject()).result == "ok"
        thread.join(60)
        target.machine.until(lambda: "end trace" in guest.console())
        log = guest.console()
    (fault,) = re.findall(r"page fault for address: (\w+)", log)
    assert int(fault, 16) == answered[0] and "get_kpage_count" in log


def test_of_a_gigabyte_one_page_is_flushed_before_its_tables_are_free_f_17(tmp_path: Path) -> None:
    """``ioremap()`` of a gigabyte of nothing, over addresses that had its single pages before."""
    stub, pages = tmp_path / "gdb", GiB // (4 * KiB)
    spec = GuestSpec(kernel("cloud-amd64"), extra=extra(stub))
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as guest:
        text = functions(guest.agent.run("cat /proc/kallsyms").text)
        debugger, flushed, over = Debugger(stub), list[tuple[int, int]](), threading.Event()

        def remap() -> None:
            debugger.until(text["ksys_write"].start, lambda now: now["rdx"] == len(WORDS) + 1)
            first = debugger.call(text["ioremap"], NOTHING + 4 * KiB, (pages - 2) * 4 * KiB)
            debugger.call(text["iounmap"], first)
            debugger.call(text["vm_unmap_aliases"])
            called = debugger.begin(text["ioremap"], NOTHING, GiB)
            at = debugger.until(text["pud_free_pmd_page"].start)["rsi"]
            found = debugger.until(text["flush_tlb_kernel_range"].start)
            assert debugger.word(found["rsp"]) in text["pud_free_pmd_page"]
            flushed.append((found["rdi"] - at, found["rsi"] - at))
            assert debugger.end(called) == at
            debugger.go()
            over.set()

        thread = threading.Thread(target=remap, daemon=True)
        thread.start()
        guest.agent.run(f"(echo {WORDS} > /run/words) &")
        assert over.wait(120)
        thread.join(60)
    assert flushed == [(0, 4 * KiB - 1)]


def test_a_block_is_counted_while_another_is_so_that_one_is_lost_f_28(tmp_path: Path) -> None:
    """The work sleeps before it adds a second block; the notifier of the first sleeps between reading a count and
    writing one less; meanwhile the work writes one more. The second block is the last one that is offline.
    """
    stub = tmp_path / "gdb"
    devices = (VirtioMemDevice("vm0", GiB, 2 * MiB),)
    spec = GuestSpec(kernel("cloud-amd64"), extra=extra(stub), dimms=True, virtio_mem=devices)
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as guest:
        guest.load("virtio_mem")
        machine = GuestMachine(guest)
        guest.agent.write(f"{SYS}/auto_online_blocks", "offline")
        guest.agent.run("dmesg -n 8")
        ask(guest, 128 * MiB)
        assert machine.until(lambda: "offline" in machine.states().values())
        (first,) = (block for block, state in machine.states().items() if state == "offline")
        text = functions(guest.agent.run("cat /proc/kallsyms").text)
        debugger, adds = Debugger(stub), threading.Event()
        notifier = text["virtio_mem_memory_notifier_cb"]
        less = re.search(ONE_LESS, debugger.text(notifier))
        assert less is not None

        def hold() -> None:
            debugger.until(text["virtio_mem_sbm_plug_and_add_mb"].start)
            work = debugger.begin(text["msleep"], SLEEP)
            adds.set()
            debugger.until(notifier.start + less.start("store"), lambda now: now["rdx"] == OFFLINE)
            user = debugger.begin(text["msleep"], 3 * SLEEP)
            debugger.end(work)
            debugger.end(user)
            debugger.go()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        ask(guest, 256 * MiB)
        assert adds.wait(60)
        guest.agent.run(f"echo online_movable > {SYS}/memory{first}/state &")
        thread.join(120)
        assert machine.until(lambda: machine.states().get(first + 1) == "offline")
        assert machine.states()[first] == "online"
        guest.agent.run(f"echo online_movable > {SYS}/memory{first + 1}/state &")
        machine.until(lambda: "end trace" in guest.console())
        log = guest.console()
    assert "kernel BUG at drivers/virtio/virtio_mem.c:" in log
    assert re.search(r"RIP: \w+:virtio_mem_memory_notifier_cb", log)


def ask(guest: Guest, size: int) -> None:
    """The host requests a size of the virtio-mem device."""
    guest.monitor.execute("qom-set", path="/machine/peripheral/vm0", property="requested-size", value=size)


def test_the_model_shows_what_a_kernel_shows_on_a_cpu_with_bbml2_f_15() -> None:
    scenario = load(EXAMPLES / "arm64-bbml2-stays.toml")
    spec = spec_for(GuestSpec(kernel("cloud-arm64"), cpu=CORTEX_X4), scenario)
    with running(user_cache(), find_qemu(user_cache(), "arm64"), spec) as guest:
        found = conform(GuestTarget(guest), scenario.steps)
    assert [detail for detail in found.details if detail.verdict == "differing"] == []
