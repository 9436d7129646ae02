"""drgn as an oracle: its own page-table walk over any memory, without debug information."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable

from memhp.hw.format import Format

Read = Callable[[int, int], bytes]
"""``read(pa, size)``: bytes of physical memory; KeyError for what is not there."""


def drgn_walk(
    arch: str,
    vmcoreinfo: bytes,
    pgd: int,
    spans: Iterable[tuple[int, int]],
    read: Read,
    *,
    little_endian: bool = True,
) -> Callable[[int], int | None]:
    """A function from a virtual address to drgn's physical one, None where drgn finds a fault.

    `pgd` is the virtual address of the root table, `spans` the (physical address, size) of the memory there is.
    """
    import drgn
    from _drgn import _linux_helper_follow_phys

    platform = {
        "x86_64": drgn.Architecture.X86_64,
        "arm64": drgn.Architecture.AARCH64,
        "s390x": drgn.Architecture.S390X,
        "ppc64": drgn.Architecture.PPC64,
    }[arch]
    flags = drgn.PlatformFlags.IS_64_BIT
    if little_endian:
        flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
    program = drgn.Program(drgn.Platform(platform, flags))
    program.set_linux_kernel_custom(vmcoreinfo, False)

    def fetch(address: int, size: int, offset: int, physical: bool) -> bytes:
        try:
            return read(address, size)
        except KeyError as error:
            raise drgn.FaultError("not there", address) from error

    for pa, size in spans:
        program.add_memory_segment(pa, size, fetch, True)

    def follow(va: int) -> int | None:
        try:
            return int(_linux_helper_follow_phys(program, pgd, va))
        except drgn.FaultError:
            return None

    return follow


def vmcoreinfo_for(fmt: Format, pgd_pa: int) -> tuple[bytes, int]:
    """A VMCOREINFO that describes a kernel with its root table at this address, and the root's virtual address."""
    va = 0xFFFF_FFFF_8100_0000 if fmt.arch == "x86_64" else 0xFFFF_FFFF_C000_0000
    lines = {
        "OSRELEASE": "6.12.0",
        "PAGESIZE": str(fmt.page_size),
        "SYMBOL(init_uts_ns)": f"{va:x}",
        "OFFSET(uts_namespace.name)": "0",
        "SYMBOL(swapper_pg_dir)": f"{va:x}",
        "KERNELOFFSET": "0",
    }
    if fmt.arch == "x86_64":
        lines["NUMBER(phys_base)"] = str(pgd_pa - (va - 0xFFFF_FFFF_8000_0000))
        lines["NUMBER(pgtable_l5_enabled)"] = str(int(fmt.va_bits == 57))
        lines["SYMBOL(init_top_pgt)"] = f"{va:x}"
    else:
        lines["NUMBER(VA_BITS)"] = str(fmt.va_bits)
        lines["NUMBER(TCR_EL1_T1SZ)"] = hex(64 - fmt.va_bits)
        lines["NUMBER(kimage_voffset)"] = hex((va - pgd_pa) % (1 << 64))
        lines["NUMBER(PHYS_OFFSET)"] = "0x40000000"
        lines["NUMBER(MAX_PHYSMEM_BITS)"] = str(fmt.pa_bits)
    return "".join(f"{key}={value}\n" for key, value in lines.items()).encode(), va
