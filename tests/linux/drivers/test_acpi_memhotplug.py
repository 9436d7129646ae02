"""The driver of DIMMs: what it adds, what refuses, what a refusal leaves, and how a DIMM is ejected."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

import pytest

from kernels import kernel, plug
from memhp.check import check_all, snapshot
from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.acpi.glue import Companions
from memhp.linux.drivers.acpi.scan import Event, acpi_device_hotplug
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import users
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB
from steppers import Failing

AT = 8 * GiB
BLOCK = 128 * MiB
CHECK: Event = "ACPI_NOTIFY_DEVICE_CHECK"
EJECT: Event = "ACPI_NOTIFY_EJECT_REQUEST"


def machine() -> Kernel:
    return kernel("x86_64")


def ranges(k: Kernel, *spans: tuple[int, int]) -> tuple[Span, ...]:
    """Ranges in blocks from AT on, where memory is plugged now."""
    found = tuple(Span(AT + first * BLOCK, AT + last * BLOCK) for first, last in spans)
    shift = k.config.page_shift
    for span in found:
        frames = Span(span.start >> shift, span.end >> shift)
        if not k.hw.memory.owners.covered(*frames):
            k.hw.plug(frames, Owner(Use.DEVICE, "dimm"))
    return found


def dimm(k: Kernel, *spans: tuple[int, int], nid: int = 0) -> AcpiDevice:
    return AcpiDevice("PNP0C80:00", ranges(k, *spans), nid)


def refusal(k: Kernel, adev: AcpiDevice, event: Event = CHECK) -> KernelError:
    with pytest.raises(KernelError) as caught:
        acpi_device_hotplug(k, adev, event)
    return caught.value


def said(k: Kernel) -> list[str]:
    return [line.text for line in k.hw.log_lines if "PNP0C80" in line.text or "Offline failed" in line.text]


def states(k: Kernel) -> list[str]:
    first = AT // BLOCK
    return [block.state for lo, hi, block in k.memory_blocks.runs(first, first + 8) for _ in range(lo, hi)]


# Appearing ---------------------------------------------------------------------------------------------------


def test_ranges_that_follow_each_other_are_added_as_one_and_all_blocks_bound() -> None:
    k = machine()
    adev = dimm(k, (0, 1), (1, 2), (3, 4))
    acpi_device_hotplug(k, adev, CHECK)
    assert adev.driver_data is not None
    assert [info.span.size // BLOCK for info in adev.driver_data.res_list] == [2, 1]
    assert [(node.node_id, node.block_id - AT // BLOCK) for node in adev.physical_node_list] == [(0, 0), (1, 1), (2, 3)]
    assert said(k) == ["acpi PNP0C80:00: Memory device configured by ACPI"]
    assert {block.group for _, _, block in k.memory_blocks.runs(AT // BLOCK, AT // BLOCK + 4)} == {0}
    assert k.memory_groups[0].max_pages == 3 * BLOCK >> k.config.page_shift


@pytest.mark.parametrize(
    ("release", "blocks", "hosted"), [("6.1", 1, 1), ("6.1", 2, 0), ("6.12", 1, 1), ("6.12", 2, 2)]
)
def test_which_dimms_keep_their_struct_pages_in_themselves(release: str, blocks: int, hosted: int) -> None:
    """Debian's 6.1.0-56 with ``memmap_on_memory``: a DIMM of 128 MiB does, one of 256 MiB does not; 6.12: both."""
    k = kernel("x86_64", release, memmap_on_memory="Y")
    acpi_device_hotplug(k, dimm(k, (0, blocks)), CHECK)
    assert (len(states(k)), len(k.altmaps)) == (blocks, hosted)


def test_a_device_without_memory_is_refused() -> None:
    k = machine()
    error = refusal(k, AcpiDevice("PNP0C80:00", (Span(AT, AT),)))
    assert (error.name, error.reason) == ("EINVAL", "device is empty")
    assert said(k) == ["acpi PNP0C80:00: device is empty", "acpi PNP0C80:00: acpi_memory_enable_device() error"]


