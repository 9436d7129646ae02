"""The modelled driver drives the served device as it drives the device itself: the same requests, faults and all."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from typing import cast

import pytest

from front_end import FrontEnd, RemoteDevice, served
from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.scenario.schema import Fault
from memhp.target.device.control import Ask
from memhp.target.device.faults import checked_rules, fault_text, parse_fault
from memhp.target.device.status import row_of
from memhp.units import GiB, MiB
from virtio_mem import AT, SECOND, guest

SHAPE = Geometry(AT, 2 * GiB)
LIVES = {
    "no fault": [],
    "BUSY once": ["request=PLUG answer=BUSY first=3"],
    "BUSY to every unplugging for a while": ["request=UNPLUG answer=BUSY count=4"],
    "NACK once": ["request=PLUG answer=NACK first=2"],
    "ERROR": ["request=UNPLUG answer=ERROR first=2"],
    "slow": ["delay=0.75 count=all"],
    "another size in the middle": ["request=PLUG first=2 requested=256M"],
    "less is usable": ["request=PLUG first=2 usable=256M"],
    "a lie": ["request=PLUG answer=ACK first=2"],
    "only one block": [f"request=PLUG answer=BUSY count=2 at={AT + 128 * MiB:#x} size=128M"],
}
SIZES = (512, 128, 0, 512, 0)


@pytest.mark.parametrize("life", LIVES)
def test_the_served_device_sees_what_the_device_sees(life: str, tmp_path: Path) -> None:
    faults = [parse_fault(text, where="test") for text in LIVES[life]]
    near = VirtioMemDevice(SHAPE, rules=checked_rules(faults, SHAPE, where="test"))
    kernel = guest()
    virtio_mem_probe(kernel, near, "virtio1")
    for size in SIZES:
        near.resize(size * MiB)
        kernel.hw.advance(120 * SECOND)
    with served(tmp_path, SHAPE) as host:
        front = FrontEnd(host.path, host.turn)
        front.hello()
        host.server.answer(Ask(faults=faults))
        far = RemoteDevice(front, host)
        other = guest()
        virtio_mem_probe(other, cast(VirtioMemDevice, far), "virtio1")
        for size in SIZES:
            host.server.answer(Ask(requested=size * MiB))
            far.hear()
            other.hw.advance(120 * SECOND)
        seen = host.server.status(since=0)
        front.close()
    assert [str(row) for row in seen.requests] == [str(row_of(0, each)) for each in near.log]
    assert [row.delay for row in seen.requests] == [each.delay / SECOND for each in near.log]
    assert len(seen.requests) > 2
    assert host.said == ["a front end is connected"]
    assert seen.plugged_size == near.plugged_size


@pytest.mark.parametrize("text", [text for texts in LIVES.values() for text in texts])
def test_a_fault_is_read_as_it_is_written(text: str) -> None:
    fault = parse_fault(text, where="test")
    assert parse_fault(fault_text(fault), where="test") == fault


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("answer=MAYBE", "Invalid enum value 'MAYBE'"),
        ("anser=BUSY", "did you mean answer?"),
        ("answer", "want KEY=VALUE, got 'answer'"),
        ("first=0", ">= 1"),
        ("delay=-1", ">= 0"),
    ],
)
def test_a_fault_that_cannot_be_read_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as told:
        parse_fault(text, where="--fault")
    assert complaint in str(told.value)


@pytest.mark.parametrize("fault", [Fault(requested="3G"), Fault(requested="1M"), Fault(usable="3G")])
def test_a_fault_with_a_size_that_the_device_cannot_have_is_refused_before_it_does_harm(fault: Fault) -> None:
    with pytest.raises(BadInput, match="is no size of this device"):
        checked_rules([fault], SHAPE, where="faults")
