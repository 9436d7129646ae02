"""A QEMU command line, as far as it decides about memory: RAM, NUMA nodes, slots, and devices that are memory.

Words that have nothing to do with memory are passed over; memory that this does not understand is refused, and so is
what looks like a word of memory mistyped, so that no machine is taken for a smaller one. Properties may be written as
JSON, as libvirt does. Numbers without a unit are MiB for ``-m`` and ``-numa``, bytes elsewhere
(``qemu-options.hx``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from memhp.errors import BadInput, slip_of
from memhp.facts import cmdline
from memhp.facts.cmdline import Cmdline
from memhp.linux.arch.registry import ports
from memhp.scenario.platforms import PLATFORMS
from memhp.scenario.presets import USUAL_ARCH
from memhp.units import MiB, parse_size

DEFAULT_RAM = 128 * MiB
"""``hw/core/machine.c:machine_class_base_init``."""

Properties = Mapping[str, str]

_MEMORY_BACKEND = "memory-backend-"
_DIMM = ("pc-dimm",)
_NVDIMM = ("nvdimm",)
_VIRTIO_MEM = ("virtio-mem-pci", "virtio-mem-device", "virtio-mem")
_OPTIONS = ("-m", "-memory", "-M", "-machine", "-numa", "-object", "-device", "-append")
"""What is read of a command line and like no other option."""
_WITH_VALUE = (*_OPTIONS, "-smp", "-bios", "-drive")
"""All that is read: each has a value, which may begin with anything."""
_NO_MEMORY = ("ivshmem-plain",)
"""Devices with a memory backend that Linux finds no RAM in."""
_NOT_UNDERSTOOD = ("virtio-pmem-pci", "cxl-type3", "sgx-epc")


@dataclass(frozen=True)
class NumaNode:
    """A node of ``-numa``: bytes of RAM, and its CPUs as they are listed."""

    nid: int
    size: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class MemoryDevice:
    """A device that is memory: sizes and addresses in bytes; `node` is a proximity domain."""

    kind: str
    """``dimm``, ``nvdimm`` or ``virtio-mem``."""
    id: str
    size: int
    node: int
    at: int | None
    block_size: int | None = None
    requested: int = 0


@dataclass(frozen=True)
class QemuCommand:
    """What a command line says of memory. Sizes in bytes."""

    arch: str
    machine: str
    """The machine's type without its version: ``pc``, ``q35``, ``microvm``, ``virt``."""
    ram: int
    max_ram: int
    """``maxmem``: RAM and all that may be plugged."""
    slots: int
    cpus: int
    nodes: tuple[NumaNode, ...]
    devices: tuple[MemoryDevice, ...]
    firmware: bool
    """Whether firmware was named, which on ``virt`` brings ACPI."""
    append: Cmdline
    """The kernel's command line."""
    nvdimm: bool = False
    """Whether the machine may have NVDIMMs."""


def parse(text: str, *, arch: str | None, where: str) -> QemuCommand:
    """The machine of a command line, with or without the program at its beginning; of the usual architecture where
    neither it nor `arch` says.

    Raises :class:`BadInput` naming `where` for words that QEMU refuses, and for memory that is not understood.
    """
    words = _words(text, where)
    options = list(_options(words, where))
    program = words[0] if words and not words[0].startswith("-") else ""
    arch = arch or _arch(program) or USUAL_ARCH
    if not any(name in _WITH_VALUE for name, _ in options):
        passed_over = ", ".join(dict.fromkeys(name for name, _ in options))
        text = "nothing tells of memory" + (f"; not known here: {passed_over}" if passed_over else "")
        raise BadInput(text, where=where, fix="add -m SIZE")
    memory = _known_properties(_merged(options, ("-m", "-memory"), "size", where), "size slots maxmem", f"{where}: -m")
    ram = _size(memory.get("size", ""), MiB, where, "-m") or DEFAULT_RAM
    backends = dict(_backends(options, where))
    nodes = tuple(_nodes(options, backends, ram, where))
    machine = _merged(options, ("-M", "-machine"), "type", where)
    max_ram = _size(memory.get("maxmem", ""), MiB, where, "-m maxmem")
    slots = _number(memory.get("slots", "0"), where, "-m slots")
    if "slots" in memory and (not max_ram or (slots and max_ram == ram)):
        text = "slots want maxmem" + (" to be more than the RAM there is" if max_ram else "")
        raise BadInput(text, where=f"{where}: -m", fix="add maxmem=SIZE: QEMU refuses this too")
    cpus = _number(_merged(options, ("-smp",), "cpus", where).get("cpus", "1"), where, "-smp")
    if not cpus:
        raise BadInput("want one CPU or more", where=f"{where}: -smp", fix="write -smp 1: QEMU refuses this too")
    return QemuCommand(
        arch=arch,
        machine=_machine_type(machine, arch, where),
        ram=ram,
        max_ram=max_ram or ram,
        slots=slots,
        cpus=cpus,
        nodes=nodes,
        devices=tuple(_devices(options, backends, where)),
        firmware=any(name == "-bios" or (name == "-drive" and "if=pflash" in value) for name, value in options),
        append=cmdline.parse(next((value for name, value in reversed(options) if name == "-append"), "")),
        nvdimm=machine.get("nvdimm") in ("on", "yes", "true", "y"),
    )


