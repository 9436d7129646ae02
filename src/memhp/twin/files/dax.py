"""``/sys/bus/dax``: the devices of the DAX bus and their drivers, as ``drivers/dax/bus.c`` shows them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EBUSY, EINVAL, ENODEV, ENXIO
from functools import partial

from memhp.errors import KernelError
from memhp.linux.drivers.base.bus import drivers_autoprobe_show, drivers_autoprobe_store, drivers_probe_store
from memhp.linux.drivers.dax.bus import DevDax, align_store, memmap_on_memory_store
from memhp.linux.lib.kobject_uevent import Action, kobject_synth_uevent
from memhp.linux.lib.kstrtox import kstrtobool, kstrtoull
from memhp.scenario import schema
from memhp.target.model.dax import DRIVERS, dax, driver_of
from memhp.target.model.dax_region import Region, hmem_name, in_region, region_number
from memhp.target.model.session import Session
from memhp.twin.files.dax_region import (
    MAJOR,
    Minors,
    device_uevent,
    mappings,
    region_folder,
    size_files,
    the_dev,
    the_region,
)
from memhp.twin.tree import Attribute, Device, Entry, Folder, Link, folder, joined

KERNEL_FILE = "drivers/dax/bus.c"
BUS, PLATFORM = "/sys/bus/dax", "/sys/devices/platform"
FORESEEN = 8
"""Devices of a region without a namespace that have a node in ``/dev`` from the start, as none can be mounted later."""
_NAME = re.compile(r"dax(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


def dax_files(session: Session) -> dict[str, Entry]:
    """The bus, and the parents of its devices, where the machine has such regions."""
    regions = session.regions
    if not regions:
        return {}
    minors = Minors()
    for name in regions:
        minors.of(name)
    numbers = {region_number(name): name for name in regions}
    for number, name in numbers.items():
        for i in range(0 if regions[name].namespace else FORESEEN):
            minors.of(f"dax{number}.{i}")
    parents = {
        f"{PLATFORM}/{_place(name, regions)}".rpartition("/")[0]: _parent(session, number, minors)
        for number, name in numbers.items()
    }
    devices = Folder(
        lambda: [name for name in regions if _there(regions, name)],
        lambda name: Link(f"../../../devices/platform/{_place(name, regions)}") if _there(regions, name) else None,
    )
    ids: dict[str, set[str]] = {driver: set() for driver in DRIVERS}
    bus: dict[str, Entry] = {
        "devices": devices,
        "drivers": folder({driver: _driver(session, driver, ids[driver]) for driver in DRIVERS}),
        "drivers_autoprobe": Attribute(
            0o644, partial(drivers_autoprobe_show, session.k, "dax"), partial(drivers_autoprobe_store, session.k, "dax")
        ),
        "drivers_probe": Attribute(0o200, None, lambda text: _probe(session, ids, text)),
        "uevent": Attribute(0o200, None, partial(kobject_synth_uevent, session.k, "/bus/dax", "bus")),
    }
    nodes: dict[str, Entry] = {f"/dev/{name}": Device(0o600, MAJOR, minor) for name, minor in minors.by_name.items()}
    # A link in Linux, to the device; a mount can only be a folder, in which tools look for this.
    chars = {f"/sys/dev/char/{MAJOR}:{minor}": folder({"subsystem": Link("../../../bus/dax")})
             for minor in minors.by_name.values()}  # fmt: skip
    modules = {f"/sys/module/{driver}": folder({"initstate": Attribute(0o444, lambda: "live\n", fixed=True)})
               for driver in DRIVERS}  # fmt: skip
    return {BUS: folder(bus), **parents, **nodes, **chars, **modules}


def _there(regions: Mapping[str, Region], name: str) -> bool:
    """Whether a region is one device of the bus now: the block driver has it otherwise."""
    return name in regions and regions[name].dev is not None


def _place(name: str, regions: Mapping[str, Region]) -> str:
    """Where a device is below the platform's: a namespace's has an nd_dax device of the same name above it."""
    if not regions[name].namespace:
        return f"{hmem_name(name)}/{name}"
    return f"e820_pmem/ndbus0/region{region_number(name)}/{name}/{name}"


def _parent(session: Session, number: str, minors: Minors) -> Folder:
    """The device that offers a region: the devices of the bus in it, and what is told of the region."""
    regions = session.regions

    def names() -> list[str]:
        return [name for name in in_region(regions, number) if _there(regions, name)]

    def child(wanted: str) -> Entry | None:
        return _device(session, wanted, minors.of(wanted)) if wanted in names() else None

    def tell(action: Action, name: str) -> None:
        device_uevent(session.k, action, f"/devices/platform/{hmem_name(name)}/{name}", name, minors.of(name))

    return joined(Folder(names, child), folder({"dax_region": region_folder(session, number, tell)}))


def _matches(session: Session, driver: str, ids: set[str], name: str) -> bool:
    """By name, or by kind: memory that firmware reserved for it goes to kmem, all else to device-dax."""
    kind = "device_dax" if session.regions[name].namespace else "kmem"
    return name in ids or kind == driver


def _probe(session: Session, ids: Mapping[str, set[str]], text: str) -> None:
    """``drivers_probe``: a device without a driver is offered to all; that none takes it is no error."""
    regions = session.regions
    drivers_probe_store({name for name in regions if _there(regions, name)}, text)
    name = text.removesuffix("\n")
    for driver in DRIVERS:
        if driver_of(regions[name].mode) is None and _matches(session, driver, ids[driver], name):
            with suppress(KernelError):
                dax(session.k, regions, schema.Dax(device=name, mode=DRIVERS[driver]), session.notes)


def _device(session: Session, name: str, minor: int) -> Folder:
    """``dax0.0``: attributes, a folder a range, and the driver that it is bound to."""
    k, regions = session.k, session.regions
    namespace, span = regions[name].namespace, regions[name].span
    synth = partial(kobject_synth_uevent, k)
    up = "/".join([".."] * (_place(name, regions).count("/") + 3))

    def driver() -> str | None:
        return driver_of(regions[name].mode) if _there(regions, name) else None

    def show(say: Callable[[DevDax], object]) -> Callable[[], str]:
        return lambda: f"{say(the_dev(regions, name))}\n"

    def store_memmap(text: str) -> None:
        value = kstrtobool(text)
        if value is None:
            place = f"{KERNEL_FILE}:memmap_on_memory_store"
            raise KernelError(EINVAL, f"{text!r} is no truth value", place=place)
        memmap_on_memory_store(k, the_dev(regions, name), value, kmem=driver() == "kmem")

    def store_align(text: str) -> None:
        try:
            align = kstrtoull(text)
        except KernelError as error:
            raise KernelError(ENXIO, error.reason, place=f"{KERNEL_FILE}:align_store") from None
        align_store(k, the_dev(regions, name), align, driver=driver() is not None)

    show_align = show(lambda dev: dev.align)
    devpath = f"{PLATFORM}/{_place(name, regions)}".removeprefix("/sys")
    attributes: dict[str, Entry] = {
        # Of a static region, which a namespace's is, it can be read only (``dev_dax_visible()``).
        "align": Attribute(0o444, show_align) if namespace else Attribute(0o644, show_align, store_align),
        "dev": Attribute(0o444, lambda: f"{MAJOR}:{minor}\n", fixed=True),
        "modalias": Attribute(0o444, lambda: "dax:t0\n", fixed=True),
        "numa_node": Attribute(0o444, lambda: f"{the_region(regions, name).node}\n"),
        "resource": Attribute(0o400, show(lambda dev: f"{(dev.ranges or (span,))[0].start:#x}")),
        **size_files(session, name),
        "target_node": Attribute(0o444, show(lambda dev: dev.target_node)),
        "uevent": Attribute(0o644, lambda: _uevent(name, minor, driver()), lambda text: synth(devpath, "dax", text)),
        "subsystem": Link(f"{up}/bus/dax"),
    }
    if k.config.profile.memmap_on_memory == "many-blocks":
        show_memmap = show(lambda dev: int(dev.memmap_on_memory))
        attributes["memmap_on_memory"] = Attribute(0o644, show_memmap, store_memmap)

    def bound(wanted: str) -> Entry | None:
        return Link(f"{up}/bus/dax/drivers/{driver()}") if wanted == "driver" and driver() else None

    links = Folder(lambda: ("driver",) if driver() else (), bound, lambda: _there(regions, name))
    return joined(folder(attributes), mappings(session, name, devpath), links)


def _uevent(name: str, minor: int, driver: str | None) -> str:
    """The variables of a device's events (``drivers/base/core.c:dev_uevent``)."""
    bound = f"DRIVER={driver}\n" if driver else ""
    return f"MAJOR={MAJOR}\nMINOR={minor}\nDEVNAME={name}\n{bound}MODALIAS=dax:t0\n"


