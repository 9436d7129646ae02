"""Records of real guests with the served device say what they are taken to say, and the model says the same."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.claims.device_records import records
from memhp.target.device.life import LIFE, SIZE, Record, foretold
from memhp.units import MiB

RECORDS = records()


def test_two_releases_of_riscv64_were_driven() -> None:
    releases = [record.release for record in RECORDS if record.arch == "riscv64"]
    assert [".".join(release.split(".")[:2]) for release in releases] == ["6.12", "7.2"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.release)
def test_a_real_guest_grew_and_shrank_as_requested(record: Record) -> None:
    assert f"virtio_mem virtio1: start address: {record.at:#x}" in record.log
    assert f"virtio_mem virtio1: region size: {SIZE:#x}" in record.log
    sizes = [sum(end + 1 - start for start, end in step.memory) for step in record.steps]
    assert sizes[:3] == [512 * MiB, 128 * MiB, 0]
    assert [len(step.blocks) * 128 * MiB for step in record.steps[:3]] == sizes[:3]
    assert set(record.steps[0].blocks.values()) == {"online"}
    answers = {request.split()[-2] for step in record.steps for request in step.requests}
    assert answers == {"ACK", "BUSY", "NACK", "ERROR"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.release)
def test_what_the_real_driver_did_is_what_the_modelled_driver_does(record: Record) -> None:
    for step, real, modelled in zip(LIFE, record.steps, foretold(record.arch, record.release), strict=True):
        assert real == modelled, step
