"""Devices of the DAX bus: ``drivers/dax/bus.c`` and ``dax-private.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.linux.kernel.resource import Resource
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.spans import Span


@dataclass
class KmemData:
    """``struct dax_kmem_data``: what the kmem driver has added for a device."""

    mgid: int | None
    """Its memory group, in kernels that have groups."""
    res: list[Resource | None]
    """The resource around each range's memory; None for a range that was not added."""


@dataclass
class DevDax:
    """``struct dev_dax``: one device and the physical bytes that it consists of."""

    name: str
    ranges: tuple[Span, ...]
    align: int
    target_node: int = 0
    """The node that its memory would be, were it RAM."""
    memmap_on_memory: bool = False
    """The attribute that says whether kmem asks for struct pages in the memory itself."""
    static_pgmap: DevPagemap | None = None
    """The mapping that a namespace brings (``static_dev_dax()``); None for a device with no metadata of its own."""
    pgmap: DevPagemap | None = None
    """What device-dax mapped."""
    kmem: KmemData | None = field(default=None, repr=False)
