"""What older kernels do otherwise than 6.12: values by their source, or by the issue that a commit mends."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from errno import EBUSY, EPERM

import pytest

from kernels import PLUG_AT, kernel, log, plug, refused
from memhp.errors import KernelBug, KernelError
from memhp.hw.stepper import Access
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import virtio_mem_fake_offline
from memhp.linux.drivers.virtio.virtio_mem_memory import virtio_mem_offline_and_remove_memory
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mmzone import PageFlags
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB, MiB
from steppers import Failing, Recorder
from virtio_mem import SECOND, attach, resize


class TestVirtioMem:
    @pytest.mark.parametrize(("release", "unit", "plugged"), [("5.18", 4, 1028), ("5.19", 2, 1030)])
    def test_sub_blocks_were_the_buddys_largest_block_before_5_19(self, release: str, unit: int, plugged: int) -> None:
        """max_t(MAX_ORDER_NR_PAGES, pageblock_nr_pages) pages: 4 MiB on x86, of which 1030 MiB hold 257."""
        k = kernel("x86_64", release)
        k.auto_online_blocks = "online"
        vm = attach(k)
        resize(k, vm, 1030 * MiB)
        assert any(line.endswith(f"subblock size: {unit * MiB:#x}") for line in log(k))
        assert vm.plugged_size == plugged * MiB

    @pytest.mark.parametrize(("release", "left"), [("5.13", [64, 65]), ("5.14", [66, 67])])
    def test_before_5_14_the_highest_go_first_and_kernel_zones_with_them(self, release: str, left: list[int]) -> None:
        """Blocks 64 and 65 are in ZONE_MOVABLE, 66 and 67 in a kernel zone; half of the memory is to go."""
        k = kernel("x86_64", release)
        vm = attach(k, 512 * MiB)
        resize(k, vm, 512 * MiB)
        for block in range(64, 68):
            state_store(k, block, "online_movable" if block < 66 else "online_kernel")
        resize(k, vm, 256 * MiB)
        assert vm.plugged_size == 256 * MiB
        assert [block for block in range(64, 68) if k.memory_blocks.get(block) is not None] == left

    @pytest.mark.parametrize(("release", "stays"), [("6.5", True), ("6.6", False)])
    def test_a_block_that_cannot_be_removed_is_forgotten_before_6_6(self, release: str, stays: bool) -> None:
        """linux-6.1 virtio_mem_sbm_unplug_any_sb_online(): the error is dropped; 6.12 sets have_unplugged_mb."""
        k = kernel("x86_64", release)
        k.auto_online_blocks = "online_movable"
        vm = attach(k)
        resize(k, vm, 128 * MiB)
        chain = k.statics(Chains).memory
        chain.append(lambda _k, action, _pfn, _n: "not now" if action == "MEM_GOING_OFFLINE" else "")
        resize(k, vm, 0, 60 * SECOND)
        assert vm.plugged_size == 0
        assert k.memory_blocks.get(64) is not None
        chain.pop()
        vm.device.resize(0)
        k.hw.advance(600 * SECOND)
        assert (k.memory_blocks.get(64) is not None) == stays

    @pytest.mark.parametrize(("release", "errno"), [("6.5", EPERM), ("6.6", EBUSY)])
    def test_whatever_refused_was_handed_on_before_6_6(self, release: str, errno: int) -> None:
        """linux-6.1 and -6.12 virtio_mem_offline_and_remove_memory(): what is neither ENOMEM nor EBUSY is EBUSY."""
        k = kernel("x86_64", release)
        k.auto_online_blocks = "online_movable"
        vm = attach(k)
        resize(k, vm, 128 * MiB)
        k.statics(Chains).memory.append(lambda _k, action, _pfn, _n: "no" if action == "MEM_GOING_OFFLINE" else "")
        for _ in range(2):
            assert refused(virtio_mem_offline_and_remove_memory, k, vm, 64 * 128 * MiB, 128 * MiB).errno == errno
        warned = f"WARNING: at {PLACE}:virtio_mem_offline_and_remove_memory"
        assert log(k).count(warned) == (errno == EBUSY)

    @pytest.mark.parametrize(("release", "taken"), [("6.5", True), ("6.6", False)])
    def test_memory_was_emptied_whatever_the_device_had_to_say_before_6_6(self, release: str, taken: bool) -> None:
        """linux-6.1 and -6.12 virtio_mem_fake_offline(): the later one asks for vm->config_changed before each try."""
        k = kernel("x86_64", release)
        k.auto_online_blocks = "online_movable"
        vm = attach(k)
        resize(k, vm, 128 * MiB)
        vm.config_changed = True
        span = Span(64 * 128 * MiB >> 12, (64 * 128 + 2) * MiB >> 12)
        with nullcontext() if taken else pytest.raises(KernelError, match="EAGAIN"):
            virtio_mem_fake_offline(k, vm, span)
        assert (PageFlags.OFFLINE in (k.page_flags.get(span.start) or ())) == taken


class TestMemoryBlocks:
    @pytest.mark.parametrize(("release", "zones"), [("5.17", "none"), ("5.18", "DMA32")])
    def test_a_partial_last_block_of_boot_memory_had_no_zone_before_5_18(self, release: str, zones: str) -> None:
        """linux-5.13 test_pages_in_a_zone(): pages beyond the end of the zone, which is that of RAM at 2016 MiB."""
        config = Config("x86_64", profile(release), 4 * KiB, 48)
        k = start_kernel(MachineSpec("small", config, (Ram(MiB, 2015 * MiB),)))
        assert [valid_zones(k, block) for block in (14, 15)] == ["DMA32", zones]

    @pytest.mark.parametrize(
        ("release", "flag"), [("6.10", PageFlags.RESERVED), ("6.11", PageFlags.OFFLINE), ("7.2", PageFlags.OFFLINE)]
    )
    def test_pages_that_go_online_were_reserved_before_6_11(self, release: str, flag: PageFlags) -> None:
        k = kernel("x86_64", release)
        seen: list[PageFlags | None] = []

        def look(k: Kernel, action: str, pfn: int, _nr: int) -> str:
            if action in ("MEM_GOING_ONLINE", "MEM_ONLINE"):
                seen.append(k.page_flags.get(pfn))
            return ""

        k.statics(Chains).memory.append(look)
        span = plug(k, 128 * MiB)
        add_memory(k, 0, PLUG_AT, 128 * MiB)
        state_store(k, k.block_id(span.start), "online")
        assert seen == [flag, None]

    @pytest.mark.parametrize(
        ("release", "before"), [("5.13", True), ("6.1", True), ("6.7", True), ("6.8", False), ("6.12", False)]
    )
    def test_block_devices_went_before_the_lock_was_taken_until_6_8(self, release: str, before: bool) -> None:
        """linux-6.1 and -6.12 try_remove_memory(): remove_memory_block_devices() and mem_hotplug_begin()."""
        k = kernel("x86_64", release)
        plug(k, 128 * MiB)
        add_memory(k, 0, PLUG_AT, 128 * MiB)
        k.hw.stepper = seen = Recorder()
        remove_memory(k, PLUG_AT, 128 * MiB)
        k.hw.stepper = None
        kinds = [(each.kind, each.target) for each in seen.accesses]
        assert (kinds.index(("write", "memory_blocks")) < kinds.index(("lock", "mem_hotplug_lock"))) == before

    @pytest.mark.parametrize(
        ("release", "outside"), [("6.1.71", True), ("6.1.72", False), ("6.6", True), ("6.7", False)]
    )
    def test_the_pages_of_a_memmap_in_its_own_memory_were_onlined_without_the_lock(
        self, release: str, outside: bool
    ) -> None:
        """mm/memory_hotplug: add missing mem_hotplug_lock: mhp_init_memmap_on_memory() and the counters."""
        k = kernel("x86_64", release, memmap_on_memory="Y")
        span = plug(k, 128 * MiB)
        add_memory(k, 0, PLUG_AT, 128 * MiB, MHP_MEMMAP_ON_MEMORY)
        seen: list[bool] = []

        class Look(Recorder):
            def step(self, access: Access) -> None:
                if (access.kind, access.target) == ("lock", "mem_hotplug_lock"):
                    seen.append(k.page_zone.get(span.start) is not None)

        k.hw.stepper = Look()
        state_store(k, k.block_id(span.start), "online_movable")
        k.hw.stepper = None
        assert seen == [outside]

    @pytest.mark.parametrize(("release", "bug"), [("6.1.71", True), ("6.1.72", False), ("6.6", True), ("6.7", False)])
    def test_struct_pages_in_the_memory_itself_were_freed_as_ram_when_no_device_could_be_made(
        self, release: str, bug: bool
    ) -> None:
        """mm/memory_hotplug: fix error handling in add_memory_resource()."""
        k = kernel("x86_64", release, memmap_on_memory="Y")
        plug(k, 128 * MiB)
        k.hw.faults = Failing("drivers/base/memory.c:add_memory_block", 1)
        with pytest.raises(KernelBug if bug else KernelError, match="is not all struct pages" if bug else "ENOMEM"):
            add_memory(k, 0, PLUG_AT, 128 * MiB, MHP_MEMMAP_ON_MEMORY)
