"""What a kernel and its devices only ever add to, for people to read: logs and counts. No CPU goes by them.

A loop that prints a line each time round stands where it stood all the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.state import Kernel


@contextmanager
def without_records(k: Kernel) -> Iterator[None]:
    """The kernel with none of these in it, which stay the objects that they are; nobody is told."""
    logs: list[list[Any]] = [k.hw._log_lines, *_logs_of_devices(k)]
    lines = [list(list.__iter__(log)) for log in logs]
    ledger = k.hw.ledger
    counted = ledger.copy()
    counters = [(count, getattr(counted, name)) for name, count in vars(ledger).items() if isinstance(count, Counter)]
    for log in logs:
        list.clear(log)
    for count, _ in counters:
        count.clear()
    ledger.stores = 0
    try:
        yield
    finally:
        for log, held in zip(logs, lines, strict=True):
            list.extend(log, held)
        for count, held in counters:
            count.update(held)
        ledger.stores = counted.stores


def _logs_of_devices(k: Kernel) -> Iterator[list[Any]]:
    """Of virtio-mem devices: the requests that they have answered."""
    driver = k._statics.get(OnlinePages)
    for vm in list.__iter__(vars(driver)["virtio_mem_devices"]) if driver is not None else ():
        log = getattr(vars(vm)["device"], "__dict__", {}).get("log")
        if isinstance(log, list):
            yield log