def test_memory_that_cannot_be_added_leaves_no_group_and_no_driver() -> None:
    k = machine()
    adev = AcpiDevice("PNP0C80:00", (Span(AT, AT + BLOCK // 2),), 0)
    assert refusal(k, adev).name == "EINVAL"
    assert said(k) == ["acpi PNP0C80:00: add_memory failed", "acpi PNP0C80:00: acpi_memory_enable_device() error"]
    assert not k.memory_groups and adev.driver_data is None


def test_whatever_add_memory_says_the_driver_says_einval() -> None:
    """acpi_memory_enable_device() of 6.12 drops the results of ``__add_memory()``; here the first is the cause."""
    k = machine()
    error = refusal(k, AcpiDevice("PNP0C80:00", (Span(1 << 60, (1 << 60) + BLOCK),), 0))
    assert (error.name, error.reason) == ("EINVAL", "add_memory failed")
    assert isinstance(error.__cause__, KernelError) and error.__cause__.name == "E2BIG"


def test_one_range_that_can_be_added_is_a_success() -> None:
    k = machine()
    adev = AcpiDevice("PNP0C80:00", (*ranges(k, (0, 1)), Span(AT + 2 * BLOCK, AT + 2 * BLOCK + MiB)), 0)
    acpi_device_hotplug(k, adev, CHECK)
    assert states(k) == ["offline"]
    assert adev.driver_data is not None
    assert [info.enabled for info in adev.driver_data.res_list] == [True, False]


def test_memory_that_is_in_already_counts_as_added_and_can_be_ejected() -> None:
    """Boot memory of a DIMM that firmware had in its memory map: ``__add_memory()`` says EEXIST."""
    k = machine()
    adev = dimm(k, (0, 2))
    add_memory(k, 0, AT, 2 * BLOCK)
    acpi_device_hotplug(k, adev, CHECK)
    acpi_device_hotplug(k, adev, EJECT)
    assert states(k) == [] and not k.statics(Companions).by_block


def test_a_second_device_with_the_same_memory_parts_the_first_from_its_blocks() -> None:
    """``acpi_bind_one()`` refuses, and undoing that unbinds every block of the range, whoever has it."""
    k = machine()
    adev = dimm(k, (0, 2))
    acpi_device_hotplug(k, adev, CHECK)
    error = refusal(k, AcpiDevice("PNP0C80:01", adev.crs, 0))
    assert (error.name, error.reason) == ("ENODEV", f"memory{AT // BLOCK} belongs to PNP0C80:00")
    assert states(k) == ["offline", "offline"]
    assert not k.statics(Companions).by_block and not adev.physical_node_list


def test_a_block_that_cannot_be_bound_leaves_the_memory_in_without_a_driver() -> None:
    k = machine()
    adev = dimm(k, (0, 2))
    k.hw.faults = Failing("drivers/acpi/glue.c:acpi_bind_one", 2)
    error = refusal(k, adev)
    k.hw.faults = None
    assert error.name == "ENODEV"
    assert states(k) == ["offline", "offline"] and not k.statics(Companions).by_block
    assert list(k.memory_groups) == [0], "it cannot be unregistered while blocks belong to it"
    assert check_all(k) == []


def test_a_device_without_proximity_domain_belongs_to_the_node_of_its_address() -> None:
    k = machine()
    acpi_device_hotplug(k, dimm(k, (0, 1), nid=-1), CHECK)
    assert [block.nid for _, _, block in k.memory_blocks.runs(AT // BLOCK, AT // BLOCK + 1)] == [0]


def test_a_device_whose_ranges_lie_on_both_sides_of_a_node_boundary_belongs_to_one_node_all_of_it() -> None:
    """A memory group is of one node: that of the first range, here of memory that boot had found on node 1."""
    config = Config("x86_64", profile("linux-6.12"), 4 * KiB, 48)
    ram = (Ram(1 * MiB, GiB), Ram(4 * GiB, GiB, nid=1))
    k = start_kernel(MachineSpec("two nodes", config, ram, nodes=(0, 1)))
    (new,) = ranges(k, (0, 2))
    adev = AcpiDevice("PNP0C80:00", (Span(5 * GiB - BLOCK, 5 * GiB), new))
    acpi_device_hotplug(k, adev, CHECK)
    assert {block.nid for _, _, block in k.memory_blocks.runs(AT // BLOCK, AT // BLOCK + 2)} == {1}
    assert k.memory_groups[0].nid == 1
    assert [node.block_id for node in adev.physical_node_list] == [5 * GiB // BLOCK - 1, AT // BLOCK, AT // BLOCK + 1]


# Being ejected -----------------------------------------------------------------------------------------------


def plugged(*online: str) -> tuple[Kernel, AcpiDevice]:
    """A DIMM of as many blocks as there are words, each written to its state; "" leaves it offline."""
    k = machine()
    adev = dimm(k, (0, len(online)))
    acpi_device_hotplug(k, adev, CHECK)
    for node, text in zip(adev.physical_node_list, online, strict=True):
        if text:
            state_store(k, node.block_id, text)
    return k, adev


def test_a_dimm_goes_and_leaves_nothing() -> None:
    k = machine()
    before = snapshot(k)
    adev = dimm(k, (0, 3))
    acpi_device_hotplug(k, adev, CHECK)
    state_store(k, AT // BLOCK, "online_movable")
    acpi_device_hotplug(k, adev, EJECT)
    assert not k.memory_groups and not k.statics(Companions).by_block and adev.driver_data is None
    k.hw.unplug(Span(AT >> k.config.page_shift, AT + 3 * BLOCK >> k.config.page_shift), "platform")
    assert check_all(k, before) == []


def test_ejecting_may_be_disabled() -> None:
    k, adev = plugged("online")
    adev.hotplug_enabled = False
    error = refusal(k, adev, EJECT)
    assert (error.name, error.reason) == ("EPERM", "Eject disabled")
    assert said(k)[-1] == "acpi PNP0C80:00: Eject disabled"
    assert "hotplug/memory/enabled" in error.advice
    assert states(k) == ["online"]


def dependent(k: Kernel, on: int) -> Callable[[Kernel, str, int, int], str]:
    """A notifier that keeps the first block as long as another block (by number from AT) is online."""

    def notifier(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
        block = k.memory_blocks.get(AT // BLOCK + on)
        first = start_pfn == AT >> k.config.page_shift
        needed = block is not None and block.state == "online"
        return "its data describe another block" if action == "MEM_GOING_OFFLINE" and first and needed else ""

    return notifier


def test_a_block_that_only_another_one_holds_goes_in_the_second_pass() -> None:
    k, adev = plugged("online", "online", "online")
    k.statics(Chains).memory.append(dependent(k, on=2))
    acpi_device_hotplug(k, adev, EJECT)
    assert states(k) == []
    assert said(k) == ["acpi PNP0C80:00: Memory device configured by ACPI"]


def test_after_a_refusal_only_blocks_that_the_eject_took_offline_come_back() -> None:
    k, adev = plugged("online", "", "online")
    users.allocate(k, k.config.page_size, "kernel", "unmovable", at=AT + 2 * BLOCK)
    error = refusal(k, adev, EJECT)
    assert (error.name, error.reason) == ("EBUSY", "Offline failed")
    assert error.advice.startswith(f"memory{AT // BLOCK + 2}: failure to isolate range: unmovable page")
    assert said(k)[-1] == f"memory memory{AT // BLOCK + 2}: Offline failed."
    assert states(k) == ["online", "offline", "online"]


def test_the_first_pass_tries_every_block_the_second_ends_at_the_first_that_refuses() -> None:
    k, adev = plugged("online", "online", "online")
    for block in (0, 1):
        users.allocate(k, k.config.page_size, "kernel", f"unmovable {block}", at=AT + block * BLOCK)
    refusal(k, adev, EJECT)
    failed = [line.text.split()[3] for line in k.hw.log_lines if line.text.startswith("memory offlining")]
    assert failed == [f"{at:#x}-{at + BLOCK - 1:#x}]" for at in (AT, AT + BLOCK, AT)]
    assert states(k) == ["online"] * 3


def test_a_block_comes_back_where_plain_online_puts_it() -> None:
    """``device_online()`` knows of no zone: what was onlined as movable is in Normal after an eject that failed."""
    k, adev = plugged("online_movable", "online_kernel")
    users.allocate(k, k.config.page_size, "kernel", "unmovable", at=AT + BLOCK)
    refusal(k, adev, EJECT)
    assert [block.zone for _, _, block in k.memory_blocks.runs(AT // BLOCK, AT // BLOCK + 2)] == [ZoneType.NORMAL]


def test_a_block_comes_back_as_a_write_that_was_refused_had_asked() -> None:
    """acpi_bus_online() says nothing: device_online() goes by mem->online_type, which state_store() had left."""
    k, adev = plugged("online_kernel", "online_kernel")
    with pytest.raises(KernelError, match="online already"):
        state_store(k, AT // BLOCK, "online_movable")
    users.allocate(k, k.config.page_size, "kernel", "unmovable", at=AT + BLOCK)
    refusal(k, adev, EJECT)
    assert [block.zone for _, _, block in k.memory_blocks.runs(AT // BLOCK, AT // BLOCK + 2)] == [
        ZoneType.MOVABLE,
        ZoneType.NORMAL,
    ]


def test_what_is_not_offline_when_it_is_removed_kills_the_kernel() -> None:
    """Nobody takes blocks offline that a second device parted from theirs, and ``__remove_memory()`` cannot refuse."""
    k, adev = plugged("online", "online")
    refusal(k, AcpiDevice("PNP0C80:01", adev.crs, 0))
    with pytest.raises(KernelBug, match="removing memory fails"):
        acpi_device_hotplug(k, adev, EJECT)


def test_a_dimm_that_was_plugged_beside_others_is_independent_of_them() -> None:
    k = machine()
    plug(k, BLOCK)
    adev = dimm(k, (8, 9))
    acpi_device_hotplug(k, adev, CHECK)
    acpi_device_hotplug(k, adev, EJECT)
    assert not k.statics(Companions).by_block
