"""Steps of those who share a guest with hotplug: parameters written, memory in use, pages that go bad."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shlex

import numpy as np

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.spans import Span, SpanSet
from memhp.target.guest.pin_program import BUFFER, RING, pin_program
from memhp.target.guest.plugged import ERRNO, SYS, GuestMachine, Pinned
from memhp.target.model.neighbours import parameter_text
from memhp.target.target import Done
from memhp.units import KiB, format_size, parse_size

USES = ("movable", "hugetlb-free", "pinned")
"""The kinds of memory that a guest can be made to use."""
FILES = "/run"
"""Where the guest keeps the files that stand for memory in use: its tmpfs."""
FILE_UNIT = 64 * KiB
"""Bytes that such a file is written in."""
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
FRAME = np.uint64((1 << 55) - 1)
"""The bits of a word of ``/proc/PID/pagemap`` that are the page frame (admin-guide/mm/pagemap.rst)."""
PARAMETERS = "/sys/module/memory_hotplug/parameters"


def set_parameter(machine: GuestMachine, step: schema.Set) -> Done:
    """Write to a parameter's file."""
    folder = SYS if step.parameter == "auto_online_blocks" else PARAMETERS
    said = machine.guest.agent.write(f"{folder}/{step.parameter}", parameter_text(step))
    return Done(step, ERRNO.get(said, said) if said else "ok")


def allocate(machine: GuestMachine, step: schema.Allocate) -> Done:
    """Movable memory is a file in tmpfs, pinned a buffer of io_uring; free huge pages are in the default pool."""
    size = parse_size(step.size, where="size")
    if step.kind == "pinned":
        return _pin(machine, step, size)
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


def _pin(machine: GuestMachine, step: schema.Allocate, size: int) -> Done:
    """A process pins memory and stops; it goes on to give it back."""
    run = machine.guest.agent.run
    page = int(run("grep -m1 KernelPageSize /proc/self/smaps").text.split()[1]) * KiB
    if size % page:
        raise BadInput(f"{size:#x} bytes of pinned memory", where="size", fix=f"a multiple of {format_size(page)}")
    text = "".join(map("\\{:03o}".format, pin_program(machine.guest.spec.kernel.arch, size)))
    path = shlex.quote(f"{FILES}/{step.tag}")
    run(f"printf '{text}' > {path}; chmod +x {path}")
    start = f"{path} >/dev/null 2>&1 3<&- & p=$!; echo $p"
    wait = "until grep -qs '^State:.[TZ]' /proc/$p/status || [ ! -d /proc/$p ]; do usleep 10000; done"
    said = run(f"{start}; {wait}; grep -s UserBufs /proc/$p/fdinfo/{RING}; rm {path}").text.split()
    process = int(said[0])
    if said[1:2] != ["UserBufs:"] or said[2] == "0":
        run(f"kill -9 {process}; wait {process}")
        return Done(step, "ENOMEM", "io_uring has not registered the memory as a buffer")
    where = f"bs=8 count={size // page} skip={BUFFER // page}"
    words = np.frombuffer(run(f"dd if=/proc/{process}/pagemap {where} 2>/dev/null").output, np.uint64)
    frames = np.sort(words & FRAME) * np.uint64(page)
    places = SpanSet(Span(at, at + page) for at in frames.tolist())
    machine.pins[step.tag] = Pinned(process, tuple(places))
    return Done(step, "ok", places=tuple(places))


def free(machine: GuestMachine, step: schema.Free) -> Done:
    """The file goes, the pool shrinks, or the process gives its memory back and ends."""
    if (pinned := machine.pins.pop(step.tag, None)) is not None:
        machine.guest.agent.run(f"kill -CONT {pinned.process}; wait {pinned.process}")
        return Done(step, "ok")
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
