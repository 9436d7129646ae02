"""arm64: the attributes of the kernel's entries: arch/arm64/include/asm/pgtable-prot.h, -hwdef.h and memory.h."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import PRESENT_INVALID, VALID
from memhp.linux.config import Config
from memhp.linux.place import of_file

KERNEL_FILE = "arch/arm64/include/asm/pgtable-prot.h"
MT_NORMAL = {"5.2": 4, "5.10": 0, "5.14": 0, "6.1.167": 0, "6.5": 0, "7.0": 0, "7.2": 0}
"""The number of Normal memory in MAIR_EL1, by ``Arm64Profile.kernel_prot``."""
MT_NORMAL_TAGGED = 1
MT_DEVICE_NGNRNE = {"5.2": 0, "5.10": 4, "5.14": 3, "6.1.167": 3, "6.5": 3, "7.0": 3, "7.2": 3}
"""The number of Device-nGnRnE memory, likewise."""
CLEAN = ("5.10", "5.14", "6.5")
"""Versions in which kernel leaves do not carry PTE_DIRTY."""
PTE_DIRTY = 1
"""The lowest of the descriptor's software bits (bit 55)."""

TABLE_PXN = 1 << 59
"""PXNTable: nothing below is executable in the kernel."""
TABLE_UXN = 1 << 60
"""UXNTable."""
TABLE_AF = 1 << 10
"""The access flag of a table descriptor (FEAT_HAFT)."""


def prot_normal(config: Config, *, dirty: bool, writable: bool = True, tagged: bool = False) -> int:
    """Attribute bits of a kernel leaf of Normal memory that nobody may execute; the leaf's type is not among them.

    Descriptors with 52-bit addresses under LPA2 have no shareability: TCR_EL1 says it for all.
    """
    fmt = config.format
    names = {field.name for field in fmt.fields}
    return fmt.bits(
        AttrIndx=MT_NORMAL_TAGGED if tagged else MT_NORMAL[arm64(config).kernel_prot],
        AF=1,
        PXN=1,
        UXN=1,
        DBM=int(writable),
        SW=PTE_DIRTY if dirty else 0,
        **({"SH": 3} if "SH" in names else {}),
    )


def page_kernel(config: Config) -> int:
    """``PAGE_KERNEL``; ``PTE_WRITE`` is the DBM bit."""
    return prot_normal(config, dirty=arm64(config).kernel_prot not in CLEAN)


def page_kernel_ram(config: Config) -> int:
    """RAM in the direct map: ``pgprot_tagged(PAGE_KERNEL)`` since it may hold memory tags."""
    version = arm64(config).kernel_prot
    return prot_normal(config, dirty=version not in CLEAN, tagged=version != "5.2")


@of_file("arch/arm64/include/asm/pgtable.h")
def pgprot_noncached(config: Config, prot: int) -> int:
    """The same attributes for Device-nGnRnE memory: ``pgprot_noncached()``."""
    fmt = config.format
    return prot & ~fmt.bits(AttrIndx=7) | fmt.bits(AttrIndx=MT_DEVICE_NGNRNE[arm64(config).kernel_prot])


@of_file("arch/arm64/include/asm/pgtable.h")
def pte_present(entry: int) -> bool:
    """Whether an entry holds something: it is valid, or marked as what was taken out of the direct map."""
    return bool(entry & (VALID | PRESENT_INVALID))


def vmemmap_block(config: Config) -> int:
    """A PMD leaf of struct pages: ``PROT_SECT_NORMAL``, since 7.2 ``PAGE_KERNEL``."""
    version = arm64(config).kernel_prot
    if version == "7.2":
        return page_kernel(config)
    return prot_normal(config, dirty=False, writable=version in {"6.5", "7.0"})


TABLE_ATTRIBUTES = {
    "direct map": TABLE_UXN | TABLE_PXN | TABLE_AF,
    "vmemmap": TABLE_UXN | TABLE_AF,
    "image": TABLE_UXN,
    "fixmap": TABLE_AF,
}
"""What entries carry that point to tables, by what the table was made for: ``__create_pgd_mapping()``,
``pud_populate()`` and its kin, ``map_range()``, ``early_fixmap_init()``."""


def table_bits(config: Config, *, of: str = "vmemmap") -> int:
    """What an entry carries that points to a table of the kernel, made for one of `TABLE_ATTRIBUTES`."""
    bits = config.format.table_bits
    attributes = arm64(config).table_attributes
    if attributes == "none":
        return bits
    return bits | TABLE_ATTRIBUTES[of] & ~(0 if attributes == "XN-AF" else TABLE_AF)
