"""Virtio-mem devices in facts: from QEMU's answers, else from the driver's log, else from what is added alone."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from captures import facts, open_capture
from memhp.facts.observed import Facts
from memhp.facts.virtio_mem import VirtioMemDevice, virtio_mem_devices
from memhp.spans import Span, SpanSet
from memhp.units import GiB, MiB

X86 = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-memmap"
RISCV = "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-default"
LAST = Span(0x1_1800_0000, 0x1_2000_0000)
"""The only block that was left of the x86 guest's device."""


def device(observed: Facts) -> VirtioMemDevice:
    """The only device."""
    (found,) = virtio_mem_devices(observed)
    return found


def test_qemu_tells_name_block_size_and_both_sizes() -> None:
    seen = device(facts(X86, "1-plugged"))
    assert (seen.name, seen.id, seen.span) == ("virtio1", "vm0", Span(4 * GiB, 6 * GiB))
    assert (seen.block_size, seen.sub_block, seen.node) == (2 * MiB, 2 * MiB, 0)
    assert (seen.plugged, seen.requested) == (512 * MiB, 512 * MiB)
    assert seen.unplugged == SpanSet()


def test_what_is_missing_of_a_block_is_taken_to_be_its_end() -> None:
    seen = device(facts(X86, "5-unplugged"))
    assert (seen.plugged, seen.requested) == (6 * MiB, 0)
    assert seen.added == SpanSet([LAST])
    assert seen.unplugged == SpanSet([(LAST.start + 6 * MiB, LAST.end)])


def test_what_is_missing_lies_in_the_zone_that_lacks_managed_pages() -> None:
    """300 MiB of three blocks: one in Normal, which has all its pages, and two in Movable, which lacks 84 MiB."""
    observed = facts("x86_64-6.1.0-56-cloud-amd64-vmem-online-movable", "3-requested-300M")
    seen = device(observed)
    zones = {block.index: block.zone for block in observed.memory.blocks}
    assert (seen.added.size, seen.plugged) == (384 * MiB, 300 * MiB)
    assert {zones[start // (128 * MiB)] for start, _ in seen.unplugged} == {"Movable"}
    movable = observed.zone(0, "Movable")
    assert movable is not None
    assert seen.unplugged.size == movable.reserved * 4096 == 84 * MiB


def test_without_qemu_the_driver_has_said_what_is_requested_and_a_sub_block_is_left_at_least() -> None:
    observed = facts(X86, "5-unplugged")
    seen = device(replace(observed, qemu=None))
    assert (seen.id, seen.plugged, seen.requested) == ("", 2 * MiB, 0)
    assert seen.unplugged == SpanSet([(LAST.start + 2 * MiB, LAST.end)])


def test_without_qemu_and_log_all_that_is_added_is_taken_to_be_plugged() -> None:
    seen = device(replace(facts(X86, "5-unplugged"), qemu=None, log=None, boot_log=None))
    assert (seen.plugged, seen.requested, seen.node) == (128 * MiB, 128 * MiB, None)
    assert (seen.block_size, seen.unplugged) == (2 * MiB, SpanSet())


def test_a_device_that_qemu_does_not_have_is_known_from_its_driver() -> None:
    seen = device(facts(RISCV, "1-plugged-512M"))
    assert (seen.name, seen.id, seen.block_size, seen.node) == ("virtio1", "", 2 * MiB, 0)
    assert (seen.plugged, seen.requested) == (512 * MiB, 512 * MiB)


@pytest.mark.parametrize("name", ["x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"])
def test_a_machine_without_such_a_device_has_none(name: str) -> None:
    assert virtio_mem_devices(facts(name, next(iter(open_capture(name))))) == ()
