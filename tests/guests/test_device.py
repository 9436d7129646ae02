"""The served device in real guests: the real driver asks for what the modelled one asks for, request by request.

On riscv64 Debian's kernels have no driver: ``MEMHP_VIRTIO_MEM_KO`` names a folder with ``RELEASE/virtio_mem.ko``
(docs/device.md says how it is built).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from dataclasses import replace
from pathlib import Path

import pytest

from memhp.target.device.life import foretold
from memhp.target.device.live import lived, started
from memhp.target.guest.cache import user_cache
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.versions import newest

MODULES = "MEMHP_VIRTIO_MEM_KO"
ARCHES = [pytest.param(arch, marks=pytest.mark.xdist_group(f"guest-{arch}")) for arch in ("x86_64", "arm64", "riscv64")]


def kernel(arch: str) -> Kernel:
    """The newest fetched kernel of an architecture that has a virtio-mem driver."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == arch}
    if arch == "riscv64":
        folder = Path(os.environ.get(MODULES, "/nowhere"))
        found = {
            name: replace(each, modules=folder / name)
            for name, each in found.items()
            if (folder / name / "virtio_mem.ko").is_file()
        }
        if not found:
            pytest.skip(f"NO riscv64 KERNEL WAS DRIVEN BY THE SERVED DEVICE: {MODULES} names no module for one")
    if not found:
        pytest.skip(f"NO {arch} KERNEL WAS BOOTED: run memhp guest fetch 7.2:{arch}")
    return found[newest(found)]


@pytest.mark.parametrize("arch", ARCHES)
def test_the_real_driver_does_with_the_served_device_what_the_modelled_one_does(arch: str) -> None:
    chosen = kernel(arch)
    expected = foretold(arch, chosen.release)
    with started(user_cache(), find_qemu(user_cache(), arch), GuestSpec(chosen)) as machine:
        record = lived(machine, expected)
    assert [step.requests for step in record.steps] == [step.requests for step in expected]
    assert record.steps == expected
