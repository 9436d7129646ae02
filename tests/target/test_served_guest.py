"""Which guests get a device that memhp serves, and what of a scenario such a guest refuses."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.scenario.schema import Fault, MachineText, Resize, Scenario, StepKind, VirtioMem
from memhp.target.device.served_guest import check_scenario, is_served
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.qemu import GuestSpec

DEVICE = VirtioMem(size="2G")
FAULTY = Resize(to="1G", faults=[Fault(answer="BUSY")])


@pytest.mark.parametrize(
    ("arch", "steps", "ours"),
    [
        ("x86_64", [DEVICE, Resize(to="1G")], False),
        ("x86_64", [DEVICE, FAULTY], True),
        ("arm64", [VirtioMem(size="2G", faults=[Fault(delay=1)])], True),
        ("riscv64", [DEVICE, Resize(to="1G")], True),
        ("riscv64", [schema.Offline()], False),
    ],
)
def test_a_device_is_served_where_qemu_has_none_or_none_that_misbehaves(
    arch: str, steps: list[StepKind], ours: bool
) -> None:
    assert is_served(arch, steps) is ours


def spec(tmp_path: Path, *, module: bool) -> GuestSpec:
    """A guest of riscv64 whose kernel is built without the driver, with a module beside its own or not."""
    (tmp_path / "modules/updates").mkdir(parents=True)
    (tmp_path / "config").write_text("CONFIG_RISCV=y\n")
    if module:
        (tmp_path / "modules/updates/virtio_mem.ko").write_bytes(b"")
    kernel = Kernel("7.2", "riscv64", "riscv64", tmp_path / "image", tmp_path / "modules", tmp_path / "config")
    return GuestSpec(kernel)


def test_a_kernel_without_the_driver_is_refused_unless_a_module_is_beside_its_own(tmp_path: Path) -> None:
    scenario = Scenario(machine=MachineText(memory="1G"), steps=[DEVICE, FAULTY])
    check_scenario(spec(tmp_path / "with", module=True), scenario, where="life.toml")
    with pytest.raises(BadInput, match=r"life\.toml: steps\[0\].*no module of that name"):
        check_scenario(spec(tmp_path / "without", module=False), scenario, where="life.toml")

