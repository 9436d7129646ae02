"""Which monitor an address means: ``PATH`` or ``qmp:PATH`` is a socket of QEMU's, ``ch:PATH`` Cloud Hypervisor's,
``libvirt:NAME`` a domain of libvirt's.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from pathlib import Path

from memhp.errors import BadInput, one_of
from memhp.target import vm_cloud_hypervisor, vm_libvirt, vm_qmp
from memhp.target.vm import Vm


def _qmp(rest: str) -> Vm:
    return vm_qmp.connect(Path(rest))


def _cloud_hypervisor(rest: str) -> Vm:
    return vm_cloud_hypervisor.CloudHypervisorVm(Path(rest))


SCHEMES: dict[str, Callable[[str], Vm]] = {"qmp": _qmp, "ch": _cloud_hypervisor, "libvirt": vm_libvirt.LibvirtVm}
"""What comes before the colon."""


def open_vm(address: str) -> Vm:
    """A session with the monitor at an address. Raises BadInput where none answers."""
    scheme, colon, rest = address.partition(":")
    if not colon or "/" in scheme:
        return SCHEMES["qmp"](address)
    if scheme not in SCHEMES or not rest:
        raise BadInput(f"no monitor {address!r}", where="VM", fix=f"a socket, or {one_of(scheme, SCHEMES)}:…")
    return SCHEMES[scheme](rest)
