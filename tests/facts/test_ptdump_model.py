"""The page-table dump of a modelled machine against the dump that real kernels printed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from captures import facts, open_capture
from memhp.facts.ptdump_model import model_ptdump
from memhp.hw.memory import Owner, Use
from memhp.linux.init import start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.state import Kernel
from memhp.scenario.schema import MachineText
from memhp.spans import Span
from memhp.target.seen.sources import facts_spec
from memhp.units import MiB

ARM64_64K = "arm64-custom-arm64-64k-virtio-mem-default"
RISCV_SV57 = "riscv64-custom-riscv64-kmem-map-ram-mom1"


def real_dump(name: str, step: str) -> str:
    return open_capture(name)[step].read("/sys/kernel/debug/kernel_page_tables")


def section(text: str, first: str, last: str) -> list[str]:
    """The lines of a dump from one section marker to another, both included."""
    lines = text.splitlines()
    start = lines.index(f"---[ {first} ]---")
    end = lines.index(f"---[ {last} ]---", start) if last else len(lines)
    return lines[start : end + 1]


def boot_like(name: str, step: str) -> Kernel:
    return start_kernel(facts_spec(facts(name, step), MachineText(source=name)))


def plug(k: Kernel, start: int, size: int, flags: int) -> Span:
    shift = k.config.page_shift
    span = Span(start >> shift, start + size >> shift)
    k.hw.plug(span, Owner(Use.DEVICE, "test"))
    add_memory_driver_managed(k, 0, start, size, "System RAM (kmem)", flags)
    return span


def test_arm64_with_64k_pages_prints_the_vmemmap_as_the_real_one() -> None:
    k = boot_like(ARM64_64K, "0-before")
    vmemmap = ("vmemmap start", "vmemmap end")
    assert section(model_ptdump(k), *vmemmap) == section(real_dump(ARM64_64K, "0-before"), *vmemmap)
    plug(k, 0x8000_0000, 512 * MiB, MHP_NONE)
    assert section(model_ptdump(k), *vmemmap) == section(real_dump(ARM64_64K, "1-plugged"), *vmemmap)


def test_arm64_with_64k_pages_prints_the_direct_map_of_added_memory_as_the_real_one() -> None:
    k = boot_like(ARM64_64K, "0-before")
    plug(k, 0x8000_0000, 512 * MiB, MHP_NONE)
    names = ("Linear Mapping start", "Linear Mapping end")
    modelled, real = section(model_ptdump(k), *names), section(real_dump(ARM64_64K, "1-plugged"), *names)
    assert modelled[-3:] == real[-3:]
    assert _end_and_attributes(modelled[-4]) == _end_and_attributes(real[-4])
    assert _end_and_attributes(real[-4])[0] == f"{k.layout.phys_to_virt(0x8000_0000 + 512 * MiB):#x}"


def _end_and_attributes(line: str) -> tuple[str, ...]:
    """A range without its start and size: the real one starts behind the kernel image, which is mapped apart."""
    addresses, _, *attributes = line.split()
    return addresses.partition("-")[2], *attributes


def test_riscv_prints_self_hosted_memory_as_the_real_one_and_nothing_of_it_once_removed() -> None:
    k = boot_like(RISCV_SV57, "0-pmem-raw")
    start, size = 0x1_0800_0000, 896 * MiB
    plug(k, start, size, MHP_MEMMAP_ON_MEMORY)
    hot = {k.layout.phys_to_virt(start), k.layout.pfn_to_page(start >> k.config.page_shift)}
    assert _lines_at(model_ptdump(k), hot) == _lines_at(real_dump(RISCV_SV57, "2-kmem-added"), hot)
    assert len(_lines_at(model_ptdump(k), hot)) == len(hot)
    remove_memory(k, start, size)
    assert _lines_at(model_ptdump(k), hot) == _lines_at(real_dump(RISCV_SV57, "5-removed"), hot) == []


def _lines_at(text: str, addresses: set[int]) -> list[str]:
    """The ranges of a dump that start at one of these addresses."""
    return [line for line in text.splitlines() if line.startswith(tuple(f"{va:#018x}-" for va in addresses))]
