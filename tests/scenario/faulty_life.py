"""Random lives of a machine whose allocations fail: memory comes, goes online, is used and pinned, is mapped and goes.

Before each step one allocation may be chosen that fails in it: the first of all that are asked for, or a later one.
What a kernel is known to leave behind then ends the life (:mod:`check.leftovers`); nothing else may be left.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from check.leftovers import kills, left_behind
from memhp.check import check_all, notes_of, snapshot, watch
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.linux.config import Config
from memhp.linux.init import start_kernel
from memhp.linux.mm import users
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.units import align_up
from scenario.life import driver_of, possible, small_machine
from steppers import Failing

WINDOW = 8
"""Memory blocks that a life may plug DIMMs into; the device of the DAX bus lies above them."""

DEVICE_BLOCKS = 4

ERRORS = {"ENOMEM", "EBUSY", "EINTR", "EINVAL", "EPERM", "ENODEV", "EEXIST"}
"""How a step may end that cannot be carried out, now or for want of memory."""

PICK = st.integers(0, 99)
FAULT = st.one_of(st.none(), st.integers(1, 4), st.integers(1, 40))
"""Which allocation of a step fails; None: none does."""

OPTIONS = st.fixed_dictionaries(
    {
        "memmap_on_memory": st.sampled_from(["N", "Y", "force"]),
        "online_policy": st.sampled_from(["contig-zones", "auto-movable"]),
    }
)


def happens(**choices: Any) -> Callable[[Any], Any]:
    """A rule for machines that are alive."""
    as_rule: Callable[[Any], Any] = rule(**choices)
    return lambda method: precondition(lambda self: not self.over)(as_rule(method))


class FaultyLives(RuleBasedStateMachine):
    """Lives of a machine with this kernel, some of whose allocations fail."""

    kernel: ClassVar[Config]
    over = "not booted yet"

    @initialize(options=OPTIONS)
    def boot(self, options: dict[str, Any]) -> None:
        """Boot."""
        config = possible(self.kernel, options)
        self.k: Kernel = start_kernel(small_machine(config))
        self.baseline = snapshot(self.k)
        self.laws = watch(self.k, self.baseline)
        self.session = Session(self.k)
        self.block = self.k.memory_block_size
        boot_blocks = [last for _, last, _ in self.k.memory_blocks]
        self.first = align_up(max(boot_blocks), 2)
        self.altmaps: dict[int, VmemAltmap] = {}
        self.tags: list[str] = []
        self.over = ""

    def do(self, step: schema.StepKind, fault: int | None = None) -> str:
        """Carry out a step in which an allocation fails: how it ended."""
        self.k.hw.faults = faults = Failing(None, fault) if fault else None
        site = None
        try:
            RUNNERS[type(step)](self.session, step)
            how = "ok"
        except KernelError as error:
            assert error.name in ERRORS, f"{step}: {error}"
            how = error.name
        except KernelBug as error:
            hangs = isinstance(step, schema.Dax) and "release the pins first" in error.reason
            assert hangs or kills(self.k.config, faults.failed if faults else None, error.reason), f"{step}: {error}"
            self.over = error.reason
            return "BUG"
        finally:
            self.k.hw.faults = None
            site = faults.failed if faults else None
            assert self.session.refused == [adev for adev in self.session.dimms if adev.driver_data is None]
        if site is not None and (may := left_behind(self.k.config, site)):
            breaches = check_all(self.k, self.baseline)
            broken = {breach.law for breach in breaches}
            assert broken <= may, (site, broken)
            assert self.laws.check() == (breaches, notes_of(self.k, self.baseline))
            self.over = f"leftovers of {site}" if broken else ""
        return how

    # What may happen -------------------------------------------------------------------------------------------

    @happens(
        pick=PICK,
        blocks=st.integers(1, 3),
        driver=st.sampled_from(["dimm", "kmem", "virtio_mem"]),
        node=st.sampled_from([0, 1, 2]),
        memmap=st.sampled_from([None, True]),
        online=st.sampled_from([None, "kernel", "movable"]),
        fault=FAULT,
    )
    def plug(
        self, pick: int, blocks: int, driver: Any, node: int, memmap: bool | None, online: Any, fault: int | None
    ) -> None:
        """A device appears, where there is none: a DIMM that was refused still is."""
        owners, pages = self.k.hw.memory.owners, self.k.pages_per_block
        window = range(self.first, self.first + WINDOW - blocks + 1)
        places = [at for at in window if not owners.covered(at * pages, (at + blocks) * pages)]
        if places:
            at, size = places[pick % len(places)] * self.block, blocks * self.block
            driver = driver_of(self.k.config, driver)
            step = schema.Plug(at=at, size=size, driver=driver, node=node, memmap_on_memory=memmap, online=online)
            self.do(step, fault)

    def some_block(self, pick: int, state: str) -> int | None:
        """A block above boot memory in a state."""
        runs = self.k.memory_blocks.runs(self.first, 1 << 40)
        found = [i for lo, hi, block in runs if block.state == state for i in range(lo, hi)]
        return found[pick % len(found)] if found else None

    @happens(pick=PICK, zone=st.sampled_from(["auto", "kernel", "movable"]), fault=FAULT)
    def online(self, pick: int, zone: Any, fault: int | None) -> None:
        """A block goes online."""
        if (block := self.some_block(pick, "offline")) is not None:
            self.do(schema.Online(blocks=[block], zone=zone), fault)

    @happens(pick=PICK, fault=FAULT)
    def offline(self, pick: int, fault: int | None) -> None:
        """A block goes offline, if what is in it finds a place elsewhere."""
        if (block := self.some_block(pick, "online")) is not None:
            self.do(schema.Offline(blocks=[block]), fault)

    @happens(pick=PICK, how=st.sampled_from([schema.Remove, schema.Unplug]), fault=FAULT)
    def remove(self, pick: int, how: Any, fault: int | None) -> None:
        """What was plugged goes, all of it."""
        if self.session.plugged:
            span = self.session.plugged[pick % len(self.session.plugged)]
            self.do(how(at=span.start, size=span.size), fault)

    @happens(pick=PICK, fault=FAULT)
    def eject(self, pick: int, fault: int | None) -> None:
        """A DIMM is asked for."""
        whole = [adev for adev in self.session.dimms if all(self.is_there(span) for span in adev.crs)]
        if whole:
            self.do(schema.Eject(at=whole[pick % len(whole)].crs[0].start), fault)

    def is_there(self, span: Span) -> bool:
        """Whether no part of a range was taken away by itself."""
        return self.k.hw.memory.owners.covers(*self.session.frames(span))

    @happens(
        mode=st.sampled_from(["raw", "devdax", "devdax", "kmem", "none"]),
        where=st.sampled_from(["mem", "dev"]),
        small=st.booleans(),
        memmap=st.booleans(),
        pinned=st.sampled_from([None, None, 3]),
        fault=FAULT,
    )
    def map_device(
        self, mode: Any, where: Any, small: bool, memmap: bool, pinned: int | None, fault: int | None
    ) -> None:
        """The device gets another driver: what the one before had mapped is unmapped, pinned as it may be."""
        at, size = (self.first + WINDOW) * self.block, DEVICE_BLOCKS * self.block
        region = self.session.regions.get("dax0.0")
        if region is not None and region.pgmap is not None and region.pgmap.pinned and not fault:
            self.do(schema.Dax(pinned=0))
        step = schema.Dax(
            at=at, size=size, mode=mode, map=where, memmap_on_memory=memmap,
            align=self.k.config.page_size if small else None,
        )  # fmt: skip
        try:
            how = self.do(step, fault)
        except BadInput as refused:
            assert "still RAM" in refused.message
            return
        if how == "ok" and pinned and mode in ("raw", "devdax"):
            self.do(schema.Dax(pinned=pinned))

    @happens(
        kind=st.sampled_from(["kernel", "movable", "movable", "pinned", "hugetlb", "hugetlb-free", "balloon"]),
        size=st.sampled_from([1, 16, 128]),
        fault=FAULT,
    )
    def use(self, kind: Any, size: int, fault: int | None) -> None:
        """Somebody uses memory."""
        unit = self.k.config.pmd_size if kind.startswith("hugetlb") else self.k.config.page_size
        tag = next(f"t{i}" for i in range(99) if f"t{i}" not in self.tags)
        if self.do(schema.Allocate(size=size * unit, kind=kind, tag=tag), fault) == "ok":
            self.tags.append(tag)

    @happens(pick=PICK)
    def free(self, pick: int) -> None:
        """An allocation ends."""
        if self.tags:
            tag = self.tags.pop(pick % len(self.tags))
            if users.spans_of(self.k, tag):
                assert self.do(schema.Free(tag=tag)) == "ok"

    @happens(pick=PICK, fault=FAULT)
    def pin(self, pick: int, fault: int | None) -> None:
        """A device takes long-term references, for which pages may have to move."""
        if self.tags:
            try:
                self.do(schema.Pin(tag=self.tags[pick % len(self.tags)]), fault)
            except BadInput as refused:
                assert "movable" in refused.message or "nothing is allocated" in refused.message

    @precondition(lambda self: self.over)
    @rule()
    def lie_still(self) -> None:
        """Nothing happens any more."""

    # What must be true then ------------------------------------------------------------------------------------

    @invariant()
    def every_law_holds(self) -> None:
        """All laws, with the machine as it booted to compare with."""
        if not self.over:
            breaches = check_all(self.k, self.baseline)
            broken = [f"{breach.law}: {breach.text}" for breach in breaches]
            assert not broken, broken
            assert self.laws.check() == (breaches, notes_of(self.k, self.baseline))

    @invariant()
    def altmaps_that_went_owe_nothing(self) -> None:
        """Of an altmap that hosts nothing any more all pages are back."""
        if self.over:
            return
        mappings = self.k.statics(Memremap).pgmap_array
        devices = {id(pgmap): pgmap.altmap for _, _, pgmap in mappings if pgmap.altmap is not None}
        now = {id(altmap): altmap for altmap in (*self.k.altmaps.values(), *devices.values())}
        for key in self.altmaps.keys() - now.keys():
            assert self.altmaps.pop(key).alloc == 0
        self.altmaps.update(now)
        lines = [line.text for line in self.k.hw.log_lines]
        assert not [text for text in lines if "not fully unmapped" in text or "failed to free all" in text]

    def teardown(self) -> None:
        """Everything ends: whatever failed before, all that may go goes."""
        if self.over:
            return
        for tag in self.tags:
            if users.spans_of(self.k, tag):
                self.do(schema.Free(tag=tag))
        if self.session.regions:
            self.do(schema.Dax(pinned=0) if self.session.regions["dax0.0"].pgmap else schema.Dax())
            kmem = self.session.regions["dax0.0"].mode == "kmem"
            if kmem:
                self.do(schema.Offline(at=(self.first + WINDOW) * self.block, size=DEVICE_BLOCKS * self.block))
            self.do(schema.Dax(mode="none"))
        for span in list(self.session.plugged):
            self.do(schema.Unplug(at=span.start, size=span.size))
        self.every_law_holds()
        self.altmaps_that_went_owe_nothing()
