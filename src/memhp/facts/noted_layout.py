"""The address space of a dumped kernel: its areas, as VMCOREINFO and the page tables tell them.

The headers of the nearest release that is known say where an area lies; what a boot drew at random is noted, or seen in
the tables. Where the notes contradict what follows from that, `doubts` says so.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.errors import BadInput, one_of
from memhp.facts.vmcoreinfo import VmCoreInfo
from memhp.hw.ranges import Ranges
from memhp.linux.addresses import ADDRESS_MASK
from memhp.linux.arch.registry import port, read_only
from memhp.linux.areas import Area, Marker
from memhp.linux.config import Config
from memhp.linux.layout import Layout, layout
from memhp.linux.memory_maps import MemoryMaps
from memhp.linux.port import Root
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.release import FIRST, LAST, known_release, parse_release, series
from memhp.spans import Span
from memhp.units import GiB


class NotedKernel(NamedTuple):
    """A dumped kernel's areas, ascending, and its dump's sections; why they may be wrong, a line each, none as a rule.

    `layout` is None where the architecture is not modelled, `maps` where the notes do not tell where memory is mapped.
    """

    areas: tuple[Area, ...]
    markers: tuple[Marker, ...]
    layout: Layout | None
    maps: MemoryMaps | None
    doubts: tuple[str, ...]


def noted_kernel(info: VmCoreInfo, root: Root, found: Ranges) -> NotedKernel:
    """The layout of the kernel that left these notes and these page tables. Raises BadInput when it cannot be told."""
    tables = read_only(root.fmt.arch)
    if tables is not None:
        noted_areas = tables.vmcoreinfo_areas(info, root, found)
        return NotedKernel(noted_areas.areas, noted_areas.markers, None, noted_areas.maps, ())
    noted = port(root.fmt.arch).vmcoreinfo_layout(info, root, found)
    name, doubts = _nearest(info.release)
    config = Config(
        arch=port(root.fmt.arch).name,
        profile=profile(name),
        page_size=root.fmt.page_size,
        va_bits=noted.va_bits,
        lva=noted.lva,
        pa_bits=noted.pa_bits,
        bases=noted.bases,
    ).validate()
    areas = layout(config, Span(noted.ram_start, noted.ram_start + GiB))
    if info.has("vmemmap", "SYMBOL") and areas.vmemmap_base != info.symbol("vmemmap") & ADDRESS_MASK:
        doubts = (*doubts, f"vmemmap is noted at {info.symbol('vmemmap'):#x}, not at {areas.vmemmap_base:#x}")
    return NotedKernel(areas_of(areas), areas.markers, areas, memory_maps(areas), doubts)


def _nearest(release: str) -> tuple[str, tuple[str, ...]]:
    """The profile of a release, or of the nearest that is known, with what to say of that."""
    parsed = parse_release(release)
    if parsed is None:
        return f"linux-{LAST}", (f"release {release!r} is not understood: areas are those of {LAST}",)
    if known_release(parsed):
        return str(parsed), ()
    nearest = FIRST if parsed.series < series(FIRST) else LAST
    assert f"linux-{nearest}" in PROFILES
    return nearest, (f"areas are those of {nearest}, the nearest release that is known to {release}",)


def areas_of(areas: Layout) -> tuple[Area, ...]:
    """The areas of a layout that may hold translations, ascending; what lies in none of them is ``other``."""
    there = (
        areas.direct_map if areas.config.port.direct_map_in_page_tables else None,
        areas.vmalloc,
        Area(areas.vmemmap.name, *areas.vmemmap_usable),
        areas.modules,
        areas.kernel,
        areas.fixmap,
        areas.pci_io,
        areas.kasan,
    )
    found = sorted((area for area in there if area is not None and area.size > 0), key=lambda area: area.start)
    return tuple(_whole_image(area, found) if area is areas.kernel else area for area in found)


def _whole_image(kernel: Area, areas: list[Area]) -> Area:
    """The image up to where something else begins, unless in vmalloc: how large it is the notes do not tell."""
    if any(area is not kernel and area.start <= kernel.start < area.end for area in areas):
        return kernel
    return Area(kernel.name, kernel.start, min((a.start for a in areas if a.start > kernel.start), default=1 << 64))


def area_named(areas: tuple[Area, ...], name: str) -> Area:
    """One area by its name, in which case and hyphens do not matter. Raises BadInput that lists the names."""
    plain = {_plain(area.name): area for area in areas}
    if _plain(name) not in plain:
        raise BadInput(f"no area {name!r}", where="--area", fix=one_of(name, [area.name for area in areas]))
    return plain[_plain(name)]


def _plain(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ")


def memory_maps(layout: Layout) -> MemoryMaps:
    """Those of a modelled kernel."""
    config = layout.config
    return MemoryMaps(
        page_shift=config.page_shift,
        section_size=config.pages_per_section << config.page_shift,
        direct_map=layout.direct_map.span if config.port.direct_map_in_page_tables else Span(0, 0),
        direct_map_base=(layout.page_offset - layout.phys_offset) & ADDRESS_MASK,
        vmemmap=layout.vmemmap.span,
        vmemmap_usable=layout.vmemmap_usable,
        vmemmap_base=layout.vmemmap_base,
        struct_page_size=config.struct_page_size,
        memmap_leaf=config.format.levels[int(config.vmemmap_huge)].size,
        data_rules=config.port.kernel_data_rules(config),
        always_mapped=(config.port.always_mapped(config),),
    )
