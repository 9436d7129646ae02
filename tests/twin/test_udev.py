"""udev's rules about memory, fed by a twin's uevents: as they act on a machine with Linux (``tests/guests``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
from collections import deque
from pathlib import Path

import pytest

from memhp.linux.lib.kobject_uevent import Uevent
from memhp.linux.mmzone import ZoneType
from memhp.scenario.schema import Plug
from memhp.twin.boot import boot
from memhp.twin.fault_injection import LoseUevents, Refuse
from memhp.twin.machine import Twin
from memhp.units import MiB
from twin_machines import SMALL
from twin_runs import on_twin, scenario
from udev_rules import FROM_KERNEL, MOVABLE, RED_HAT, UBUNTU, Udev, files_of, parse

SYS = "/sys/devices/system/memory"
NEW = range(56, 58)
"""The memory blocks of what is plugged next."""


def plugged(folder: Path, rules: str, *trouble: Refuse | LoseUevents) -> tuple[Twin, Udev]:
    """A machine after a DIMM of 256 MiB has come and udev has dealt with every event."""
    twin = boot(scenario(folder, SMALL), speed=0).twin
    events = deque[Uevent]()
    twin.uevents.append(events.append)
    udev = Udev(parse(rules), *files_of(twin))
    for each in trouble:
        twin.trouble.add(each)
    twin.do(Plug(size=256 * MiB))
    while events:
        udev.event(dict(events.popleft().environment))
    return twin, udev


def new_blocks(twin: Twin) -> list[tuple[str, ZoneType | None]]:
    """State and zone of the blocks that came last."""
    found = [twin.session.k.memory_blocks.get(block) for block in NEW]
    return [(block.state, block.zone) for block in found if block is not None]


@pytest.mark.parametrize(
    ("rules", "word", "zone"),
    [
        pytest.param(FROM_KERNEL, "online", ZoneType.NORMAL, id="kernel"),
        pytest.param(UBUNTU, "online", ZoneType.NORMAL, id="Ubuntu"),
        pytest.param(RED_HAT, "online_movable", ZoneType.MOVABLE, id="Red Hat"),
        pytest.param(MOVABLE, "online_movable", ZoneType.MOVABLE, id="movable"),
    ],
)
def test_each_block_of_a_new_dimm_goes_online_once(tmp_path: Path, rules: str, word: str, zone: ZoneType) -> None:
    twin, udev = plugged(tmp_path, rules)
    assert udev.wrote == [(f"{SYS}/memory{block}/state", word, "ok") for block in NEW]
    assert new_blocks(twin) == [("online", zone)] * 2


def test_what_the_kernel_refuses_stays_offline_and_udev_goes_on_with_the_next(tmp_path: Path) -> None:
    twin, udev = plugged(tmp_path, MOVABLE, Refuse(blocks=[56], going="online", errno="EBUSY"))
    assert [came for _, _, came in udev.wrote] == ["EBUSY", "ok"]
    assert new_blocks(twin) == [("offline", None), ("online", ZoneType.MOVABLE)]


def test_an_event_that_is_lost_leaves_its_block_offline(tmp_path: Path) -> None:
    twin, udev = plugged(tmp_path, FROM_KERNEL, LoseUevents(action="add", count=1))
    assert [path for path, _, _ in udev.wrote] == [f"{SYS}/memory57/state"]
    assert new_blocks(twin) == [("offline", None), ("online", ZoneType.NORMAL)]


UDEVADM = shutil.which("udevadm")
REAL = """
mount -t tmpfs none /run && mkdir -p /run/udev/rules.d && cp "$0" /run/udev/rules.d/80-memory.rules
for block in 48 49; do SYSTEMD_DEVICE_VERIFY_SYSFS=0 udevadm test -a add /sys/devices/system/memory/memory$block; done
grep . /sys/devices/system/memory/memory4[89]/state /sys/devices/system/memory/memory50/state
"""


@pytest.mark.skipif(UDEVADM is None, reason="NO TWIN WAS SEEN BY udevadm: no udev")
def test_udevs_own_program_applies_its_rules_to_a_twin(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(f"{MOVABLE}\n")
    done = on_twin([scenario(tmp_path, SMALL)], ["sh", "-c", REAL, str(rules)])
    assert [line.rpartition(":")[2] for line in done.stdout.splitlines()[-3:]] == ["online", "online", "offline"]
