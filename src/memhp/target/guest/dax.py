"""The step `dax` in a guest: a region changes its driver, by what ``ndctl`` and ``daxctl`` write to sysfs.

Drivers are loaded before the first of them is wanted, and on a bus that binds nothing by itself, so that none takes a
device before it is told to: a module that is loaded later has its text made read-only in the direct map too, which
splits leaves of memory that was plugged since.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from memhp.errors import ERRNO_NAMES, BadInput
from memhp.scenario import schema
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.plugged import ERRNO, GuestMachine
from memhp.target.model.dax import driver_of, namespace_name
from memhp.target.model.dax_region import region_number
from memhp.target.target import Done
from memhp.units import parse_size

ND, DAX = "/sys/bus/nd", "/sys/bus/dax"
BUS = ("nfit", "nd_e820", "of_pmem")
"""Modules that make a region of what firmware tells; a kernel has those of its architecture."""
DRIVERS = ("nd_pmem", "dax_pmem", "device_dax", "kmem")
MAPS = {"mem": "ram", "dev": "pmem"}
_FAILED = re.compile(r".* probe with driver \w+ failed with error -(\d+)")


def refusal(kernel: Kernel, step: schema.Dax) -> str | None:
    """Why a guest with a kernel cannot carry out a step."""
    if kernel.option("CONFIG_BLK_DEV_PMEM") == "y":
        return "the block driver is built in and has the region before the first step: BLK_DEV_PMEM=m"
    if step.pinned is not None:
        return "pages are pinned by a program of its own, which the guest has not"
    if step.namespace is False:
        return "regions of a guest have a namespace"
    if not step.pagemap or step.node:
        return "regions of a guest are of node 0, and the block driver gives them struct pages"
    if not re.fullmatch(r"dax\d+\.0", step.device):
        return "regions of a guest have one device, dax0.0 the first, dax1.0 the second"
    return None


def dax(machine: GuestMachine, step: schema.Dax) -> Done:
    """Unbind the driver that has the region, then bind the one that the step names."""
    _load(machine)
    number = region_number(step.device)
    if not _is_there(machine, f"{ND}/devices/region{number}"):
        raise BadInput(f"the guest has no region for {step.device}", where="device", fix="write `at` and `size` first")
    mode = machine.dax.get(step.device, "none")
    if step.mode is None:
        return Done(step, "ok")
    _unbind(machine, step.device, mode)
    machine.dax[step.device] = "none"
    seen = len(_log(machine))
    said = ""
    if step.mode == "raw":
        _forget(machine, step.device)
        said = _bind(machine, f"{ND}/drivers/nd_pmem", namespace_name(step.device))
        bound = _is_there(machine, f"{ND}/drivers/nd_pmem/{namespace_name(step.device)}")
    else:
        _device(machine, step, number)
        bound = True
        if step.mode != "none":
            driver = driver_of(step.mode)
            assert driver is not None
            if step.memmap_on_memory is not None:
                attribute = f"{DAX}/devices/{step.device}/memmap_on_memory"
                machine.guest.agent.write(attribute, str(int(step.memmap_on_memory)))
            known = "new_id" if driver == "kmem" and step.device not in machine.known_to_kmem else "bind"
            if driver == "kmem":
                machine.known_to_kmem.add(step.device)
            said = machine.guest.agent.write(f"{DAX}/drivers/{driver}/{known}", step.device)
            bound = _is_there(machine, f"{DAX}/drivers/{driver}/{step.device}")
    if bound:
        machine.dax[step.device] = step.mode
        return Done(step, "ok")
    errors = [match[1] for line in _log(machine)[seen:] if (match := _FAILED.fullmatch(line))]
    return Done(step, ERRNO_NAMES[int(errors[-1])] if errors else ERRNO.get(said, said) or None)


def _load(machine: GuestMachine) -> None:
    """The buses with their regions, and then what may be bound to those: once."""
    if machine.dax_loaded:
        return
    machine.dax_loaded = True
    for module in BUS:
        machine.guest.load(module)
    machine.guest.load("dax")
    for bus in (ND, DAX):
        machine.guest.agent.write(f"{bus}/drivers_autoprobe", "0")
    for driver in DRIVERS:
        machine.guest.load(driver)


def _unbind(machine: GuestMachine, device: str, mode: str) -> None:
    """``echo dax0.0 > …/unbind`` of the driver that has it."""
    driver, name = {
        "raw": (f"{ND}/drivers/nd_pmem", namespace_name(device)),
        "devdax": (f"{DAX}/drivers/device_dax", device),
        "kmem": (f"{DAX}/drivers/kmem", device),
    }.get(mode, ("", ""))
    if driver:
        machine.guest.agent.write(f"{driver}/unbind", name)


def _bind(machine: GuestMachine, driver: str, name: str) -> str:
    """Bind a driver, unless it took what it found when it was loaded; what the kernel said."""
    return "" if _is_there(machine, f"{driver}/{name}") else machine.guest.agent.write(f"{driver}/bind", name)


def _device(machine: GuestMachine, step: schema.Dax, number: str) -> None:
    """The device of the DAX bus, made of the region's namespace if it is not there: ``ndctl create-namespace``."""
    mode = MAPS[step.map or machine.dax_map.get(step.device, "mem")]
    made = machine.dax_seeds.get(step.device)
    align = machine.dax_align.get(step.device) if step.align is None else parse_size(step.align)
    if made is not None:
        if (MAPS[machine.dax_map[step.device]], machine.dax_align[step.device]) != (mode, align):
            raise BadInput("the device of a guest keeps its map and alignment", where="map", fix="bind `raw` between")
        return
    seed = machine.read(f"{ND}/devices/region{number}/dax_seed")
    folder = f"{ND}/devices/{seed}"
    if align is None:
        align = int(machine.read(f"{folder}/align"))
    for name, text in (("mode", mode), ("align", str(align)), ("namespace", namespace_name(step.device))):
        if said := machine.guest.agent.write(f"{folder}/{name}", text):
            raise BadInput(f"the kernel refuses it: {said}", where=name)
        if name == "align":
            machine.guest.agent.run(f"cat /proc/sys/kernel/random/uuid > {folder}/uuid")
    machine.guest.agent.write(f"{ND}/drivers/dax_pmem/bind", seed)
    machine.dax_seeds[step.device] = seed
    machine.dax_map[step.device] = "mem" if mode == "ram" else "dev"
    machine.dax_align[step.device] = align


