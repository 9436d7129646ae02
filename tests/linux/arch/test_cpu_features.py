"""What a machine's CPUs, its command line and its firmware's CXL windows tell, and what kernels make of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import pytest

from captures import facts, guests, open_capture
from kernels import kernel
from memhp.errors import BadInput
from memhp.facts import cpuinfo, dmesg
from memhp.facts.observed import Facts
from memhp.hw.memory import Use
from memhp.linux.arch.arm64.kernel.cpufeature import arch_parse_debug_rodata, cpu_supports_bbml2_noabort
from memhp.linux.arch.registry import ARCHES, port
from memhp.linux.config import Config
from memhp.linux.drivers.acpi.numa.srat import memory_block_advice
from memhp.linux.drivers.base.block_size import memory_block_size_bytes
from memhp.linux.mm.vmalloc import vfree, vmalloc
from memhp.linux.mm.vmap import vmap_range_noflush
from memhp.linux.profiles import profile
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, Cpu, MachineText, Memory
from memhp.spans import Span
from memhp.target.seen.sources import facts_spec
from memhp.units import GiB, KiB, MiB


@pytest.mark.parametrize(
    ("midr", "known"),
    [
        # linux-7.2 arch/arm64/kernel/cpufeature.c:cpu_supports_bbml2_noabort; part numbers: asm/cputype.h.
        (0x410FD823, True),  # Cortex-X4 r0p3
        (0x410FD822, False),  # Cortex-X4 r0p2
        (0x411FD820, True),  # Cortex-X4 r1p0
        (0x410FD842, True),  # Neoverse V3 r0p2
        (0x410FD841, False),
        (0x410FD832, True),  # Neoverse V3AE r0p2
        (0x4E0F0100, True),  # NVIDIA Olympus
        (0xC00FAC30, True),  # Ampere1
        (0xC00FAC40, True),  # Ampere1A
        (0xC00FAC50, False),
        (0x410FD0B1, False),  # Cortex-A76
        (0x000F0510, False),  # QEMU's `max`
    ],
)
def test_the_cpus_that_kernels_trust_to_split_live_leaves(midr: int, known: bool) -> None:
    assert cpu_supports_bbml2_noabort({midr}) is known
    assert not cpu_supports_bbml2_noabort({midr, 0x410FD0B1}), "all of them have to"


def test_no_cpu_is_no_answer() -> None:
    assert not cpu_supports_bbml2_noabort(())


CPUINFO_V3 = """processor\t: 0
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd84
CPU revision\t: 2

