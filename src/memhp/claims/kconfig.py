"""Will this kernel hotplug memory? The conditions of ``mm/Kconfig`` and the ports, release by release.

A build asks for options; one that it may not have falls away, and one that another selects comes along. What is not a
rule here (``SPARSEMEM``, ``NUMA`` …) is as the build asks.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Set
from types import MappingProxyType

Rules = Mapping[str, Set[str]]
"""An option and the options that it depends on."""

_SINCE_5_13: Rules = MappingProxyType(
    {
        "MEMORY_HOTPLUG": {"SPARSEMEM", "64BIT", "ARCH_ENABLE_MEMORY_HOTPLUG"},
        "MEMORY_HOTREMOVE": {"MEMORY_HOTPLUG", "ARCH_ENABLE_MEMORY_HOTREMOVE", "MIGRATION"},
        "ZONE_DEVICE": {"MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "SPARSEMEM_VMEMMAP", "ARCH_HAS_PTE_DEVMAP"},
        "MHP_MEMMAP_ON_MEMORY": {"MEMORY_HOTPLUG", "SPARSEMEM_VMEMMAP", "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE"},
        "VIRTIO_MEM": {"MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "CONTIG_ALLOC", "EXCLUSIVE_SYSTEM_RAM"},
    }
)

RULES: Mapping[str, Rules] = MappingProxyType(
    {
        "riscv-hotplug-v1": {
            **_SINCE_5_13,
            "ARCH_ENABLE_MEMORY_HOTPLUG": {"SPARSEMEM", "64BIT", "MMU"},
            "ARCH_ENABLE_MEMORY_HOTREMOVE": {"SPARSEMEM", "64BIT", "MMU"},
            "ARCH_HAS_PTE_DEVMAP": {"NOT_IN_V1"},
            "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE": {"NOT_IN_V1"},
        },
        "linux-6.12": {
            **_SINCE_5_13,
            "ARCH_ENABLE_MEMORY_HOTPLUG": {"SPARSEMEM_VMEMMAP"},
            "ARCH_ENABLE_MEMORY_HOTREMOVE": {"MEMORY_HOTPLUG"},
            "ARCH_HAS_PTE_DEVMAP": {"64BIT", "MMU"},
            "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE": {"64BIT", "MMU"},
        },
        "linux-7.2": {
            **_SINCE_5_13,
            "MEMORY_HOTPLUG": {"SPARSEMEM", "64BIT", "ARCH_ENABLE_MEMORY_HOTPLUG"},
            "MEMORY_HOTREMOVE": {"MEMORY_HOTPLUG"},
            "ZONE_DEVICE": {"MEMORY_HOTPLUG", "MEMORY_HOTREMOVE"},
            "MHP_MEMMAP_ON_MEMORY": {"MEMORY_HOTPLUG", "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE"},
            "ARCH_ENABLE_MEMORY_HOTPLUG": {"SPARSEMEM", "64BIT", "MMU"},
            "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE": {"64BIT", "MMU"},
        },
    }
)
"""riscv by kernel. 7.2 has remove wherever it has add: it selects MIGRATION, and asks no port. ``SPARSEMEM_VMEMMAP`` is
no question any more since 6.18: it comes with ``SPARSEMEM`` in 64-bit builds.
"""

_WHOLE = frozenset(
    {
        "SPARSEMEM", "SPARSEMEM_VMEMMAP", "64BIT", "MMU", "MIGRATION", "CONTIG_ALLOC", "EXCLUSIVE_SYSTEM_RAM",
        "MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "ZONE_DEVICE", "MHP_MEMMAP_ON_MEMORY", "VIRTIO_MEM",
        "ARCH_ENABLE_MEMORY_HOTPLUG", "ARCH_ENABLE_MEMORY_HOTREMOVE", "ARCH_HAS_PTE_DEVMAP",
        "ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE",
    }
)  # fmt: skip

BUILDS: Mapping[str, Set[str]] = MappingProxyType(
    {
        "as distributions build it": _WHOLE,
        "without MIGRATION": _WHOLE - {"MIGRATION"},
        "without SPARSEMEM_VMEMMAP": _WHOLE - {"SPARSEMEM_VMEMMAP"},
        "without ZONE_DEVICE": _WHOLE - {"ZONE_DEVICE"},
        "32-bit": _WHOLE - {"64BIT"},
    }
)
"""Builds by what they ask for."""


def option(kernel: str, name: str, asked: Set[str]) -> bool:
    """Whether a build of that kernel has an option that it asks for: all that it depends on is there too."""
    needs = RULES[kernel].get(name, frozenset())
    return name in asked and all(option(kernel, each, asked) for each in needs)
