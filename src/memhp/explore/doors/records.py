"""What a kernel and its devices only ever add to, for people to read: logs and counts. No CPU goes by them.

A loop that prints a line each time round stands where it stood all the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.mm.memory_hotplug_online import Onlining
from memhp.linux.state import Kernel


@contextmanager
def without_records(k: Kernel) -> Iterator[None]:
    """The kernel with none of these in it; nobody is told."""
    logs: list[list[Any]] = [k.hw._log_lines, *_logs_of_devices(k)]
    counts = vars(k.hw.ledger)
    kept = [list(list.__iter__(log)) for log in logs], {name: count.copy() for name, count in _counters(counts)}
    stores, counts["stores"] = counts["stores"], 0
    for log in logs:
        list.clear(log)
    for _, count in _counters(counts):
        count.clear()
    yield
    for log, lines in zip(logs, kept[0], strict=True):
        list.extend(log, lines)
    for name, count in _counters(counts):
        count.update(kept[1][name])
    counts["stores"] = stores


def _counters(counts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, count) for name, count in counts.items() if name != "stores")


def _logs_of_devices(k: Kernel) -> Iterator[list[Any]]:
    """Of virtio-mem devices: the requests that they have answered."""
    onlining = k._statics.get(Onlining)
    callback = vars(onlining)["online_page_callback"] if onlining is not None else None
    if isinstance(callback, OnlinePages):
        for vm in list.__iter__(vars(callback)["devices"]):
            log = getattr(vars(vm)["device"], "__dict__", {}).get("log")
            if isinstance(log, list):
                yield log