def _words(text: str, where: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"not a command line: {error}", where=where, fix="close what is quoted") from None


def _options(words: list[str], where: str) -> Iterator[tuple[str, str]]:
    """Every option with its value, "" for one that has none."""
    left = words[1:] if words and not words[0].startswith("-") else words[:]
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            raise BadInput(f"what is {word!r} for?", where=where, fix="options begin with -, and have one value")
        option = "-" + word[2:] if word.startswith("--") else word
        _refuse_typo(option, _OPTIONS, where)
        if option in _WITH_VALUE and (not left or left[0] in _WITH_VALUE):
            raise BadInput("wants a value", where=f"{where}: {option}", fix="write one: QEMU refuses this too")
        has_value = option in _WITH_VALUE or (left and not left[0].startswith("-"))
        yield option, left.pop(0) if has_value else ""


def _arch(program: str) -> str | None:
    """The architecture that a program emulates: ``qemu-system-aarch64``."""
    name = program.rpartition("/")[2]
    return next((each.name for each in ports() for word in each.uname_words if name.endswith(f"-{word}")), None)


def _refuse_typo(word: str, known: Iterable[str], where: str) -> None:
    """Raises :class:`BadInput` for a word that is none of some, and like one of them."""
    known = tuple(known)
    if word not in known and (near := slip_of(word, known)):
        raise BadInput(f"what is {word!r}?", where=where, fix=f"did you mean {near}?")


def _known_properties(told: Properties, known: str, where: str) -> Properties:
    """The same properties, if none is like one that is read and is not it. Raises :class:`BadInput`."""
    for name in told:
        _refuse_typo(name, known.split(), where)
    return told


