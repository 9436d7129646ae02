"""A namespace of persistent memory as a device of the DAX bus: ``drivers/dax/pmem.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENXIO

from memhp.errors import KernelError
from memhp.linux.drivers.dax.bus import DevDax, alloc_dax_region, dax_region_unregister
from memhp.linux.drivers.nvdimm.pfn_devs import PfnInfo, nvdimm_setup_pfn
from memhp.linux.drivers.nvdimm.pmem import release_mem_region, request_mem_region
from memhp.linux.mm.memremap import NO_ZONE_DEVICE
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/dax/pmem.c"
PROBE = f"{KERNEL_FILE}:__dax_pmem_probe"


def dax_pmem_probe(k: Kernel, name: str, namespace_name: str, namespace: Span, info: PfnInfo, nid: int) -> DevDax:
    """Claim the metadata at the start of a namespace (physical bytes); the device is the rest.

    Raises EBUSY, ENOMEM where another region overlaps it, and ENXIO where devices get no struct pages
    (``CONFIG_NVDIMM_PFN`` wants ``CONFIG_ZONE_DEVICE``).
    """
    if not k.config.zone_device:
        raise KernelError(ENXIO, NO_ZONE_DEVICE, place=PROBE)
    request_mem_region(k, Span(namespace.start, namespace.start + info.dataoff), namespace_name, PROBE)
    pgmap = nvdimm_setup_pfn(k.config, namespace, info)
    data = Span(namespace.start + info.dataoff, pgmap.ranges[0].end)
    try:
        alloc_dax_region(k, namespace_name, data)
    except KernelError:
        release_mem_region(k, Span(namespace.start, namespace.start + info.dataoff))
        raise
    return DevDax(name, (data,), info.align, nid, static_pgmap=pgmap)


def dax_pmem_remove(k: Kernel, namespace_name: str, namespace: Span, info: PfnInfo) -> None:
    """Give the metadata back."""
    dax_region_unregister(k, namespace_name)
    release_mem_region(k, Span(namespace.start, namespace.start + info.dataoff))
