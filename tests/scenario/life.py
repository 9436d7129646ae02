"""Random lives of a machine: what may happen to its memory next, and what must be true whatever happened before.

The machine is a small one of some configuration. Beside the kernel's state runs an account of its own, kept in memory
blocks, of what was plugged and what is online.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memhp.check import Snapshot, check_all, notes_of, round_trip, snapshot, watch
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.hw.memory import Use
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import users
from memhp.linux.mm.oom_kill import OomKill
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.scenario.presets import preset_for
from memhp.target.model.matrix import boot_memory
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.units import MiB, align_up

WINDOW = 20
"""Memory blocks that a life may plug into."""

NODES = (0, 1, 2)
"""Possible nodes. The last has neither memory nor CPUs at boot."""

LEFT_BEHIND = {"direct-map", "round-trip"}
"""Laws that an add without memory may break: x86-64 leaves its direct map, all leave the sections added so far."""

FRAGMENTS = "fragments"
"""The tag of pages that keep free memory apart."""

BOOT_OPTIONS = st.fixed_dictionaries(
    {
        "memmap_on_memory": st.sampled_from(["N", "Y", "force"]),
        "online_policy": st.sampled_from(["contig-zones", "auto-movable"]),
        "memhp_default_state": st.sampled_from(["offline", "offline", "online", "online_kernel", "online_movable"]),
        "movable_node": st.booleans(),
    }
)
DEVICES = st.fixed_dictionaries(
    {
        "driver": st.sampled_from(["dimm", "kmem", "virtio_mem"]),
        "node": st.sampled_from(NODES),
        "memmap_on_memory": st.sampled_from([None, True, False]),
        "online": st.sampled_from([None, "auto", "kernel", "movable"]),
    }
)
PICK = st.integers(0, 99)
"""Which of the things that there are: taken modulo their number."""


def small_machine(config: Config) -> MachineSpec:
    """A machine with little RAM, a third of it on a second node."""
    base = preset_for(config.arch, config.page_size, config.va_bits)
    size = boot_memory(config)
    ram = [Ram(start, part) for start, part in base.spread(size)]
    top = align_up(ram[-1].span.end, 2 * config.section_size)
    ram.append(Ram(top, size // 2, nid=1))
    return MachineSpec(config.title, config, tuple(ram), reserved=32 * MiB, nodes=NODES)


def possible(config: Config, options: dict[str, Any]) -> Config:
    """The configuration with those boot options that its kernel has."""
    for name, value in options.items():
        try:
            config = replace(config, **{name: value}).validate()
        except BadInput:
            continue
    return config


def driver_of(config: Config, name: schema.DriverName) -> schema.DriverName:
    """The driver, or that of dax devices where the kernel has none for virtio-mem."""
    return name if config.choices.virtio_mem or name != "virtio_mem" else "kmem"


def happens(**choices: Any) -> Callable[[Any], Any]:
    """A rule for machines that are alive."""
    as_rule: Callable[[Any], Any] = rule(**choices)
    return lambda method: precondition(lambda self: not self.dead)(as_rule(method))


@cache
def as_booted(config: Config) -> Snapshot:
    """What the machine is like right after boot: the same each time."""
    return snapshot(start_kernel(small_machine(config)))


class Lives(RuleBasedStateMachine):
    """Lives of a machine with this kernel."""

    kernel: ClassVar[Config]
    dead = "not booted yet"

    @initialize(options=BOOT_OPTIONS, far=st.booleans(), shift=st.integers(0, 3), device=DEVICES)
    def boot(self, options: dict[str, Any], far: bool, shift: int, device: dict[str, Any]) -> None:
        """Boot, and plug a first device: right above RAM, or across the border of what two root entries translate."""
        config = possible(self.kernel, options)
        self.k: Kernel = start_kernel(small_machine(config))
        self.baseline = as_booted(config)
        self.laws = watch(self.k, self.baseline)
        self.session = Session(self.k)
        self.block = self.k.memory_block_size
        self.boot_blocks = {i for first, end, _ in self.k.memory_blocks for i in range(first, end)}
        self.free_at_boot = free_pages(self.k)
        top = max(self.boot_blocks) + 1 + shift
        edge = max(config.pgdir_size // self.block, WINDOW)
        crossing = align_up(top + WINDOW, edge) - WINDOW // 2
        reach = self.k.layout.pluggable_range().end // self.block
        self.first = crossing if far and crossing + WINDOW <= reach else top
        self.state: dict[int, str] = dict.fromkeys(self.boot_blocks, "online")
        self.device: dict[int, int] = {}
        self.plugged = 0
        self.tags: dict[str, str] = {}
        self.killed = 0
        self.processes: list[str] = []
        self.dead = ""
        self.plug(pick=WINDOW // 2 - 1, blocks=2, device=device)

    def do(self, step: schema.StepKind, *may: str) -> str:
        """Carry out a step: how it ended, which is well, with one of these errnos, or with the machine's death."""
        try:
            RUNNERS[type(step)](self.session, step)
        except KernelError as error:
            assert error.name in may, f"{step}: {error}"
            return error.name
        except KernelBug as error:
            self.dead = error.reason
            table_missing = "BUG" in may and "no memory for a page table" in error.reason
            assert table_missing or self.ends_for_want_of_memory(error, *may), f"{step}: {error}"
            return "BUG"
        finally:
            self.forget_the_killed()
        return "ok"

    def forget_the_killed(self) -> None:
        """What a process had that the OOM killer took since the last step is free."""
        killed = self.k.statics(OomKill).killed
        for tag in killed[self.killed :]:
            self.tags.pop(tag, None)
        self.killed = len(killed)

    def ends_for_want_of_memory(self, error: KernelBug, *may: str) -> bool:
        """Whether the machine panics as the OOM killer finds no victim, in a step that may fail for want of memory."""
        kernels = [zone for zone in self.k.zones() if zone.type is not ZoneType.MOVABLE]
        scarce = free_pages(self.k, movable=False) < sum(zone.managed for zone in kernels) // 16
        return scarce and "ENOMEM" in may and error.reason == "System is deadlocked on memory"

    @property
    def out_of_memory(self) -> list[str]:
        """How hot-add may end without memory: only some kernels survive when a table of the direct map is missing."""
        record = self.k.config.choices
        return ["ENOMEM"] if isinstance(record, Arm64Profile) and record.create_may_fail else ["ENOMEM", "BUG"]

    # What may happen -------------------------------------------------------------------------------------------

    @happens(pick=PICK, blocks=st.integers(1, 4), device=DEVICES)
    def plug(self, pick: int, blocks: int, device: dict[str, Any]) -> None:
        """A device appears. It is refused for want of memory, which kills kernels that cannot do without tables."""
        window = range(self.first, self.first + WINDOW)
        places = [at for at in window if not any(i in self.state for i in range(at, at + blocks))]
        if not places:
            return
        first = places[pick % len(places)]
        online = device["online"] if self.k.auto_online_blocks == "offline" else None
        driver = driver_of(self.k.config, device["driver"])
        own = {**device, "driver": driver, "online": online}
        step = schema.Plug(at=first * self.block, size=blocks * self.block, **own)
        asks_5_13 = step.memmap_on_memory and self.k.config.profile.memmap_on_memory == "one-block"
        how = self.do(step, *self.out_of_memory, *(["EINVAL"] if asks_5_13 else []))
        self.take_back(how, step)
        if how == "ENOMEM" and (broken := {breach.law for breach in check_all(self.k, self.baseline)}):
            assert broken <= LEFT_BEHIND, broken
            self.dead = "a failed add left something behind"
        if how == "ok":
            self.plugged += 1
            goes_online = online is not None or self.k.auto_online_blocks != "offline"
            for i in range(first, first + blocks):
                self.state[i] = "online" if goes_online else "offline"
                self.device[i] = self.plugged

    @happens(pick=PICK, why=st.sampled_from(["a part of a block", "no such node", "out of reach"]))
    def plug_what_cannot_be(self, pick: int, why: str) -> None:
        """What cannot be is refused, and nothing is left of it."""
        first = self.first + pick % WINDOW
        if why == "out of reach":
            at = self.k.layout.pluggable_range().end - self.block
            step = schema.Plug(at=at, size=2 * self.block, expect="E2BIG")
            assert self.do(step, "E2BIG") == "E2BIG"
            self.take_back("E2BIG", step)
        elif not any(i in self.state for i in (first, first + 1)):
            odd, nid = (2 * MiB, 0) if why == "a part of a block" else (0, len(NODES))
            # Of a DIMM the node is what firmware's tables make of its domain, which is node 0 for an unknown one.
            driver: schema.DriverName = "kmem" if nid else "dimm"
            step = schema.Plug(at=first * self.block + odd, size=self.block, node=nid, driver=driver, expect="EINVAL")
            assert self.do(step, "EINVAL") == "EINVAL"
            self.take_back("EINVAL", step)

    def take_back(self, how: str, step: schema.Plug) -> None:
        """The platform takes a DIMM out of its slot that the kernel refused, before it is tried again."""
        if how not in ("ok", "BUG") and step.driver == "dimm":
            self.do(schema.Eject(at=step.at))

    @precondition(lambda self: "offline" in self.state.values())
    @happens(pick=PICK, zone=st.sampled_from(["auto", "kernel", "movable"]))
    def online(self, pick: int, zone: schema.Zone) -> None:
        """Nothing keeps a sound block from going online, where it is asked to go."""
        offline = sorted(i for i, state in self.state.items() if state == "offline")
        block = offline[pick % len(offline)]
        self.do(schema.Online(blocks=[block], zone=zone))
        self.state[block] = "online"
        if zone != "auto":
            assert (zone_of(self.k, block) is ZoneType.MOVABLE) is (zone == "movable")

    @happens(pick=PICK, of_boot=st.sampled_from([False, False, False, True]))
    def offline(self, pick: int, of_boot: bool) -> None:
        """A block goes offline if what is in it can go elsewhere; empty ones do, those with unmovable pages never."""
        online = sorted(i for i, s in self.state.items() if s == "online" and (i in self.boot_blocks) is of_boot)
        if not online:
            return
        block = online[pick % len(online)]
        uses = self.uses(block)
        more = ["EPERM", "EINVAL"] if of_boot else self.forbidden([block])
        how = self.do(schema.Offline(blocks=[block]), "EBUSY", "EINTR", *more)
        if how == "ok":
            assert uses <= {Use.FREE, Use.MOVABLE, Use.HUGETLB} and (of_boot or not more)
            self.state[block] = "offline"
        else:
            assert more or uses != {Use.FREE}

    def forbidden(self, blocks: list[int]) -> list[str]:
        """What the architecture says to taking hot-plugged blocks offline, if it is against it.

        Since 7.1 arm64 refuses where memory begins within a leaf of the vmemmap, as it does behind the struct pages
        that a block keeps at its start, when huge leaves map these.
        """
        config = self.k.config
        checks = getattr(config.choices, "bootmem_remove", "") == "notifier-and-split-check"
        hosting = any(block in self.k.altmaps and self.state[block] == "online" for block in blocks)
        return ["EPERM"] if checks and config.vmemmap_huge and hosting else []

    def uses(self, block: int) -> set[Use]:
        """What the frames of a block are used for, but for the struct pages that it hosts itself."""
        pages = self.k.pages_per_block
        runs = self.k.hw.memory.owners.runs(block * pages, (block + 1) * pages)
        return {owner.use for _, _, owner in runs if not (owner.use is Use.MEMMAP and owner.tag)}

    @precondition(lambda self: self.device)
    @happens(pick=PICK, offline_too=st.booleans(), whole=st.booleans())
    def remove(self, pick: int, offline_too: bool, whole: bool) -> None:
        """A device goes, or a block of one: refused while a block is online, or cannot be taken offline."""
        block = sorted(self.device)[pick % len(self.device)]
        blocks = [i for i in sorted(self.device) if whole and self.device[i] == self.device[block]]
        if blocks != list(range(blocks[0], blocks[-1] + 1) if blocks else []):
            blocks = []
        blocks = blocks or [block]
        was = [self.state[i] for i in blocks]
        zones = [zone_of(self.k, i) for i in blocks]
        hosting = {i in self.k.altmaps for i in blocks}
        at, size = blocks[0] * self.block, len(blocks) * self.block
        granularity = ["EINVAL"] if hosting == {True} and self.in_blocks_only and len(blocks) > 1 else []
        if offline_too:
            more = granularity + self.forbidden(blocks)
            how = self.do(schema.Unplug(at=at, size=size), "EBUSY", "EINTR", *more)
            assert how == "ok" or more or any(self.uses(i) - {Use.FREE} for i in blocks)
        else:
            how = self.do(schema.Remove(at=at, size=size), "EBUSY", *granularity)
            assert (how == "EBUSY") is ("online" in was)
        for i, zone in zip(blocks, zones, strict=True):
            if how == "ok":
                del self.state[i], self.device[i]
            else:
                assert (zone_of(self.k, i) is ZoneType.MOVABLE) is (zone is ZoneType.MOVABLE)

    @property
    def in_blocks_only(self) -> bool:
        """Whether this kernel removes blocks that host their own struct pages one by one only."""
        return self.k.config.profile.memmap_on_memory == "one-block"

    @happens(
        kind=st.sampled_from(["kernel", "reclaimable", "movable", "movable", "pinned", "hugetlb", FRAGMENTS]),
        share=st.sampled_from([0.001, 0.2, 0.6, 1.0]),
        nid=st.sampled_from([0, 0, 1, 2]),
    )
    def use(self, kind: Any, share: float, nid: int) -> None:
        """Somebody uses a share of what is free to them, up to the last page; or free memory is cut into pages."""
        if nid not in self.k.nodes or (kind == FRAGMENTS and FRAGMENTS in self.tags):
            return
        if kind == FRAGMENTS:
            self.do(schema.Fragment(size=self.k.config.page_size * 512, node=nid))
            self.note(FRAGMENTS, kind)
            return
        unit = self.k.config.pmd_size if kind == "hugetlb" else self.k.config.page_size
        room = free_pages(self.k, movable=kind in ("movable", "hugetlb")) * self.k.config.page_size
        size = max(int(room * share) // unit, 1) * unit
        while True:
            tag = f"{kind} {next(i for i in range(99) if f'{kind} {i}' not in self.tags)}"
            how = self.do(schema.Allocate(tag=tag, kind=kind, size=size, node=nid), "ENOMEM")
            self.note(tag, kind)
            if share < 1.0 or size == unit:
                break
            size = size if how == "ok" else max(size // 2 // unit, 1) * unit

    @happens(kind=st.sampled_from(["kernel", "movable", "pinned"]), pick=PICK)
    def use_there(self, kind: Any, pick: int) -> None:
        """Somebody uses the last pages of a hot-plugged block."""
        online = sorted(i for i in self.device if self.state[i] == "online")
        tag = f"there {kind}"
        if tag in self.tags or not online:
            return
        at = (online[pick % len(online)] + 1) * self.block - 2 * self.k.config.page_size
        try:
            self.do(schema.Allocate(tag=tag, kind=kind, size=2 * self.k.config.page_size, at=at))
        except BadInput as refused:
            assert "not all free" in refused.message or "Movable" in refused.message
        self.note(tag, kind)

    def note(self, tag: str, kind: str) -> None:
        """Keep a tag as long as anything is allocated under it."""
        if users.spans_of(self.k, tag):
            self.tags[tag] = kind

    @precondition(lambda self: self.tags)
    @happens(pick=PICK)
    def free(self, pick: int) -> None:
        """An allocation ends, which nothing can prevent."""
        tag = sorted(self.tags)[pick % len(self.tags)]
        self.do(schema.Free(tag=tag))
        del self.tags[tag]

    @precondition(lambda self: "movable" in self.tags.values())
    @happens(pick=PICK)
    def pin(self, pick: int) -> None:
        """A device takes long-term references; pages of ZONE_MOVABLE move out first, for which room is needed."""
        movable = sorted(tag for tag, kind in self.tags.items() if kind == "movable")
        tag = movable[pick % len(movable)]
        if self.do(schema.Pin(tag=tag), "ENOMEM") == "ok":
            self.tags[tag] = "pinned"

    @happens(pick=PICK, who=PICK, what=st.sampled_from(["direct-map", "struct-page"]), new=st.booleans())
    def touch(self, pick: int, who: int, what: Any, new: bool) -> None:
        """Every process reaches all memory that is there, however old the process and however new the memory."""
        if new and len(self.processes) < 3:
            name = f"process {len(self.processes)}"
            if self.do(schema.NewProcess(process=name), "ENOMEM") == "ok":
                self.processes.append(name)
        blocks = sorted(self.device) or sorted(self.boot_blocks)
        process = ["init_mm", *self.processes][who % (len(self.processes) + 1)]
        at = (blocks[pick % len(blocks)] + 1) * self.block - 8
        if self.k.hw.memory.use_of(at >> self.k.config.page_shift) is not None:
            self.do(schema.Touch(at=at, process=process, what=what))

    @precondition(lambda self: self.dead)
    @rule()
    def lie_dead(self) -> None:
        """Nothing happens any more to a machine that has died."""

    # What must be true then ------------------------------------------------------------------------------------

    @invariant()
    def every_law_holds(self) -> None:
        """All laws, with the machine as it booted to compare with."""
        if self.dead:
            return
        breaches = check_all(self.k, self.baseline)
        broken = [f"{breach.law}: {breach.text}" for breach in breaches]
        assert not broken, broken
        assert self.laws.check() == (breaches, notes_of(self.k, self.baseline))

    @invariant()
    def the_accounts_agree(self) -> None:
        """The blocks are those that were plugged, in the states they were brought to."""
        if self.dead:
            return
        blocks = {i: block.state for first, end, block in self.k.memory_blocks for i in range(first, end)}
        assert blocks == self.state

    def teardown(self) -> None:
        """Everything ends and everything goes, and then it is as if nothing had been."""
        if self.dead:
            return
        for tag in sorted(self.tags):
            self.do(schema.Free(tag=tag))
        for block, state in sorted(self.state.items()):
            if state == "offline" and block in self.boot_blocks:
                self.do(schema.Online(blocks=[block], zone="kernel"))
        left = sorted(self.device, reverse=True)
        while left:
            stay = [i for i in left if not self.goes(i)]
            if stay == left:
                break
            left = stay
        reasons = [self.uses(i) & {Use.TABLE, Use.MEMMAP} or self.forbidden([i]) for i in left]
        assert all(reasons), "memory stays that holds nothing of use"
        self.every_law_holds()
        if not left:
            roots = 0 if self.k.config.choices.pgd_shared else len(self.processes)
            kept = round_trip.kept(self.k.layout, self.baseline, snapshot(self.k)).total()
            assert self.free_at_boot - free_pages(self.k) == roots + kept

    def goes(self, block: int) -> bool:
        """Try to take a block away."""
        step = schema.Unplug(at=block * self.block, size=self.block)
        gone = self.do(step, "EBUSY", *self.forbidden([block])) == "ok"
        if gone:
            del self.state[block], self.device[block]
        return gone


def zone_of(k: Kernel, block: int) -> ZoneType | None:
    """The zone of a block that is online; None for one that is not, and where there is none."""
    device = k.memory_blocks.get(block)
    return None if device is None else device.zone


def free_pages(k: Kernel, *, movable: bool = True) -> int:
    """Pages that nobody uses, in all zones or all but Movable."""
    zones = [zone for zone in k.zones() if movable or zone.type is not ZoneType.MOVABLE]
    return sum(zone.free.size + zone.isolated_free.size for zone in zones)
