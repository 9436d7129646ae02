"""``memhp geometry``: the sizes that hotplug works in, for every architecture, page size, address width and kernel."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import TYPE_CHECKING

import click

from memhp.cli.configurations import chosen_configs, configuration_options
from memhp.cli.output import console, emit_json, json_option
from memhp.errors import BadInput
from memhp.units import KiB, MiB, format_size, parse_size

if TYPE_CHECKING:
    from memhp.linux.config import Config

LEAST_RAM = 64 * MiB
"""No kernel that hotplugs memory boots with less."""

LEAST_DEVICE_BLOCK = 4 * KiB
"""No device plugs less than a page; its blocks are a power of two (virtio specification, memory device)."""


@click.command()
@configuration_options
@click.option("--memory", default="4G", metavar="SIZE", show_default=True, help="RAM at boot.")
@click.option("--max-memory", metavar="ADDRESS", help="Where memory may end one day, as ACPI's SRAT tells.")
@click.option(
    "--device-block", default="2M", metavar="SIZE", show_default=True, help="Block size of a virtio-mem device."
)
@click.option("--memmap-on-memory", is_flag=True, help="Show instead who can keep struct pages in the added memory.")
@json_option
def geometry(
    arches: tuple[str, ...],
    profiles: tuple[str, ...],
    page_size: str | None,
    va_bits: int | None,
    memory: str,
    max_memory: str | None,
    device_block: str,
    memmap_on_memory: bool,
    as_json: bool,
) -> int:
    """Show section, memory block, pageblock, virtio-mem and address-space sizes.

    For every configuration of every kernel profile, or those that the options leave.
    """
    from memhp.linux.geometry import geometry as figures
    from memhp.report.geometry import print_geometry

    chosen = chosen_configs(arches, profiles, page_size, va_bits)
    ram, block = parse_size(memory, where="--memory"), parse_size(device_block, where="--device-block")
    if not ram >= LEAST_RAM:
        text = f"a machine needs RAM: {format_size(ram)} is too little"
        raise BadInput(text, where="--memory", fix="64M or more, such as 4G")
    if memmap_on_memory:
        return _memmap_on_memory(chosen, ram, as_json=as_json)
    if block & (block - 1) or block < LEAST_DEVICE_BLOCK:
        text = f"a device cannot work in blocks of {format_size(block)}"
        raise BadInput(text, where="--device-block", fix="such as 2M")
    limit = None if max_memory is None else parse_size(max_memory, where="--max-memory")
    if limit is not None and limit < ram:
        text = f"memory cannot end at {limit:#x} when there are {format_size(ram)} of it"
        raise BadInput(text, where="--max-memory", fix="an address above the RAM at boot")
    rows = figures(chosen, ram_size=ram, device_block_size=block, max_possible=limit)
    if as_json:
        from memhp.report.documents import GeometryDocument

        emit_json(GeometryDocument(rows=rows))
    else:
        print_geometry(console(), rows)
    return 0


def _memmap_on_memory(chosen: "list[Config]", ram_size: int, *, as_json: bool) -> int:
    """The verdict on every configuration, in every mode of ``memory_hotplug.memmap_on_memory``."""
    from memhp.linux.memmap_verdicts import memmap_rows
    from memhp.report.memmap_on_memory import print_memmap_on_memory

    rows = list(memmap_rows(chosen, ram_size))
    if as_json:
        from memhp.report.documents import GeometryDocument

        emit_json(GeometryDocument(memmap_on_memory=rows))
    else:
        print_memmap_on_memory(console(), rows)
    return 0
