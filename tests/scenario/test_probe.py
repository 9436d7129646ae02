"""``/sys/devices/system/memory/probe``, as drivers/base/memory.c:probe_store has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.errors import BadInput
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario


def probed(preset: str, *steps: str) -> tuple[Run, Kernel]:
    text = "steps = [" + ", ".join(f"{{ {step} }}" for step in steps) + f']\n[machine]\npreset = "{preset}"\n'
    return rehearse_scenario(loads(text))


@pytest.mark.parametrize("preset", ["x86-vm", "loongarch-vm"])
def test_one_memory_block_is_added_as_firmware_would_have(preset: str) -> None:
    run, k = probed(preset, 'do = "probe", at = "0x240000000"', 'do = "online"')
    assert run.ok
    block = k.memory_block_size
    (added,) = [res for res in k.iomem_resource.children if res.start == 0x2_4000_0000]
    assert (added.end + 1 - added.start, added.name) == (block, "System RAM")
    assert k.memory_blocks.get(0x2_4000_0000 // block) is not None
    assert k.memory_blocks.get(0x2_4000_0000 // block + 1) is None
    assert [law.law for law in run.laws if not law.held] == []


@pytest.mark.parametrize(("at", "errno"), [("0x240200000", "EINVAL"), ("0x100000000", "EEXIST")])
def test_no_block_begins_there_or_memory_is_there_already(at: str, errno: str) -> None:
    run, _ = probed("x86-vm", f'do = "probe", at = "{at}", expect = "{errno}"')
    assert run.ok


def test_arm64_and_riscv_have_no_such_file() -> None:
    for preset in ("arm64-vm", "riscv-vm"):
        with pytest.raises(BadInput, match="has no such file"):
            probed(preset, 'do = "probe", at = "0x240000000"')