def _driver(session: Session, driver: str, ids: set[str]) -> Folder:
    """A driver of the bus: what is bound to it, and how that is changed."""
    regions = session.regions

    def change(name: str, mode: schema.DaxMode) -> None:
        dax(session.k, regions, schema.Dax(device=name, mode=mode), session.notes)

    def bind(text: str) -> None:
        """``drivers/base/bus.c:bind_store``: a device that the driver matches, and nobody has."""
        name = text.removesuffix("\n")
        if not _there(regions, name) or not _matches(session, driver, ids, name):
            raise KernelError(ENODEV, f"no device {name!r} for {driver}", place="drivers/base/bus.c:bind_store")
        if driver_of(regions[name].mode) is not None:
            raise KernelError(EBUSY, f"{name} has a driver", place="drivers/base/dd.c:device_driver_attach")
        change(name, DRIVERS[driver])

    def unbind(text: str) -> None:
        name = text.removesuffix("\n")
        if not _there(regions, name) or driver_of(regions[name].mode) != driver:
            raise KernelError(ENODEV, f"{driver} has no {name!r}", place="drivers/base/bus.c:unbind_store")
        change(name, "none")

    def identified(text: str) -> str:
        name = text.removesuffix("\n")
        if not _NAME.fullmatch(name):
            raise KernelError(EINVAL, f"{text!r} is no dax device", place=f"{KERNEL_FILE}:do_id_store")
        return name

    def new_id(text: str) -> None:
        """``do_id_store()``: the driver takes a device by its name from now on, and all that are free at once.

        Nobody hears when it fails with one (``drivers/base/dd.c:__driver_attach``).
        """
        ids.add(identified(text))
        for name, region in regions.items():
            if _there(regions, name) and driver_of(region.mode) is None and _matches(session, driver, ids, name):
                with suppress(KernelError):
                    change(name, DRIVERS[driver])

    files = {
        "bind": Attribute(0o200, None, bind),
        "unbind": Attribute(0o200, None, unbind),
        "new_id": Attribute(0o200, None, new_id),
        "remove_id": Attribute(0o200, None, lambda text: ids.discard(identified(text))),
        "uevent": Attribute(
            0o200, None, lambda text: kobject_synth_uevent(session.k, f"/bus/dax/drivers/{driver}", "drivers", text)
        ),
    }

    def has() -> list[str]:
        return [name for name in regions if _there(regions, name) and driver_of(regions[name].mode) == driver]

    links = Folder(has, lambda name: Link(f"../../../../devices/platform/{_place(name, regions)}")
                   if name in has() else None)  # fmt: skip
    return joined(folder(files), links)
