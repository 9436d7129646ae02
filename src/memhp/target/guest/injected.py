"""What is made to fail in a step of a guest: memory notifiers refuse, by the kernel's own module for that."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.plugged import GuestMachine
from memhp.target.model.injected import check, errno_of
from memhp.target.target import Done

NOTIFIER = "/sys/kernel/debug/notifier-error-inject/memory/actions"
MODULE = "memory_notifier_error_inject"
"""Loaded before anything is plugged: whose text is made read-only later splits leaves of the direct map."""


def refusal(kernel: Kernel, fault: schema.Injected) -> str | None:
    """Why a guest with a kernel cannot have a fault; None if it can."""
    if fault.allocation is not None:
        return "allocations are made to fail on the model only"
    if kernel.lacks("CONFIG_MEMORY_NOTIFIER_ERROR_INJECT"):
        return "the kernel is built without MEMORY_NOTIFIER_ERROR_INJECT"
    return None


def carry_out(machine: GuestMachine, step: schema.StepKind, do: Callable[[], Done]) -> Done:
    """Do a step while notifiers refuse what its fault says. Raises :class:`BadInput` for a fault that says nothing."""
    fault = step.fault
    if fault is None:
        return do()
    check(fault)
    file = f"{NOTIFIER}/{fault.notifier}/error"
    if said := machine.guest.agent.write(file, str(-errno_of(fault))):
        raise BadInput(f"the kernel refuses it: {said}", where="fault")
    try:
        return do()
    finally:
        machine.guest.agent.write(file, "0")
