"""The served device in real guests: the real driver asks for what the modelled one asks for, request by request.

On riscv64 Debian's kernels have no driver: docs/device.md says how it is built, and where it is looked for.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.target.device.life import foretold
from memhp.target.device.live import lived, started
from memhp.target.guest.cache import user_cache
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.versions import newest

ARCHES = ("x86_64", "arm64", "riscv64")


def kernel(arch: str) -> Kernel:
    """The newest fetched kernel of an architecture that has a virtio-mem driver."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == arch}
    if not found:
        pytest.skip(f"NO {arch} KERNEL WAS BOOTED: run memhp guest fetch 7.2:{arch}")
    driven = [name for name, each in found.items() if each.has_module("virtio_mem")]
    if not driven:
        pytest.skip(f"NO {arch} KERNEL WAS DRIVEN BY THE SERVED DEVICE: none has a module virtio_mem")
    return found[newest(driven)]


@pytest.mark.parametrize("arch", ARCHES)
def test_the_real_driver_does_with_the_served_device_what_the_modelled_one_does(arch: str) -> None:
    chosen = kernel(arch)
    expected = foretold(arch, chosen.release)
    with started(user_cache(), find_qemu(user_cache(), arch), GuestSpec(chosen)) as machine:
        record = lived(machine, expected)
    assert [step.requests for step in record.steps] == [step.requests for step in expected]
    assert record.steps == expected
