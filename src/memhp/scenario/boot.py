"""The kernel's command line and build options, and the CPUs, as a scenario writes them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from memhp.errors import BadInput
from memhp.linux.arch.registry import ports
from memhp.linux.config import Cma, Config, Core
from memhp.linux.drivers.acpi.numa.srat import memory_block_advice
from memhp.linux.release import first, since
from memhp.scenario.schema import Boot, Build, Cpu, MachineText, Memory, Size
from memhp.spans import Span
from memhp.units import parse_size

CORES = ("kernelcore", "movablecore")
PERCENT = 100


def with_boot(config: Config, boot: Boot | None) -> Config:
    """A configuration with what the scenario puts on the command line; what it does not name stays as it was."""
    if boot is None:
        return config
    plain = msgspec.structs.replace(boot, kernelcore=None, movablecore=None, cma=None)
    cores: dict[str, Any] = {
        name: core(text, where=f"{name}=")
        for name in CORES
        if (text := getattr(boot, name)) is not None and not mirrors(name, text)
    }
    if mirrors("kernelcore", boot.kernelcore):
        config = replace(config, mirrored_kernelcore=True)
    config = replace(_with(config, plain), **cores)
    return config if boot.cma is None else replace(config, cma=cma(boot.cma, where="cma="))


def mirrors(option: str, value: Size | None) -> bool:
    """Whether an option is ``kernelcore=mirror``, alone or among others (``mm/mm_init.c:cmdline_parse_kernelcore``)."""
    return option == "kernelcore" and isinstance(value, str) and "mirror" in value.split(",")


def cma(text: Size, *, where: str) -> Cma:
    """Size, base and limit, as ``kernel/dma/contiguous.c:early_cma`` reads them. Raises :class:`BadInput`."""
    size, at, place = str(text).partition("@")
    base, dash, limit = place.partition("-")
    told = Cma(*(parse_size(each, where=where) if each else 0 for each in (size, base, limit)))
    return told._replace(limit=told.base + told.size) if at and not dash else told


def with_usual_cma(config: Config) -> Config:
    """A configuration that reserves for CMA what Debian builds such a kernel to, where nobody says how much."""
    size = config.value_since(config.port.cma_sizes.get(config.page_size, (first(0),)))
    return replace(config, cma=Cma(size)) if config.cma is None and size else config


def core(text: Size, *, where: str) -> Core:
    """An amount as the kernel reads it: a size, or so many percent of all memory (``mm/mm_init.c:cmdline_parse_core``).

    Raises :class:`BadInput`.
    """
    number = text.removesuffix("%") if isinstance(text, str) else ""
    if isinstance(text, str) and number != text and number.isdigit() and int(number) <= PERCENT:
        return Core(percent=int(number))
    return Core(size=parse_size(text, where=where))


def with_cpu(config: Config, cpu: Cpu | None) -> Config:
    """A configuration on CPUs that can do what the scenario says; what it does not name stays as it was."""
    return _with(config, cpu)


UNREAD = {"cpu.": "has no such CPUs", "boot.": "has no such option", "": "does not ask for this"}
"""What is said of an architecture whose kernel reads no such key, by the table of ``[machine]`` that the key is in."""


def check_read(config: Config, text: MachineText) -> None:
    """Refuse what a scenario says of CPUs, command line or platform and only kernels of other architectures read.

    Raises :class:`BadInput`, which names those that do.
    """
    for table, part in (("cpu.", text.cpu), ("boot.", text.boot), ("", text)):
        for name in () if part is None else part.__struct_fields__:
            readers = [each.name for each in ports() if name in (*each.cpu_features, *each.own_options)]
            if getattr(part, name) is not None and readers and config.arch not in readers:
                fix = f"{' and '.join(readers)} {'does' if not table else 'has'}"
                raise BadInput(f"{config.arch} {UNREAD[table]}", where=f"{table}{name}", fix=fix)


VMEMMAP = "sparsemem_vmemmap"
VMEMMAP_ALWAYS = since("6.18", "selected", "mm: stop making SPARSEMEM_VMEMMAP user-selectable")
"""In mm/Kconfig, for every port that enables it."""
BUILD = ("memory_hotplug", "memory_hotremove", "zone_device")
"""Those options of a build that each need the ones before (``mm/Kconfig``)."""


def with_build(config: Config, build: Build | None, where: str = "scenario") -> Config:
    """A configuration built as the scenario says. What it does not name stays, or goes with what it needs.

    Raises :class:`BadInput` for an option without what it needs.
    """
    if build is None:
        return config
    asked = msgspec.structs.asdict(build)
    where = f"{where}: machine.build"
    have: dict[str, Any] = {}
    if build.sparsemem_vmemmap is False:
        _leave_vmemmap_out(config, where)
        have = {VMEMMAP: False}
    for name in BUILD:
        missing = [need for need, there in have.items() if not there]
        if asked[name] and missing:
            text = f"CONFIG_{name.upper()} needs CONFIG_{missing[0].upper()}"
            raise BadInput(text, where=f"{where}.{name}", fix="leave it out")
        have[name] = not missing and (getattr(config, name) if asked[name] is None else asked[name])
    have.pop(VMEMMAP, None)
    have |= {name: value for name, value in asked.items() if name not in (*BUILD, VMEMMAP) and value is not None}
    return replace(config, **have)


def _leave_vmemmap_out(config: Config, where: str) -> None:
    """Refuse a build without ``CONFIG_SPARSEMEM_VMEMMAP`` that there is not, or that is not modelled."""
    left = config.value_since((*config.port.vmemmap_left_out(config), VMEMMAP_ALWAYS))
    where = f"{where}.{VMEMMAP}"
    if left == "selected":
        build = f"{config.arch} of {config.profile.release} with {config.va_bits}-bit addresses"
        text = f"{build} has CONFIG_SPARSEMEM_VMEMMAP in every build"
        raise BadInput(text, where=where, fix="leave it out")
    if left == "hotplug":
        text = "struct pages that lie in no vmemmap are not modelled; such a kernel adds and removes whole sections"
        raise BadInput(text, where=where, fix="leave it out, and zone_device = false for what it lacks")


def with_cxl(
    config: Config, written: Iterable[Memory] | None, told: Iterable[Span] = (), where: str = "scenario"
) -> Config:
    """A configuration whose firmware names CXL windows: those that the scenario writes, or those that were `told`."""
    spans = told
    if written is not None:
        spans = [_window(each, f"{where}: machine.cxl_windows[{i}]") for i, each in enumerate(written)]
    return replace(config, memory_block_advice=memory_block_advice(spans))


def _window(window: Memory, where: str) -> Span:
    if window.start is None:
        raise BadInput("a window lies somewhere", where=f"{where}.start", fix="write where it starts")
    start = parse_size(window.start, where=f"{where}.start")
    return Span(start, start + parse_size(window.size, where=f"{where}.size"))


def _with(config: Config, keys: Boot | Cpu | None) -> Config:
    if keys is None:
        return config
    options: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(keys).items() if value is not None}
    return replace(config, **options)
