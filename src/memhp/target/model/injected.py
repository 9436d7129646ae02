"""What is made to fail in a step of the model, as a guest's kernel does it by its debugfs."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from memhp.errors import BadInput
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.lib.fault_inject import FailNth
from memhp.linux.lib.memory_notifier_error_inject import (
    debugfs_errno_set,
    err_inject_init,
    notifier_err_inject_callback,
)
from memhp.linux.state import Kernel
from memhp.scenario import schema

NEITHER = "a fault is of an allocation or of a notifier"
NOT_ASKED = "nothing is allocated there in this step, or not so often"
ONE_NOTIFIER = "a notifier refuses all that it is asked in a step"


def errno_of(fault: schema.Injected) -> int:
    """The number of the errno with which a notifier refuses. Raises :class:`BadInput`."""
    number = getattr(errno, fault.error, None)
    if not isinstance(number, int):
        raise BadInput(f"{fault.error!r} is no errno", where="fault", fix="EBUSY, ENOMEM, EPERM …")
    return number


def check(fault: schema.Injected) -> None:
    """Raise :class:`BadInput` for a fault that says nothing, or two things."""
    if (fault.allocation is None) == (fault.notifier is None):
        raise BadInput(NEITHER, where="fault", fix='write { allocation = "…" } or { notifier = "…" }')
    if fault.notifier is not None and fault.nth != 1:
        raise BadInput(ONE_NOTIFIER, where="fault", fix="leave `nth` out")
    errno_of(fault)


@contextmanager
def injected(k: Kernel, fault: schema.Injected | None) -> Iterator[None]:
    """For as long as a step runs, what its fault says fails. Raises :class:`BadInput` if that was never asked for."""
    if fault is None:
        yield
        return
    check(fault)
    if fault.allocation is not None:
        k.hw.faults = faults = FailNth(fault.allocation, fault.nth)
        try:
            yield
        finally:
            k.hw.faults = None
        if not faults.failed:
            raise BadInput(NOT_ASKED, where="fault", fix="leave it out")
        return
    assert fault.notifier is not None
    if notifier_err_inject_callback not in k.statics(Chains).memory:
        err_inject_init(k)
    debugfs_errno_set(k, fault.notifier, str(-errno_of(fault)))
    try:
        yield
    finally:
        debugfs_errno_set(k, fault.notifier, "0")
