"""Machines that were seen with a virtio-mem device: it is there, plugged as far as it was, and can be resized."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from captures import archive, facts, open_capture
from memhp.check import check_all
from memhp.facts import iomem
from memhp.facts.derive import derive
from memhp.facts.observed import Facts
from memhp.facts.usage import free_pages
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.linux.init import start_kernel
from memhp.linux.state import Kernel
from memhp.scenario import result
from memhp.scenario.load import loads
from memhp.scenario.schema import MachineText
from memhp.target.model.replay import catch_up
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_facts import settle_seen
from memhp.target.seen.sources import facts_spec
from memhp.units import MiB
from virtio_mem import named

MOMENTS = [(name, step) for name in named("") for step in open_capture(name)]
CLEAN = [
    "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-clean",
    "arm64-6.12.107+deb13-arm64-virtio-mem-movable-clean",
    "arm64-6.12.107+deb13-arm64-16k-virtio-mem-movable-clean",
    "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-default",
]
X86 = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-movable-memmap"


def run(name: str, step: str, *steps: str) -> tuple[result.Run, Kernel]:
    """Rehearse steps, written as inline tables' contents, from a moment of a real machine on."""
    text = "steps = [" + ", ".join(f"{{ {each} }}" for each in steps) + "]\n"
    return rehearse_scenario(loads(f'{text}[machine]\nsource = "{archive(name)}"\nstep = "{step}"\n'))


def picture(observed: Facts) -> dict[str, object]:
    """Blocks with state and zone, zones with all their counts, and what System RAM the driver added."""
    return {
        "blocks": {block.index: (block.state, block.zone) for block in observed.memory.blocks},
        "zones": {
            (zone.node, zone.name): (zone.spanned, zone.present, zone.managed)
            for zone in observed.zones
            if zone.name in ("Normal", "Movable") and zone.present
        },
        "iomem": [
            (res.start, res.end) for res in iomem.system_ram(observed.iomem) if iomem.ram_driver(res) == "virtio_mem"
        ],
    }


@pytest.mark.parametrize(("name", "step"), MOMENTS)
def test_the_device_is_there_with_as_much_plugged_as_was(name: str, step: str) -> None:
    done, k = run(name, step, 'do = "wait", seconds = 0')
    real = facts(name, step)
    (seen,) = virtio_mem_devices(real)
    assert picture(derive(k)) == picture(real)
    assert [law.law for law in done.laws if not law.held] == []
    (device,) = done.steps[0].devices
    wanted = min(seen.requested, seen.plugged)
    assert (device.plugged, device.requested, device.block_size) == (seen.plugged, wanted, seen.block_size)
    assert sum(each.size for each in device.stuck) == (seen.plugged if seen.plugged > wanted else 0)


@pytest.mark.parametrize("name", CLEAN)
def test_resized_it_goes_through_the_sizes_that_the_real_machine_went_through(name: str) -> None:
    plugged, part, none = [step for step in open_capture(name) if "plugged" in step or "unplug" in step]
    resize = 'do = "resize", to = "{}M"'
    done, k = run(name, plugged, resize.format(128), resize.format(0), resize.format(512))
    assert done.ok
    assert [step.devices[0].plugged // MiB for step in done.steps] == [128, 0, 512]
    assert picture(derive(k)) == picture(facts(name, plugged))
    half, k = run(name, plugged, resize.format(128))
    assert half.ok
    assert picture(derive(k)) == picture(facts(name, part))
    _, k = run(name, part, resize.format(0))
    assert picture(derive(k)) == picture(facts(name, none))
    _, k = run(name, none, resize.format(512))
    assert picture(derive(k)) == picture(facts(name, plugged))


def test_what_the_real_machine_could_not_give_back_is_in_use_and_stays_so() -> None:
    done, _ = run(X86, "5-unplugged", 'do = "resize", to = 0, wait = 3600, expect = "EBUSY"')
    assert done.ok
    (device,) = done.steps[0].devices
    assert (device.plugged, device.requested) == (6 * MiB, 0)
    untold = [(each.start, each.size) for each in device.held if each.owner == "kernel:unknown"]
    assert untold == [(0x1_1800_0000 + at * MiB, 4096) for at in (0, 2, 4)]
    normal = facts(X86, "5-unplugged").zone(0, "Normal")
    assert normal is not None
    assert sum(each.size for each in device.held) == (normal.managed - free_pages(normal)) * 4096


def test_a_block_that_is_partly_plugged_is_filled_up_before_another_is_added() -> None:
    done, _ = run(X86, "5-unplugged", 'do = "resize", to = "128M"', 'do = "resize", to = "130M"')
    assert done.ok
    assert [line for line in done.state.iomem if "virtio_mem" in line] == [
        "  100000000-107ffffff : System RAM (virtio_mem)",
        "  118000000-11fffffff : System RAM (virtio_mem)",
    ]


@pytest.mark.parametrize("device", ["vm0", "virtio1"])
def test_it_goes_by_the_name_that_the_host_has_for_it_or_the_guest(device: str) -> None:
    done, _ = run(X86, "1-plugged", f'do = "resize", to = "1G", device = "{device}"')
    assert done.ok
    assert done.steps[0].devices[0].plugged == 1024 * MiB


def test_blocks_named_by_address_are_plugged_and_unplugged_by_its_driver() -> None:
    at = 'at = "0x130000000", size = "256M"'
    done, _ = run(
        X86,
        "1-plugged",
        f'do = "plug", driver = "virtio_mem", {at}',
        f'do = "offline", {at}',
        f'do = "remove", {at}',
        'do = "unplug", at = "0x100000000", size = "512M", expect = "ok"',
    )
    assert done.ok
    assert [step.devices[0].plugged // MiB for step in done.steps] == [768, 768, 512, 0]


def changed(name: str, step: str, **changes: object) -> Session:
    """A machine taken up from a moment of a real one, had QEMU said something else of its device."""
    observed = facts(name, step)
    assert observed.qemu is not None
    (device,) = observed.qemu.devices
    qemu = replace(observed.qemu, devices=(replace(device, **changes),))  # type: ignore[arg-type]
    observed = replace(observed, qemu=qemu)
    session = Session(start_kernel(facts_spec(observed, MachineText(source=name, step=step))))
    catch_up(session, observed)
    settle_seen(session, observed)
    return session


def test_blocks_with_nothing_plugged_that_could_not_be_removed_keep_a_sub_block() -> None:
    session = changed(X86, "1-plugged", size=2 * MiB, requested_size=0)
    vm = session.devices["vm0"]
    assert (vm.device.plugged_size, vm.plugged_size) == (8 * MiB, 8 * MiB)
    assert check_all(session.k) == []


def test_a_device_of_large_blocks_has_big_blocks_in_its_driver() -> None:
    session = changed("arm64-custom-arm64-64k-virtio-mem-default", "1-plugged", block_size=512 * MiB)
    vm = session.devices["vm0"]
    assert (vm.in_sbm, vm.bbm.bb_size, vm.device.plugged_size) == (False, 512 * MiB, 512 * MiB)
    assert check_all(session.k) == []
