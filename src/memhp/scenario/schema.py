"""What a scenario file may say: a machine and a list of steps, checked strictly.

Sizes are written as people write them (``"2G"``, ``"128M"``, ``"0x8000000"``) or as plain bytes; addresses likewise.
A key that is not known is an error, so a typing slip never passes for a default.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from memhp.limits import SECONDS
from memhp.linux.lib.fault_inject import AllocationName
from memhp.linux.mm.users import Kind
from memhp.scenario.machine_text import Boot, Build, Cpu, MachineText, Memory, Node, Size, Strict

__all__ = ["Boot", "Build", "Cpu", "MachineText", "Memory", "Node", "Size"]
"""What stands in another module, and is to be had from here."""

Zone = Literal["auto", "kernel", "movable"]
"""How blocks go online: ``online``, ``online_kernel``, ``online_movable``."""

DriverName = Literal["dimm", "kmem", "virtio_mem"]
"""Who adds memory: the ACPI driver of DIMMs, or one that manages memory of its own."""


Seconds = Annotated[int, Meta(ge=0, le=SECONDS.most)] | Annotated[float, Meta(ge=0, le=SECONDS.most)]
"""A length of time on the machine's clock."""

DaxMode = Literal["raw", "devdax", "kmem", "none"]
"""Who has a region: the block driver of persistent memory, device-dax, kmem, or, though it is a dax device, nobody."""


class Injected(Strict, frozen=True):
    """What is made to fail while a step is carried out: one of both."""

    allocation: AllocationName | None = None
    """The function of the kernel of which an allocation fails (``fail_page_alloc``, ``failslab``),"""
    nth: Annotated[int, Meta(ge=1, le=1 << 20)] = 1
    """and which of those that it asks for in the step, from 1."""
    notifier: Literal["MEM_GOING_ONLINE", "MEM_GOING_OFFLINE"] | None = None
    """What a memory notifier refuses (``memory-notifier-error-inject``),"""
    error: str = "EBUSY"
    """and with which errno."""


class Step(Strict, frozen=True, tag_field="do", kw_only=True):
    """One step. `expect` is ``ok`` or the errno that the kernel must answer with; `name` is shown in its place."""

    expect: str = "ok"
    name: str = ""
    fault: Injected | None = None


class Plug(Step, frozen=True, tag="plug"):
    """The platform plugs a device and its driver adds the memory: ``add_memory()`` and its kin."""

    size: Size
    at: Size | None = None
    """Physical address; by default the first block-aligned address above all memory."""
    node: Node = 0
    """The node that the memory goes to; of a DIMM the proximity domain that it names: see `proximity` of the machine.
    A domain that firmware's tables do not name is none, and the DIMM goes where the first boot memory is."""
    driver: DriverName = "dimm"
    memmap_on_memory: bool | None = None
    """Whether the driver asks for it (MHP_MEMMAP_ON_MEMORY); by default as that driver does."""
    online: Zone | None = None
    """Bring the new blocks online at once, as a udev rule would."""


class Online(Step, frozen=True, tag="online"):
    """``echo online… > …/memoryN/state`` for every block of a range."""

    zone: Zone = "auto"
    at: Size | None = None
    size: Size | None = None
    blocks: list[Annotated[int, Meta(ge=0, le=1 << 44)]] | None = None
    """Block numbers; by default every offline block of the range, or of the machine."""


class Offline(Step, frozen=True, tag="offline"):
    """``echo offline > …/memoryN/state`` for every block of a range."""

    at: Size | None = None
    size: Size | None = None
    blocks: list[Annotated[int, Meta(ge=0, le=1 << 44)]] | None = None


class Remove(Step, frozen=True, tag="remove"):
    """The driver takes offline memory away, ``remove_memory()``, and the platform unplugs it."""

    at: Size | None = None
    size: Size | None = None
    """By default the last range that was plugged."""


class Unplug(Step, frozen=True, tag="unplug"):
    """``offline_and_remove_memory()``: offline every block, then remove; undone when one cannot go."""

    at: Size | None = None
    size: Size | None = None


class Eject(Step, frozen=True, tag="eject"):
    """The platform asks for a DIMM back: its driver takes all of it offline in two passes, or puts it back online."""

    at: Size | None = None
    """Where the DIMM begins; by default the one that was plugged last."""
    enabled: bool = True
    """``/sys/firmware/acpi/hotplug/memory/enabled``: whether DIMMs may be ejected at all."""


