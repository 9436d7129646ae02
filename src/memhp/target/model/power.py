"""The step `suspend`: the machine sleeps, the host may request other sizes meanwhile, and it wakes up again."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.linux.kernel.power.suspend import hibernate, pm_suspend
from memhp.scenario import schema
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem import request_size
from memhp.units import parse_size


def suspend(session: Session, step: schema.Suspend) -> None:
    """Sleep and wake up. Raises what a driver or a notifier refuses with; then the host requests nothing."""
    sizes = {name: parse_size(text, where=f"requested.{name}") for name, text in step.requested.items()}
    for name in sizes:
        if name not in session.devices:
            fix = f"one of {', '.join(session.devices)}" if session.devices else "leave it out"
            raise BadInput(f"there is no device {name!r}", where=f"requested.{name}", fix=fix)

    def asleep() -> None:
        for device in (vm.device for vm in session.devices.values()):
            if step.state != "freeze":
                device.system_reset(resume=step.state == "mem")
        for name, size in sizes.items():
            request_size(session.devices[name].device, size, f"requested.{name}")

    if step.state == "disk":
        hibernate(session.k, asleep)
    else:
        pm_suspend(session.k, step.state, asleep)
