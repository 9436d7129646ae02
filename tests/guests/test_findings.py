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
from memhp.target.guest.guest import running
from memhp.target.guest.kernel import Kernel, fetched, find
from memhp.target.guest.plugged import SYS
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.target import GuestTarget, spec_for
from memhp.units import KiB

EXAMPLES = Path(__file__).parents[2] / "examples"
CORTEX_X4 = "max,pauth-impdef=on,midr=0x410fd823"
SLEEP = 6000
"""Milliseconds."""


def kernel(name: str) -> Kernel:
    """A fetched kernel of 7.2."""
    if not any(each.wanted.startswith("7.2") and each.wanted.endswith(f":{name}") for each in fetched(user_cache())):
        pytest.skip(f"NO 7.2 KERNEL {name} WAS BOOTED: run memhp guest fetch 7.2:{name}")
    return find(user_cache(), wanted(f"7.2:{name}", where="KERNEL"))


@pytest.mark.xdist_group("guest-x86_64")
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


@pytest.mark.xdist_group("guest-arm64")
def test_the_model_shows_what_a_kernel_shows_on_a_cpu_with_bbml2_f_15() -> None:
    scenario = load(EXAMPLES / "arm64-bbml2-stays.toml")
    spec = spec_for(GuestSpec(kernel("cloud-arm64"), cpu=CORTEX_X4), scenario)
    with running(user_cache(), find_qemu(user_cache(), "arm64"), spec) as guest:
        found = conform(GuestTarget(guest), scenario.steps)
    assert [detail for detail in found.details if detail.verdict == "differing"] == []