"""


def test_cpuinfo_shows_the_identity_of_arm_cpus_and_what_all_x86_cpus_can_do() -> None:
    assert cpuinfo.parse(CPUINFO_V3 * 2).midrs == {0x410FD842}
    amd = "processor\t: 0\nflags\t\t: fpu tce invlpgb\n\nprocessor\t: 1\nflags\t\t: fpu tce\n"
    assert cpuinfo.parse(amd).flags == {"fpu", "tce"}
    with pytest.raises(BadInput, match="'CPU part' is no number"):
        cpuinfo.parse(CPUINFO_V3.replace("0xd84", "V3"))


def test_the_kernel_log_shows_it_too() -> None:
    log = dmesg.parse(
        "[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd842]\n"
        "[    0.039] CPU1: Booted secondary processor 0x0000000001 [0x410fd841]\n"
    )
    assert log.midrs == {0x410FD842, 0x410FD841}


def captured(word: str) -> Facts:
    name = next(name for name in guests() if word in name)
    return facts(name, next(iter(open_capture(name))))


def config_of(seen: Facts, **keys: object) -> Config:
    return facts_spec(seen, MachineText(**keys)).config  # type: ignore[arg-type]


def test_what_a_captured_machine_tells_decides_and_the_scenario_may_differ() -> None:
    seen = captured("arm64-7.2")
    assert not config_of(seen).tlb_range and not config_of(seen).bbml2, "nothing tells"
    log = dmesg.parse("[    0.31] CPU features: detected: TLB range maintenance instructions\n")
    assert config_of(replace(seen, boot_log=log)).tlb_range
    known = replace(seen, cpuinfo=cpuinfo.parse(CPUINFO_V3), boot_log=None)
    assert config_of(known).bbml2
    assert not config_of(known, cpu=Cpu(bbml2=False)).bbml2


@pytest.mark.parametrize(
    ("release", "word", "full"),
    [
        # arch/arm64/include/asm/setup.h:arch_parse_debug_rodata of 6.12 and 7.2.
        ("linux-6.12", None, True), ("linux-6.12", "full", True), ("linux-6.12", "on", False),
        ("linux-6.12", "off", False), ("linux-6.12", "noalias", True),
        ("linux-7.2", None, True), ("linux-7.2", "on", True), ("linux-7.2", "full", True),
        ("linux-7.2", "noalias", False), ("linux-7.2", "off", False),
    ],
)  # fmt: skip
def test_what_rodata_says_depends_on_the_release(release: str, word: str | None, full: bool) -> None:
    config = Config("arm64", profile(release), 4 * KiB, 48)
    assert arch_parse_debug_rodata(config, word) is full
    assert port("arm64").told_config(config, (), (), word).rodata_full is full


def with_options(seen: Facts, *options: tuple[str, str | None]) -> Facts:
    assert seen.cmdline is not None
    return replace(seen, cmdline=replace(seen.cmdline, options=(*seen.cmdline.options, *options)))


def test_the_command_line_of_a_captured_machine_is_in_effect() -> None:
    seen = captured("arm64-6.12")
    assert config_of(seen).rodata_full and not config_of(seen).debug_pagealloc
    assert not config_of(with_options(seen, ("rodata", "on"))).rodata_full
    assert config_of(with_options(seen, ("debug_pagealloc", "on"))).debug_pagealloc


@pytest.mark.parametrize(
    ("word", "meant"),
    [("1", True), ("y", True), ("On", True), ("off", False), ("0", False), ("2", False), (None, False)],
)
def test_debug_pagealloc_takes_what_other_truth_values_take(word: str | None, meant: bool) -> None:
    """mm/debug_page_alloc.c:early_debug_pagealloc hands its word to kstrtobool(); without one that fails."""
    assert config_of(with_options(captured("arm64-6.12"), ("debug_pagealloc", word))).debug_pagealloc is meant


def test_debug_pagealloc_is_not_where_the_direct_map_has_large_leaves() -> None:
    """Kernels without CONFIG_DEBUG_PAGEALLOC, as distributions build them, pass over it."""
    seen = captured("x86_64-6.12")
    assert seen.meminfo["DirectMap2M"] > 0
    assert not config_of(with_options(seen, ("debug_pagealloc", "on"))).debug_pagealloc
    small = replace(seen, meminfo={**seen.meminfo, "DirectMap2M": 0, "DirectMap1G": 0})
    assert config_of(with_options(small, ("debug_pagealloc", "on"))).debug_pagealloc


class TestCxlWindows:
    """linux-7.2 drivers/acpi/numa/srat.c:acpi_parse_cfmws, drivers/base/memory.c:memory_block_advise_max_size."""

    @pytest.mark.parametrize(
        ("windows", "advice"),
        [
            ([], 0),
            ([Span(64 * GiB, 80 * GiB)], 16 * GiB),
            ([Span(64 * GiB, 64 * GiB + 256 * MiB)], 256 * MiB),
            ([Span(64 * GiB, 64 * GiB + 128 * MiB)], 0),
            ([Span(64 * GiB, 80 * GiB), Span(80 * GiB, 80 * GiB + 512 * MiB)], 512 * MiB),
            ([Span(64 * GiB, 80 * GiB), Span(80 * GiB, 80 * GiB + 64 * MiB)], 16 * GiB),
        ],
    )
    def test_the_smallest_alignment_of_256_mib_or_more_is_the_advice(self, windows: list[Span], advice: int) -> None:
        assert memory_block_advice(windows) == advice

    @pytest.mark.parametrize(
        ("release", "hypervisor", "windows", "size"),
        [
            ("7.2", False, [], 2 * GiB),
            ("7.2", False, [Memory(size="16G", start="0x2040000000")], 1 * GiB),
            ("7.2", True, [Memory(size="768M", start="0x2000000000")], 256 * MiB),
            ("7.2", False, [Memory(size="64M", start="0x2000000000")], 2 * GiB),
            ("6.12", False, [Memory(size="768M", start="0x2000000000")], 2 * GiB),
        ],
    )
    def test_memory_blocks_of_a_large_x86_machine_are_no_larger(
        self, release: str, hypervisor: bool, windows: list[Memory], size: int
    ) -> None:
        text = MachineText(preset="x86-vm", profile=release, memory="96G", hypervisor=hypervisor, cxl_windows=windows)
        spec = machine_spec(text)
        assert memory_block_size_bytes(spec.config, 128 * GiB) == size

    def test_a_window_without_a_start_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"cxl_windows\[0\]\.start: a window lies somewhere"):
            machine_spec(MachineText(preset="x86-vm", cxl_windows=[Memory(size="1G")]))


class TestAmdFlushes:
    """linux-7.2 arch/x86/mm/tlb.c, arch/x86/kernel/cpu/amd.c (EFER.TCE), arch/x86/mm/pgtable.c:pud_free_pmd_page."""

    @pytest.mark.parametrize(
        ("release", "invlpgb", "operation"),
        [
            ("linux-7.2", True, "invlpgb, tlbsync"),
            ("linux-7.2", False, "IPI, __flush_tlb_all"),
            ("linux-6.12", True, "IPI, __flush_tlb_all"),
        ],
    )
    def test_cpus_with_invlpgb_need_no_ipi(self, release: str, invlpgb: bool, operation: str) -> None:
        k = kernel("x86_64", release, invlpgb=invlpgb)
        k.port.flush_tlb_all(k)
        k.port.flush_tlb_kernel_range(k, Span(0, 4 * KiB))
        told = {flush.operation for flush in k.hw.ledger.flushes}
        assert operation in told and any(word.startswith("IPI") for word in told) is (operation[:3] == "IPI")

    @pytest.mark.parametrize(("release", "tce", "exposed"), [("linux-7.2", True, 1), ("linux-7.2", False, 0),
                                                             ("linux-6.12", True, 0)])  # fmt: skip
    def test_under_tce_tables_are_freed_that_a_walk_may_still_go_through(
        self, release: str, tce: bool, exposed: int
    ) -> None:
        """The flush names one page: the PTE tables below the other entries of the PMD table stay cached."""
        k = kernel("x86_64", release, tce=tce)
        span = vmalloc(k, k.config.page_size, "before")
        size = k.config.pud_size
        start = span.start // size * size
        vmalloc(k, 2 * k.config.pmd_size, "far")
        for tag in ("before", "far"):
            vfree(k, tag)
        vmap_range_noflush(k, Span(start, start + size), 0, k.port.page_kernel(k), k.config.shift(2))
        assert bool(k.hw.tlb.exposed_set()) is bool(exposed)
        assert k.hw.memory.used(Use.TABLE)


@pytest.mark.parametrize("name", Cpu.__struct_fields__)
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("arch", ARCHES)
def test_what_cpus_of_another_architecture_can_do_is_refused_and_of_its_own_read(
    arch: str, name: str, told: bool
) -> None:
    text = MachineText(arch=arch, cpu=Cpu(**{name: told}))
    if name in port(arch).cpu_features:
        assert getattr(machine_spec(text).config, name) is told
    else:
        with pytest.raises(BadInput, match=rf"scenario: machine.cpu.{name}: {arch} has no such CPUs \(\w+ has\)"):
            machine_spec(text)


def test_every_feature_that_a_scenario_can_name_is_some_architectures() -> None:
    assert sorted(name for arch in ARCHES for name in port(arch).cpu_features) == sorted(Cpu.__struct_fields__)


OPTIONS = {"gbpages": "boot.gbpages", "rodata_full": "boot.rodata_full", "hypervisor": "hypervisor"}
"""What a scenario says that kernels of one architecture ask for, and its key."""


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("arch", ARCHES)
def test_an_option_that_only_another_architecture_reads_is_refused(arch: str, name: str, told: bool) -> None:
    option: dict[str, Any] = {name: told}
    said: dict[str, Any] = option if OPTIONS[name] == name else {"boot": Boot(**option)}
    text = MachineText(arch=arch, **said)
    if name in port(arch).own_options:
        assert getattr(machine_spec(text).config, name) is told
    else:
        with pytest.raises(BadInput, match=rf"^scenario: machine.{OPTIONS[name]}: {arch} .* \(\w+ (has|does)\)$"):
            machine_spec(text)


def test_every_option_of_one_architecture_is_tried() -> None:
    assert sorted(name for arch in ARCHES for name in port(arch).own_options) == sorted(OPTIONS)
