"""What is made to fail in a step of a guest: one allocation below a function, or what memory notifiers are asked."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.errors import BadInput
from memhp.linux.lib.fault_inject import INLINED, PAGES, AllocationName
from memhp.scenario import schema
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.plugged import GuestMachine
from memhp.target.model.injected import NOT_ASKED, check, errno_of
from memhp.target.target import Done

DEBUGFS = "/sys/kernel/debug"
NOTIFIER = f"{DEBUGFS}/notifier-error-inject/memory/actions"
MODULE = "memory_notifier_error_inject"
"""Loaded before anything is plugged: whose text is made read-only later splits leaves of the direct map."""
DEPTH = 32
"""Callers that the filter looks at, the most there are (``MAX_STACK_TRACE_DEPTH``)."""
DIRECTLY = 5
"""Callers up to the one that asks for an object itself: of the allocator's own, or by way of ``kmemdup()`` at most."""


def refusal(kernel: Kernel, fault: schema.Injected) -> str | None:
    """Why a guest with a kernel cannot have a fault; None if it can."""
    if fault.notifier is not None:
        lacks = kernel.lacks("CONFIG_MEMORY_NOTIFIER_ERROR_INJECT")
        return "the kernel is built without MEMORY_NOTIFIER_ERROR_INJECT" if lacks else None
    own = "FAIL_PAGE_ALLOC" if fault.allocation in PAGES else "FAILSLAB"
    for option in (own, "FAULT_INJECTION_DEBUG_FS", "FAULT_INJECTION_STACKTRACE_FILTER"):
        if kernel.lacks(f"CONFIG_{option}"):
            return f"the kernel is built without {option}"
    return None


def carry_out(machine: GuestMachine, step: schema.StepKind, do: Callable[[], Done]) -> Done:
    """Do a step with its fault. Raises :class:`BadInput` for an allocation that was never asked for."""
    fault = step.fault
    if fault is None:
        return do()
    check(fault)
    if fault.allocation is not None:
        return _failing(machine, fault.allocation, fault.nth, do)
    file = f"{NOTIFIER}/{fault.notifier}/error"
    if said := machine.guest.agent.write(file, str(-errno_of(fault))):
        raise BadInput(f"the kernel refuses it: {said}", where="fault")
    try:
        return do()
    finally:
        machine.guest.agent.write(file, "0")


def _failing(machine: GuestMachine, function: AllocationName, nth: int, do: Callable[[], Done]) -> Done:
    """One allocation fails, of whatever task, below a function; the kernel says by ``times`` whether it did.

    The kernel counts those asked about while ``interval`` is not 1, and never forgets: what it has counted is a whole
    interval after each that failed, so the next is in an interval longer by `nth`. What is asked for further below,
    such as the name of a device, counts for nothing but the first.
    """
    folder = f"{DEBUGFS}/{'fail_page_alloc' if function in PAGES else 'failslab'}"
    start, end = _text(machine, function)
    interval = machine.counted.get(folder, 0) + nth
    depth = DEPTH if nth == 1 or function in PAGES else DIRECTLY
    values = {
        "verbose": 0, "interval": interval, "space": 0, "task-filter": "N", "ignore-gfp-wait": "N",
        "stacktrace-depth": depth, "require-start": f"{start:#x}", "require-end": f"{end:#x}", "times": 1,
        "probability": 100,
    }  # fmt: skip
    if function in PAGES:
        values = {"min-order": 0, "ignore-gfp-highmem": "N", **values}
    machine.guest.agent.run("; ".join(f"echo {value} > {folder}/{name}" for name, value in values.items()))
    try:
        done = do()
    finally:
        machine.guest.agent.write(f"{folder}/probability", "0")
    if machine.read(f"{folder}/times") != "0":
        raise BadInput(NOT_ASKED, where="fault", fix="leave it out")
    if interval > 1:
        machine.counted[folder] = interval
    return done


def _text(machine: GuestMachine, function: AllocationName) -> tuple[int, int]:
    """Where the kernel's text of a function begins and ends, or of the one that has it in itself."""
    rows = []
    for line in machine.guest.agent.run("grep -i ' t ' /proc/kallsyms").text.splitlines():
        address, _, name = line.split()[:3]
        rows.append((int(address, 16), name.partition(".")[0] if ".cold" not in name else name))
    rows.sort()
    for wanted in (function, INLINED.get(function)):
        for start, name in rows:
            if name == wanted:
                return start, next((address for address, _ in rows if address > start), start + machine.block_size)
    raise BadInput(f"the kernel has no function {function} of its own", where="fault", fix="another kernel")
