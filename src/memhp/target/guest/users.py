"""Steps of those who share a guest with hotplug: parameters written, memory in use, pages that go bad."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shlex

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.target.guest.plugged import ERRNO, SYS, GuestMachine
from memhp.target.model.neighbours import parameter_text
from memhp.target.target import Done
from memhp.units import KiB, format_size, parse_size

FILES = "/run"
"""Where the guest keeps the files that stand for memory in use: its tmpfs."""
FILE_UNIT = 64 * KiB
"""Bytes that such a file is written in."""
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
PARAMETERS = "/sys/module/memory_hotplug/parameters"


def set_parameter(machine: GuestMachine, step: schema.Set) -> Done:
    """Write to a parameter's file."""
    folder = SYS if step.parameter == "auto_online_blocks" else PARAMETERS
    said = machine.guest.agent.write(f"{folder}/{step.parameter}", parameter_text(step))
    return Done(step, ERRNO.get(said, said) if said else "ok")


def allocate(machine: GuestMachine, step: schema.Allocate) -> Done:
    """Movable memory is a file in tmpfs, free huge pages are in the pool of the default size."""
    size = parse_size(step.size, where="size")
    if step.kind == "hugetlb-free":
        return _huge_pages(machine, step, size)
    path = shlex.quote(f"{FILES}/{step.tag}")
    fill = f"dd if=/dev/zero of={path} bs={FILE_UNIT} count={size // FILE_UNIT} 2>&1 | grep -q 'No space' && rm {path}"
    failed = machine.guest.agent.run(fill).status == 0
    return Done(step, "ENOMEM" if failed else "ok")


def _huge_pages(machine: GuestMachine, step: schema.Allocate, size: int) -> Done:
    """The pool grows, or stays as it is when it cannot grow by so many."""
    shown = machine.read("/proc/meminfo").partition("Hugepagesize:")[2].split()
    if not shown:
        raise BadInput("the kernel has no huge pages", where="kind", fix="CONFIG_HUGETLBFS=y")
    unit = int(shown[0]) * KiB
    if size % unit:
        raise BadInput(f"{size:#x} bytes of huge pages", where="size", fix=f"a multiple of {format_size(unit)}")
    before = int(machine.read(HUGE_PAGES))
    machine.guest.agent.write(HUGE_PAGES, str(before + size // unit), timeout=300)
    if int(machine.read(HUGE_PAGES)) < before + size // unit:
        machine.guest.agent.write(HUGE_PAGES, str(before))
        return Done(step, "ENOMEM")
    machine.pools[step.tag] = size // unit
    return Done(step, "ok")


def free(machine: GuestMachine, step: schema.Free) -> Done:
    """The file goes, or the pool shrinks."""
    if pages := machine.pools.pop(step.tag, 0):
        left = max(0, int(machine.read(HUGE_PAGES)) - pages)
        machine.guest.agent.write(HUGE_PAGES, str(left), timeout=300)
        return Done(step, "ok")
    if machine.guest.agent.run(f"rm {shlex.quote(f'{FILES}/{step.tag}')}").status:
        raise BadInput(f"nothing is allocated as {step.tag!r}", where="tag", fix="allocate it first")
    return Done(step, "ok")


def poison(machine: GuestMachine, step: schema.Poison) -> Done:
    """A page goes bad, or may do so: ``hard_offline_page`` and ``soft_offline_page`` take a physical address."""
    assert step.at is not None
    file = "soft_offline_page" if step.soft else "hard_offline_page"
    said = machine.guest.agent.write(f"{SYS}/{file}", f"{parse_size(step.at, where='at'):#x}")
    return Done(step, ERRNO.get(said, said) if said else "ok")