class Dax(Step, frozen=True, tag="dax"):
    """A region that firmware keeps from the kernel, such as persistent memory, changes its driver.

    The first step that names a region lets it appear, with `at` and `size`.
    """

    device: str = "dax0.0"
    mode: DaxMode | None = None
    """The driver to bind once the one before is unbound; by default it stays."""
    at: Size | None = None
    size: Size | None = None
    node: Node = 0
    """The node that its memory belongs to."""
    namespace: bool | None = None
    """Whether the region starts with a namespace's metadata, as it does if nobody says; a soft-reserved one does not.
    This and what follows stays as the device has it, if a later step does not say otherwise."""
    ranges: list[Memory] | None = None
    """The parts of the region that the device has, in its order, where it was put together from several (its
    ``mappingN``); only of a region without a namespace. By default all of it."""
    allocate: Size | None = None
    """How much of such a region the device is to have (its `size` attribute, ``daxctl create-device -s``): it grows
    into the lowest part that no other device has, and shrinks from its end. A device whose number of the region is that
    of one that is there (``dax0.1``) is made in the same region."""
    map: Literal["mem", "dev"] | None = None
    """Where struct pages are kept for device-dax: in RAM, as at first, or in the region itself."""
    align: Size | None = None
    """The device's page size, at first that of a PMD leaf."""
    memmap_on_memory: bool | None = None
    """The device's attribute, at first false: kmem asks for struct pages in the memory itself."""
    pagemap: bool = True
    """Whether the block driver (`raw`) gives the region struct pages: where firmware named it in the memory map or the
    device tree it does, for an NVDIMM it does not (``ND_REGION_PAGEMAP``)."""
    pinned: Annotated[int, Meta(ge=0, le=1 << 52)] | None = None
    """How many of its pages somebody, long-term DMA say, holds from now on."""


class Fault(Strict, frozen=True):
    """How a virtio-mem device misbehaves, or surprises: what happens to some of the requests that it gets."""

    request: Literal["PLUG", "UNPLUG", "UNPLUG_ALL"] | None = None
    """Only requests of this type."""
    first: Annotated[int, Meta(ge=1, le=1 << 62)] = 1
    """The first of them that it happens to, counted from 1."""
    count: Annotated[int, Meta(ge=1, le=1 << 62)] | None = 1
    answer: Literal["ACK", "NACK", "BUSY", "ERROR"] | None = None
    """What the device says, without doing what was asked; by default it does and says what it should."""
    delay: Seconds = 0
    """How long the answer takes."""
    requested: Size | None = None
    """The requested size changes to this right after the request was dealt with."""
    usable: Size | None = None
    """The usable region becomes so large at the same moment, even if it shrinks, which no device may let it do."""
    at: Size | None = None
    """Only requests for blocks at this physical address,"""
    size: Size | None = None
    """or in so many bytes from there on."""


DeviceFeature = Literal["acpi-pxm", "unplugged-inaccessible", "persistent-suspend"]
"""Features that a virtio-mem device may offer: `node` means something; unplugged memory is not to be read; plugged
memory outlives suspend to RAM."""


class VirtioMem(Step, frozen=True, tag="virtio-mem"):
    """A virtio-mem device appears, and its driver takes it over; memory comes as it is requested."""

    size: Size
    """Of the region: what may be requested at most."""
    device: str = "vm0"
    at: Size | None = None
    node: Node = 0
    """The proximity domain that the device names: see `proximity` of the machine."""
    block_size: Size = "2M"
    """What the device plugs and unplugs at least."""
    features: tuple[DeviceFeature, ...] = ("acpi-pxm", "unplugged-inaccessible")
    requested: Size = 0
    unplug_online: bool = True
    """Parameter of the driver: whether memory that is online may be unplugged."""
    big_blocks: bool = False
    """Parameter ``force_bbm``: whole memory blocks only."""
    big_block_size: Size = 0
    """Parameter ``bbm_block_size``: what comes and goes at a time then; by default as little as can be."""
    faults: list[Fault] = msgspec.field(default_factory=list)


class Resize(Step, frozen=True, tag="resize"):
    """The host requests another size of a virtio-mem device, and time passes.

    Ends in the errno that the driver's work ended in, if the size is not reached by then.
    """

    to: Size
    device: str | None = None
    """By default the only one, or vm0; those that the machine was seen with go by QEMU's name or the guest's."""
    wait: Seconds = 0
    """How long; the driver tries again after 50, then after twice as long each time, up to 300."""
    faults: list[Fault] = msgspec.field(default_factory=list)
    """What happens to requests from now on, besides what was said of them before."""


class Unbind(Step, frozen=True, tag="unbind"):
    """A virtio-mem device loses its driver: memory that is added stays, but for partly plugged offline blocks."""

    device: str | None = None
    """By default the only one there is, or vm0."""


class Bind(Step, frozen=True, tag="bind"):
    """A virtio-mem device gets its driver again, which starts anew; it cannot while memory is still added."""

    device: str | None = None
    """By default the only one there is, or vm0."""


class Suspend(Step, frozen=True, tag="suspend"):
    """The machine sleeps and wakes up again: ``echo STATE > /sys/power/state``."""

    state: Literal["freeze", "mem", "disk"] = "mem"
    """To idle, to RAM, or hibernation."""
    requested: dict[str, Size] = msgspec.field(default_factory=dict)
    """Sizes that the host requests of virtio-mem devices meanwhile, by the name of the device."""


class Reboot(Step, frozen=True, tag="reboot"):
    """The machine starts anew, alive or not, with the same command line; what is plugged stays plugged."""


