"""``dax_region`` of a device that offers a region, and what of a dax device changes its ranges."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from errno import EINVAL, ENODEV, ENXIO

from memhp.errors import KernelError
from memhp.linux.drivers.dax.bus import DaxRegions, DevDax
from memhp.linux.lib.kobject_uevent import Action, kobject_uevent
from memhp.linux.lib.kstrtox import kstrtoint, kstrtoull
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.target.model.dax_region import (
    Region,
    available_size,
    create,
    delete,
    hmem_name,
    in_region,
    write_mapping,
    write_size,
)
from memhp.target.model.session import Session
from memhp.twin.files.device import uevent
from memhp.twin.tree import Attribute, Entry, Folder, folder

KERNEL_FILE = "drivers/dax/bus.c"
MAJOR = 252
"""The number of the driver of such character devices, of those that are given as they come."""


@dataclass
class Minors:
    """The numbers of dax devices: each keeps its own, as ``/dev`` has it, whether it is there or not."""

    by_name: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> int:
        """That of a device."""
        return self.by_name.setdefault(name, len(self.by_name))


def gone() -> KernelError:
    """What holders of a file of a device that is not there any more are told."""
    return KernelError(ENODEV, "the dax device is gone", place="fs/kernfs/file.c:kernfs_fop_read_iter")


def the_region(regions: Mapping[str, Region], name: str) -> Region:
    """A device by its name, which another one of that name may have by now. Raises ENODEV when there is none."""
    if name not in regions:
        raise gone()
    return regions[name]


def the_dev(regions: Mapping[str, Region], name: str) -> DevDax:
    """The same, on the bus."""
    dev = the_region(regions, name).dev
    if dev is None:
        raise gone()
    return dev


def ranges_now(regions: Mapping[str, Region], name: str) -> tuple[Span, ...]:
    """A device's ranges; none where it is not there."""
    dev = regions[name].dev if name in regions else None
    return dev.ranges if dev is not None else ()


def device_uevent(k: Kernel, action: Action, devpath: str, name: str, minor: int) -> None:
    """A device comes or goes (``drivers/base/core.c:dev_uevent``)."""
    extra = (("MAJOR", str(MAJOR)), ("MINOR", str(minor)), ("DEVNAME", name), ("MODALIAS", "dax:t0"))
    kobject_uevent(k, action, devpath, "dax", extra)


def region_folder(session: Session, number: str, tell: Callable[[Action, str], None]) -> Folder:
    """``dax_region``: what a region is, and of one without a namespace what makes and ends devices of it.

    `tell` sends the event of a device that comes or goes.
    """
    k, regions = session.k, session.regions
    parent = hmem_name(f"dax{number}.0")

    def first() -> str:
        found = next(iter(in_region(regions, number)), None)
        if found is None:
            raise gone()
        return found

    namespace = regions[first()].namespace

    def size() -> int:
        # A namespace's region begins behind its metadata, and is one device.
        return sum(span.size for span in the_dev(regions, first()).ranges) if namespace else regions[first()].span.size

    def align() -> int:
        return the_dev(regions, first()).align if namespace else k.config.pmd_size

    def store_create(text: str) -> None:
        value = kstrtoint(text)
        if value != 1:
            raise KernelError(EINVAL, f"{value} is not 1", place=f"{KERNEL_FILE}:create_store")
        tell("add", create(k, regions, number))

    def store_delete(text: str) -> None:
        name = text.removesuffix("\n")
        delete(k, regions, number, name)
        tell("remove", name)

    def shown(known: Callable[[DaxRegions], dict[str, str]]) -> Callable[[], str]:
        return lambda: f"{known(k.statics(DaxRegions)).get(parent, '')}\n"

    files: dict[str, Entry] = {
        "id": Attribute(0o444, lambda: f"{number}\n", fixed=True),
        "size": Attribute(0o444, lambda: f"{size()}\n"),
        "align": Attribute(0o400, lambda: f"{align()}\n"),
    }
    if not namespace:  # ``dax_region_visible()``
        files |= {
            "available_size": Attribute(0o444, lambda: f"{available_size(regions, number)}\n"),
            "create": Attribute(0o644, shown(lambda known: known.youngest), store_create),
            "delete": Attribute(0o200, None, store_delete),
            "seed": Attribute(0o444, shown(lambda known: known.seed)),
        }
    return folder(files)


def size_files(session: Session, name: str) -> dict[str, Entry]:
    """``size`` of a device, and ``mapping``, which one of a namespace has not (``dev_dax_visible()``)."""
    k, regions = session.k, session.regions

    def show_size() -> str:
        return f"{sum(span.size for span in the_dev(regions, name).ranges)}\n"

    def store_size(text: str) -> None:
        write_size(k, regions, name, kstrtoull(text), the_dev(regions, name).align)

    def store_mapping(text: str) -> None:
        start, dash, end = text.partition("-")
        if not dash:
            raise KernelError(EINVAL, f"{text.strip()!r} is no range", place=f"{KERNEL_FILE}:range_parse")
        write_mapping(k, regions, name, the_dev(regions, name), kstrtoull(start, 16), kstrtoull(end, 16))

    if regions[name].namespace:
        return {"size": Attribute(0o444, show_size)}
    return {"size": Attribute(0o644, show_size, store_size), "mapping": Attribute(0o200, None, store_mapping)}


def mappings(session: Session, device: str, devpath: str) -> Folder:
    """``mappingN``: the ranges that a device has now."""

    def names() -> list[str]:
        return [f"mapping{index}" for index in range(len(ranges_now(session.regions, device)))]

    def child(name: str) -> Entry | None:
        return _mapping(session, device, names().index(name), f"{devpath}/{name}") if name in names() else None

    return Folder(names, child)


def _mapping(session: Session, device: str, index: int, devpath: str) -> Folder:
    """A range of physical addresses, and which page of the device it begins with."""

    def ranges() -> tuple[Span, ...]:
        return ranges_now(session.regions, device)

    def there() -> bool:
        return index < len(ranges())

    def told(say: Callable[[tuple[Span, ...]], int]) -> Attribute:
        def show() -> str:
            if not there():
                raise KernelError(ENXIO, "the range is gone", place=f"{KERNEL_FILE}:get_dax_range")
            return f"{say(ranges()):#x}\n"

        return Attribute(0o400, show)

    page = session.k.config.page_size
    files = {
        "start": told(lambda ranges: ranges[index].start),
        "end": told(lambda ranges: ranges[index].end - 1),
        "page_offset": told(lambda ranges: sum(each.size for each in ranges[:index]) // page),
        "uevent": uevent(session.k, devpath, ""),
    }
    return Folder(lambda: files, files.get, there)