def _of_json(text: str, where: str) -> dict[str, str]:
    """``{"driver": "pc-dimm", …}`` as a mapping of text; lists and objects in it are passed over."""
    try:
        told = json.loads(text)
        words = {True: "on", False: "off"}
        return {
            name: words[value] if isinstance(value, bool) else str(value)
            for name, value in told.items()
            if isinstance(value, str | int)
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInput(f"not JSON: {text[:40]!r}", where=where, fix="quote it as a shell wants it") from error


def properties(text: str, first: str, where: str) -> dict[str, str]:
    """``first,key=value,flag`` as a mapping, or what JSON says; a first word without ``=`` is the value of `first`."""
    if text.startswith("{"):
        return _of_json(text, where)
    found: dict[str, str] = {}
    for at, word in enumerate(text.split(",")):
        name, equals, value = word.partition("=")
        if not equals and at == 0:
            found[first] = word
        elif name:
            found[name] = value if equals else "on"
        else:
            raise BadInput(f"an empty word in {text!r}", where=where, fix="take out a comma")
    return found


def _merged(options: list[tuple[str, str]], names: tuple[str, ...], first: str, where: str) -> dict[str, str]:
    """All properties that an option was given, the last of each counting."""
    found: dict[str, str] = {}
    for name, value in options:
        if name in names and value:
            found |= properties(value, first, where)
    return found


def _machine_type(told: Properties, arch: str, where: str) -> str:
    """``pc-q35-9.2`` is ``q35``, ``pc-i440fx-9.2`` is ``pc``, ``virt-9.2`` is ``virt``."""
    name = told.get("type", "") or _usual(arch)
    short = name.removeprefix("pc-").rpartition("-")[0] if name.rpartition("-")[2][:1].isdigit() else name
    if "max-ram-below-4g" in told:
        raise BadInput("max-ram-below-4g is not understood", where=where, fix="leave it out, and write `memory`")
    return {"i440fx": "pc"}.get(short, short)


def _usual(arch: str) -> str:
    """The board that QEMU takes, or needs to be told, of an architecture; "" if none is known."""
    return next((machine for (of, machine), board in PLATFORMS.items() if of == arch and board.usual), "")


def _size(text: str, unit: int, where: str, what: str) -> int:
    """Bytes of a size, in `unit` where it says none; 0 where there is none."""
    if not text:
        return 0
    size = parse_size(text[:-1] + text[-1].upper(), where=f"{where}: {what}")
    return size * unit if text.isdigit() else size


def _number(text: str, where: str, what: str) -> int:
    if not text.isdigit():
        raise BadInput(f"want a number, got {text!r}", where=f"{where}: {what}")
    return int(text)


def _backends(options: list[tuple[str, str]], where: str) -> Iterator[tuple[str, int]]:
    """The memory backends by name, with their sizes."""
    for name, value in options:
        told = properties(value, "qom-type", where) if name == "-object" else {}
        if told.get("qom-type", "").startswith(_MEMORY_BACKEND):
            _known_properties(told, "qom-type id size", f"{where}: -object {told.get('id', '')}")
            yield told.get("id", ""), _size(told.get("size", ""), 1, where, f"-object {told.get('id', '')}")


def _backend(backends: Mapping[str, int], name: str, where: str) -> int:
    if name not in backends:
        fix = f"add -object memory-backend-ram,id={name},size=…"
        raise BadInput(f"there is no memory backend {name!r}", where=where, fix=fix)
    return backends[name]


def _nodes(options: list[tuple[str, str]], backends: Mapping[str, int], ram: int, where: str) -> Iterator[NumaNode]:
    """The nodes of ``-numa node``; all RAM together must be what ``-m`` says."""
    nodes = [
        _known_properties(properties(value, "kind", where), "kind mem memdev cpus nodeid", f"{where}: -numa")
        for name, value in options
        if name == "-numa" and value.startswith("node")
    ]
    sizes = []
    for at, told in enumerate(nodes):
        if "memdev" in told:
            sizes.append(_backend(backends, told["memdev"], where))
        else:
            sizes.append(_size(told.get("mem", ""), MiB, where, f"-numa node {at}"))
    if nodes and sum(sizes) != ram:
        raise BadInput(
            f"the nodes have {sum(sizes) // MiB} MiB of RAM, and -m says {ram // MiB} MiB",
            where=where,
            fix="give every node its memory: QEMU refuses this too",
        )
    ids = [_number(told.get("nodeid", str(at)), where, "-numa nodeid") for at, told in enumerate(nodes)]
    if missing := set(range(len(ids))) - set(ids):
        text = f"node {min(missing)} is missing among {', '.join(map(str, ids))}"
        raise BadInput(text, where=f"{where}: -numa", fix="number the nodes from 0 on without a gap, as QEMU wants")
    for nid, told, size in zip(ids, nodes, sizes, strict=True):
        cpus = tuple(cpu for each in told.get("cpus", "").split(":") if each for cpu in _cpu_range(each, where))
        yield NumaNode(nid, size, cpus)


def _cpu_range(text: str, where: str) -> range:
    first, _, last = text.partition("-")
    start = _number(first, where, "-numa cpus")
    return range(start, (_number(last, where, "-numa cpus") if last else start) + 1)


def _devices(options: list[tuple[str, str]], backends: Mapping[str, int], where: str) -> Iterator[MemoryDevice]:
    """The devices that are memory, in the order in which QEMU gives them addresses."""
    for name, value in options:
        if name != "-device":
            continue
        told = properties(value, "driver", where)
        driver = told.get("driver", "")
        if driver in _NOT_UNDERSTOOD:
            raise BadInput(f"memory of {driver} is not understood", where=where, fix="write it as a `dax` step instead")
        if driver not in _DIMM + _NVDIMM + _VIRTIO_MEM:
            if "memdev" in told and driver not in _NO_MEMORY:
                known = ", ".join(_DIMM + _NVDIMM + _VIRTIO_MEM[:1])
                raise BadInput(f"memory of {driver} is not understood", where=where, fix=f"devices known: {known}")
            continue
        keys = "driver id memdev node addr memaddr block-size requested-size label-size"
        _known_properties(told, keys, f"{where}: -device {driver}")
        if "memdev" not in told:
            fix = "add memdev=ID of an -object memory-backend-ram,id=ID,size=…"
            raise BadInput("memdev is missing", where=f"{where}: -device {driver}", fix=fix)
        size = _backend(backends, told["memdev"], where)
        node = _number(told.get("node", "0"), where, f"-device {driver}")
        place = told.get("memaddr" if driver in _VIRTIO_MEM else "addr")
        at = None if place is None else parse_size(place, where=f"{where}: -device {driver}")
        if driver in _DIMM:
            yield MemoryDevice("dimm", told.get("id", ""), size, node, at)
            continue
        if driver in _NVDIMM:
            labels = _size(told.get("label-size", ""), 1, where, "label-size")
            yield MemoryDevice("nvdimm", told.get("id", ""), size - labels, node, at)
            continue
        yield MemoryDevice(
            "virtio-mem",
            told.get("id", ""),
            size,
            node,
            at,
            _size(told.get("block-size", ""), 1, where, "block-size") or None,
            _size(told.get("requested-size", ""), 1, where, "requested-size"),
        )