def _forget(machine: GuestMachine, device: str) -> None:
    """The namespace gives up its device of the DAX bus: its info block goes, by a block driver that passes over it
    (``nd_namespace_common.force_raw``, under which no pages are mapped), as ``ndctl destroy-namespace`` does.
    """
    seed = machine.dax_seeds.pop(device, None)
    if seed is None:
        return
    machine.known_to_kmem.discard(device)
    name, write = namespace_name(device), machine.guest.agent.write
    write(f"{ND}/drivers/dax_pmem/unbind", seed)
    write(f"{ND}/devices/{seed}/namespace", "")
    write(f"{ND}/devices/{name}/force_raw", "1")
    write(f"{ND}/drivers/nd_pmem/bind", name)
    disk = f"/dev/pmem{region_number(device)}"
    machine.guest.agent.run(f"[ -b {disk} ] && dd if=/dev/zero of={disk} bs=64k count=1 conv=fsync 2>/dev/null")
    write(f"{ND}/drivers/nd_pmem/unbind", name)
    write(f"{ND}/devices/{name}/force_raw", "0")


def _is_there(machine: GuestMachine, path: str) -> bool:
    return machine.guest.agent.run(f"[ -e {path} ]").status == 0


def _log(machine: GuestMachine) -> list[str]:
    return [line.partition("] ")[2] for line in machine.guest.agent.run("dmesg").text.splitlines()]