class Probe(Step, frozen=True, tag="probe"):
    """``echo ADDRESS > /sys/devices/system/memory/probe``: the kernel adds one memory block (x86-64, LoongArch)."""

    at: Size


class HvAdd(Step, frozen=True, tag="hv-add"):
    """Hyper-V's host backs more pages of its guest (dynamic memory, ``DM_MEM_HOT_ADD_REQUEST``), and the guest's driver
    adds the memory blocks that cover them.
    """

    size: Size
    at: Size | None = None
    """Physical address of the first page; by default behind the last that the host backed, or above all memory."""
    region: Memory | None = None
    """Where the host has room for more, if it says so: a start and a size."""


class XenTarget(Step, frozen=True, tag="xen-target"):
    """Xen gives its domain another target (``xl mem-set``): the balloon takes or gives pages, and adds memory where it
    has none to give. The first such step starts the driver.
    """

    target: Size | None = None
    """What the domain is to have, as its ``xen_memory0/target_kb`` says; at first all it has."""
    max: Size | None = None
    """What Xen lets the domain have at most from now on (``xl mem-max``); by default whatever it asks for."""
    unpopulated: Size | None = None
    """Pages that a driver takes to map other domains' memory there: at addresses that nobody has, in whole sections, or
    from the balloon where the kernel has no ZONE_DEVICE, or is told of no such addresses (arm64)."""
    hotplug_unpopulated: bool | None = None
    """``/proc/sys/xen/balloon/hotplug_unpopulated``: memory is added for those of the balloon, rather than given up."""


class Wait(Step, frozen=True, tag="wait"):
    """Time passes."""

    seconds: Seconds


ParameterName = Literal["auto_online_blocks", "online_policy", "auto_movable_ratio", "auto_movable_numa_aware"]
"""What decides how memory goes online, and may be changed while the machine runs."""


class Set(Step, frozen=True, tag="set"):
    """Somebody changes a parameter of hotplug: ``echo VALUE > …/memory/auto_online_blocks`` or
    ``> /sys/module/memory_hotplug/parameters/NAME``.
    """

    parameter: ParameterName
    to: str | Annotated[int, Meta(ge=0, le=(1 << 32) - 1)] | bool


class Allocate(Step, frozen=True, tag="allocate"):
    """Somebody uses memory: `kind` says what for, `tag` names it for a later free or pin."""

    size: Size
    kind: Kind = "movable"
    tag: str = "a"
    node: Node = 0
    at: Size | None = None
    """Take exactly this physical range, which must be free."""


class Free(Step, frozen=True, tag="free"):
    """An allocation ends."""

    tag: str = "a"


class Pin(Step, frozen=True, tag="pin"):
    """An outside reference (long-term DMA) holds a movable allocation."""

    tag: str = "a"


class Poison(Step, frozen=True, tag="poison"):
    """A memory error takes a page: ``echo ADDRESS > /sys/devices/system/memory/hard_offline_page``."""

    at: Size | None = None
    """Where (bytes, physical)."""
    tag: str | None = None
    """Or the allocation whose first page it is."""
    soft: bool = False
    """Whether the page only may go bad and is to be emptied: ``soft_offline_page``."""


class Fragment(Step, frozen=True, tag="fragment"):
    """Use single pages so that no free chunk of `size` or more is left on a node."""

    size: Size = "2M"
    node: Node = 0
    tag: str = "fragments"


class NewProcess(Step, frozen=True, tag="new-process"):
    """``fork()``: a new root table that copies the kernel's half."""

    process: str


class Touch(Step, frozen=True, tag="touch"):
    """A process in the kernel reads the struct page or the direct map of an address (bytes, physical)."""

    at: Size
    process: str = "init_mm"
    what: Literal["direct-map", "struct-page"] = "direct-map"


class Vmalloc(Step, frozen=True, tag="vmalloc"):
    """The kernel maps pages at addresses of their own, next door to direct map and vmemmap."""

    size: Size
    tag: str = "area"
    node: Node = 0


class Vfree(Step, frozen=True, tag="vfree"):
    """Such an area goes."""

    tag: str = "area"


StepKind: TypeAlias = (
    Plug
    | Online
    | Offline
    | Remove
    | Unplug
    | Eject
    | VirtioMem
    | Resize
    | Unbind
    | Bind
    | Suspend
    | Reboot
    | Probe
    | HvAdd
    | XenTarget
    | Wait
    | Set
    | Dax
    | Allocate
    | Free
    | Pin
    | Poison
    | Fragment
    | NewProcess
    | Touch
    | Vmalloc
    | Vfree
)


class Scenario(Strict, frozen=True):
    """A whole scenario file."""

    machine: MachineText
    steps: list[StepKind] = msgspec.field(default_factory=list)
    title: str = ""
    breaks: list[str] = msgspec.field(default_factory=list)
    """Laws that the steps are meant to break: the rehearsal goes as expected if these do and no other does."""
    twin: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """What happens while tools work on the machine (``memhp twin``): see :mod:`memhp.twin.script`."""
