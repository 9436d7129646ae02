"""From the machine of a scenario to a description that boots: a preset or a described machine."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal

from memhp.errors import BadInput, one_of
from memhp.linux.arch.registry import ARCHES
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram
from memhp.linux.profiles import profile
from memhp.scenario.boot import check_read, with_boot, with_build, with_cpu, with_cxl, with_usual_cma
from memhp.scenario.choices import with_choices
from memhp.scenario.error_keys import machine_keys
from memhp.scenario.explain import quoted
from memhp.scenario.presets import Preset, preset, preset_for
from memhp.scenario.qemu_machine import described
from memhp.scenario.schema import MachineText, Memory
from memhp.spans import Span
from memhp.units import parse_size


def machine_spec(text: MachineText, *, where: str = "scenario") -> MachineSpec:
    """The machine that a scenario describes itself, without a source of facts.

    Raises :class:`BadInput`, with `where` naming file and key.
    """
    text, _ = described(text, where=where)
    base = _base(text, where)
    with machine_keys(where):
        return _spec(text, base, where).validate()


def _spec(text: MachineText, base: Preset, where: str) -> MachineSpec:
    ram = _ram(text, base, where)
    return MachineSpec(
        name=base.name if text.preset else f"{base.arch} machine",
        config=described_config(text, base, where),
        ram=ram,
        hotpluggable=_ranges(text, ram, "hotpluggable"),
        mirrored=_ranges(text, ram, "mirrored"),
        reserved=base.reserved
        if text.reserved is None
        else parse_size(text.reserved, where=f"{where}: machine.reserved"),
        max_memory=None
        if text.max_memory is None
        else parse_size(text.max_memory, where=f"{where}: machine.max_memory"),
        slots=base.platform.slots if text.slots is None else text.slots,
        device_place=base.platform.devices,
        device_memory=None
        if text.device_memory is None
        else parse_size(text.device_memory, where=f"{where}: machine.device_memory"),
        nodes=tuple(range(text.nodes or base.nodes)),
        srat=None if text.proximity is None else tuple(text.proximity),
    )


def _base(text: MachineText, where: str) -> Preset:
    """The preset that a description starts from."""
    if text.arch is not None and text.arch not in ARCHES:
        raise BadInput(
            f"cannot be {quoted(text.arch)}", where=f"{where}: machine.arch", fix=one_of(text.arch, sorted(ARCHES))
        )
    if text.step is not None:
        raise BadInput("only a captured machine has steps", where=f"{where}: machine.step", fix="leave it out")
    if text.preset is not None:
        base = preset(text.preset, where=f"{where}: machine.preset")
        if text.arch not in {None, base.arch}:
            raise BadInput(
                f"preset {base.name} is {base.arch}, not {text.arch}",
                where=f"{where}: machine.arch",
                fix="leave it out",
            )
        return base
    if text.arch is None:
        raise BadInput(
            "which machine?", where=f"{where}: machine", fix='write source = "…", preset = "…" or arch = "riscv64"'
        )
    page_size = None if text.page_size is None else parse_size(text.page_size, where=f"{where}: machine.page_size")
    return preset_for(text.arch, page_size, text.va_bits)


def described_config(text: MachineText, base: Preset, where: str) -> Config:
    """Build and boot options of a preset with what the description changes."""
    page_size = base.page_size
    if text.page_size is not None:
        page_size = parse_size(text.page_size, where=f"{where}: machine.page_size")
    config = Config(
        arch=base.arch,
        profile=with_choices(
            profile(text.profile or base.profile), base.arch, text.choices, where=f"{where}: machine.choices"
        ),
        page_size=page_size,
        va_bits=text.va_bits or base.va_bits,
        nr_cpus=text.cpus or base.cpus,
        hypervisor=base.hypervisor if text.hypervisor is None else text.hypervisor,
    )
    check_read(config, text)
    config = with_build(config, text.build, where)
    config = with_cxl(with_boot(with_cpu(config, text.cpu), text.boot), text.cxl_windows, where=where)
    return with_usual_cma(config)


def _ram(text: MachineText, base: Preset, where: str) -> tuple[Ram, ...]:
    """The boot RAM of a described machine."""
    if text.memory is None:
        return tuple(Ram(start, size) for start, size in base.spread(base.memory))
    if not isinstance(text.memory, list):
        size = parse_size(text.memory, where=f"{where}: machine.memory")
        return tuple(Ram(start, part) for start, part in base.spread(size))
    ranges: list[Ram] = []
    at = base.platform.start
    for i, memory in enumerate(text.memory):
        start, size = _range(memory, at, f"{where}: machine.memory[{i}]")
        ranges.append(Ram(start, size, memory.node))
        at = start + size
    return tuple(ranges)


def _ranges(text: MachineText, ram: tuple[Ram, ...], said: Literal["hotpluggable", "mirrored"]) -> tuple[Span, ...]:
    """The ranges of RAM of which firmware says so."""
    if not isinstance(text.memory, list):
        return ()
    return tuple(each.span for told, each in zip(text.memory, ram, strict=True) if getattr(told, said))


def _range(memory: Memory, at: int, where: str) -> tuple[int, int]:
    size = parse_size(memory.size, where=f"{where}.size")
    if not size:
        raise BadInput("an empty range of RAM", where=f"{where}.size", fix="write a size such as 1G, or leave it out")
    return (at if memory.start is None else parse_size(memory.start, where=f"{where}.start")), size
