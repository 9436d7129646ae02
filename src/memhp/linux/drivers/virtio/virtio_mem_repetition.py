"""Retries of the driver's work that come to the same each time: time that passes without an event costs nothing then.

No part of the kernel. With the retry timer at its longest, a run of the work that asked the same of the device, got the
same answers, said the same and changed nothing will do so again after the same time, until something else happens.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from functools import partial

from memhp.errors import KernelError
from memhp.hw.clock import Repetition
from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.linux.drivers.virtio.virtio_mem_state import RETRY_TIMER_MAX_MS, LastRun, Outcome, VirtioMem, dev_log
from memhp.linux.state import Kernel

MOST = 1 << 62
"""More often than anything happens."""


def repetition(k: Kernel, vm: VirtioMem, error: KernelError) -> Repetition | None:
    """How the run that ends now will come to the same again, and again; None if it may not."""
    last, device = vm.last_run, vm.device
    if not isinstance(device, VirtioMemDevice):  # served elsewhere: what it will do is not known here
        return None
    if k.hw.is_watched:  # the log and the clock are for other CPUs, too, and the driver looks at neither
        last.outcome = None
        return None
    now = k.hw.now
    if vm.retry_timer_ms != RETRY_TIMER_MAX_MS:
        last.outcome = None
        last.lines, last.requests = len(k.hw.log_lines), len(device.log)
        return None
    outcome = Outcome(
        str(error),
        tuple(line.text for line in k.hw.log_lines[last.lines :]),
        tuple(map(str, device.log[last.requests :])),
        k.hw.ledger.copy(),
        k.hw.owners.copy(),
    )
    matched = tuple(device.matched.get(place, 0) for place in range(len(device.rules)))
    each = [number - before for number, before in zip(matched, last.matched, strict=False)]
    same = outcome == last.outcome and len(matched) == len(last.matched)
    most = _most(vm, matched, each) if same else 0
    vm.last_run = LastRun(now, len(k.hw.log_lines), len(device.log), matched, outcome)
    passed_over = partial(_passed_over, k, vm, len(outcome.exchanged), each)
    return Repetition(now - last.at, most, passed_over) if most else None


def _most(vm: VirtioMem, matched: Sequence[int], each: Sequence[int]) -> int:
    """How many more such runs the rules of the device treat as they treated the last one, which matched `each` of them
    so often.
    """
    most = MOST
    for rule, number, more in zip(vm.device.rules, matched, each, strict=True):
        for edge in rule.edges() if more else ():
            if number - more < edge < number:
                return 0
            if edge >= number:
                most = min(most, (edge - number) // more)
    return most


def _passed_over(k: Kernel, vm: VirtioMem, requests: int, each: Sequence[int], times: int) -> None:
    """The device would have had so many requests, so many times, and its rules as many that match."""
    if times:
        vm.device.unlogged += requests * times
        for place, more in enumerate(each):
            vm.device.matched[place] = vm.device.matched.get(place, 0) + more * times
        dev_log(k, vm, f"{times} more retries, which came to the same", "debug")
