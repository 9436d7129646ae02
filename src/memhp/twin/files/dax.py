"""``/sys/bus/dax``: the devices of the DAX bus and their drivers, as ``drivers/dax/bus.c`` shows them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EBUSY, EINVAL, ENODEV, ENXIO
from functools import partial

from memhp.errors import KernelError
from memhp.linux.drivers.dax.bus import DevDax, align_store, memmap_on_memory_store
from memhp.linux.lib.kobject_uevent import kobject_synth_uevent
from memhp.linux.lib.kstrtox import kstrtobool, kstrtoull
from memhp.scenario import schema
from memhp.target.model.dax import DRIVERS, Region, dax, driver_of, hmem_name, region_number
from memhp.target.model.session import Session
from memhp.twin.tree import Attribute, Device, Entry, Folder, Link, folder, joined

KERNEL_FILE = "drivers/dax/bus.c"
BUS, PLATFORM = "/sys/bus/dax", "/sys/devices/platform"
MAJOR = 252
"""The number of the driver of such character devices, of those that are given as they come."""
_NAME = re.compile(r"dax(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


def dax_files(session: Session) -> dict[str, Entry]:
    """The bus, and the parents of its devices, where the machine has such regions."""
    regions = session.regions
    if not regions:
        return {}
    parents = {f"{PLATFORM}/{_place(name, regions)}".rpartition("/")[0]: _parent(session, name) for name in regions}
    devices = Folder(
        lambda: (name for name in regions if _there(regions, name)),
        lambda name: Link(f"../../../devices/platform/{_place(name, regions)}") if _there(regions, name) else None,
    )
    drivers = folder({driver: _driver(session, driver) for driver in DRIVERS})
    nodes: dict[str, Entry] = {f"/dev/{name}": Device(0o600, MAJOR, minor) for minor, name in enumerate(regions)}
    # A link in Linux, to the device; a mount can only be a folder, in which tools look for this.
    numbers = {f"/sys/dev/char/{MAJOR}:{minor}": folder({"subsystem": Link("../../../bus/dax")})
               for minor in range(len(regions))}  # fmt: skip
    modules = {f"/sys/module/{driver}": folder({"initstate": Attribute(0o444, lambda: "live\n", fixed=True)})
               for driver in DRIVERS}  # fmt: skip
    return {BUS: folder({"devices": devices, "drivers": drivers}), **parents, **nodes, **numbers, **modules}


def _there(regions: Mapping[str, Region], name: str) -> bool:
    """Whether a region is one device of the bus now: the block driver has it otherwise."""
    return name in regions and regions[name].dev is not None


def _place(name: str, regions: Mapping[str, Region]) -> str:
    """Where a device is below the platform's: a namespace's has an nd_dax device of the same name above it."""
    if not regions[name].namespace:
        return f"{hmem_name(name)}/{name}"
    return f"e820_pmem/ndbus0/region{region_number(name)}/{name}/{name}"


def _parent(session: Session, name: str) -> Folder:
    """The device that offers a region: the device of the bus in it, and what is told of the region."""
    regions = session.regions
    region = regions[name]

    def child(wanted: str) -> Entry | None:
        return _device(session, name) if wanted == name and _there(regions, name) else None

    own = Folder(lambda: (name,) if _there(regions, name) else (), child)
    return joined(own, folder({"dax_region": _region(name, region)}))


def _region(name: str, region: Region) -> Folder:
    """``dax_region``: what the device was cut from; a namespace's begins behind its metadata, and is one device."""

    def size() -> int:
        return sum(span.size for span in _dev(region).ranges) if region.namespace else region.span.size

    return folder(
        {
            "id": Attribute(0o444, lambda: f"{region_number(name)}\n", fixed=True),
            "size": Attribute(0o444, lambda: f"{size()}\n"),
            "align": Attribute(0o400, lambda: f"{_dev(region).align}\n"),
        }
    )


def _dev(region: Region) -> DevDax:
    """The device of a region. Raises ENODEV when there is none any more."""
    if region.dev is None:
        raise KernelError(ENODEV, "the dax device is gone", place="fs/kernfs/file.c:kernfs_fop_read_iter")
    return region.dev


def _device(session: Session, name: str) -> Folder:
    """``dax0.0``: attributes, a folder a range, and the driver that it is bound to."""
    region, k = session.regions[name], session.k
    dev, minor = _dev(region), list(session.regions).index(name)
    synth = partial(kobject_synth_uevent, k)
    up = "/".join([".."] * (_place(name, session.regions).count("/") + 3))

    def show(say: Callable[[DevDax], object]) -> Callable[[], str]:
        return lambda: f"{say(_dev(region))}\n"

    def store_memmap(text: str) -> None:
        value = kstrtobool(text)
        if value is None:
            place = f"{KERNEL_FILE}:memmap_on_memory_store"
            raise KernelError(EINVAL, f"{text!r} is no truth value", place=place)
        memmap_on_memory_store(k, _dev(region), value, kmem=region.mode == "kmem")

    def store_align(text: str) -> None:
        try:
            align = kstrtoull(text)
        except KernelError as error:
            raise KernelError(ENXIO, error.reason, place=f"{KERNEL_FILE}:align_store") from None
        align_store(k, _dev(region), align, driver=driver_of(region.mode) is not None)

    show_align = show(lambda dev: dev.align)
    devpath = f"{PLATFORM}/{_place(name, session.regions)}".removeprefix("/sys")
    attributes: dict[str, Entry] = {
        # Of a static region, which a namespace's is, it can be read only (``dev_dax_visible()``).
        "align": Attribute(0o444, show_align) if region.namespace else Attribute(0o644, show_align, store_align),
        "dev": Attribute(0o444, lambda: f"{MAJOR}:{minor}\n", fixed=True),
        "modalias": Attribute(0o444, lambda: "dax:t0\n", fixed=True),
        "numa_node": Attribute(0o444, lambda: f"{region.node}\n"),
        "resource": Attribute(0o400, show(lambda dev: f"{dev.ranges[0].start:#x}")),
        "size": Attribute(0o444, show(lambda dev: sum(span.size for span in dev.ranges))),
        "target_node": Attribute(0o444, show(lambda dev: dev.target_node)),
        "uevent": Attribute(0o644, lambda: _uevent(name, minor, region), lambda text: synth(devpath, "dax", text)),
        "subsystem": Link(f"{up}/bus/dax"),
        **{f"mapping{index}": _mapping(dev, index, k.config.page_shift) for index in range(len(dev.ranges))},
    }
    if k.config.profile.memmap_on_memory == "many-blocks":
        show_memmap = show(lambda dev: int(dev.memmap_on_memory))
        attributes["memmap_on_memory"] = Attribute(0o644, show_memmap, store_memmap)

    def bound(wanted: str) -> Entry | None:
        driver = driver_of(region.mode)
        return Link(f"{up}/bus/dax/drivers/{driver}") if wanted == "driver" and driver else None

    return joined(folder(attributes), Folder(lambda: ("driver",) if driver_of(region.mode) else (), bound,
                                             lambda: region.dev is not None))  # fmt: skip


def _mapping(dev: DevDax, index: int, page_shift: int) -> Folder:
    """``mappingN``: a range of physical addresses, and which page of the device it begins with."""
    span = dev.ranges[index]
    before = sum(each.size for each in dev.ranges[:index])
    texts = {"start": f"{span.start:#x}", "end": f"{span.end - 1:#x}", "page_offset": f"{before >> page_shift:#x}"}
    return folder({name: Attribute(0o400, lambda text=text: f"{text}\n", fixed=True) for name, text in texts.items()})  # type: ignore[misc]


def _uevent(name: str, minor: int, region: Region) -> str:
    """The variables of a device's events (``drivers/base/core.c:dev_uevent``)."""
    driver = driver_of(region.mode)
    bound = f"DRIVER={driver}\n" if driver else ""
    return f"MAJOR={MAJOR}\nMINOR={minor}\nDEVNAME={name}\n{bound}MODALIAS=dax:t0\n"


def _driver(session: Session, driver: str) -> Folder:
    """A driver of the bus: what is bound to it, and how that is changed."""
    regions, ids = session.regions, set[str]()

    def change(name: str, mode: schema.DaxMode) -> None:
        dax(session.k, regions, schema.Dax(device=name, mode=mode), session.notes)

    def bind(text: str) -> None:
        """``drivers/base/bus.c:bind_store``: a device that the driver matches, and nobody has."""
        name = text.removesuffix("\n")
        if not _there(regions, name) or not matches(name):
            raise KernelError(ENODEV, f"no device {name!r} for {driver}", place="drivers/base/bus.c:bind_store")
        if driver_of(regions[name].mode) is not None:
            raise KernelError(EBUSY, f"{name} has a driver", place="drivers/base/dd.c:device_driver_attach")
        change(name, DRIVERS[driver])

    def unbind(text: str) -> None:
        name = text.removesuffix("\n")
        if not _there(regions, name) or driver_of(regions[name].mode) != driver:
            raise KernelError(ENODEV, f"{driver} has no {name!r}", place="drivers/base/bus.c:unbind_store")
        change(name, "none")

    def matches(name: str) -> bool:
        """By name, or by kind: memory that firmware reserved for it goes to kmem, all else to device-dax."""
        kind = "device_dax" if regions[name].namespace else "kmem"
        return name in ids or kind == driver

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
            if _there(regions, name) and driver_of(region.mode) is None and matches(name):
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
