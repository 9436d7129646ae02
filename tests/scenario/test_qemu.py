"""Machines described by a command line of QEMU: as the kernels found them that were booted with it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shlex

import pytest

from captures import captures, facts, guests, open_capture
from memhp.errors import BadInput
from memhp.facts.observed import Facts
from memhp.linux.init import MachineSpec, start_kernel
from memhp.linux.kernel.resource import Resource
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.machine import machine_spec
from memhp.scenario.qemu import parse
from memhp.scenario.qemu_machine import described
from memhp.scenario.schema import Dax, MachineText, VirtioMem
from memhp.spans import SpanSet
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB


def command(observed: Facts) -> str:
    """The command line that QEMU says it was started with; an option's value may begin with anything."""
    return shlex.join(observed.qemu.args) if observed.qemu is not None else ""


def first(name: str) -> Facts:
    return facts(name, next(iter(open_capture(name))))


def told(name: str) -> bool:
    """Whether the command line alone decides where RAM is: not what firmware keeps for itself (EFI on LoongArch), or a
    device tree of somebody's own says.
    """
    words = command(first(name))
    return bool(words) and not any(each in words for each in ("loongarch", "-dtb"))


NAMES = [name for name in (*captures(), *guests()) if told(name)]


def spec_of(text: str) -> MachineSpec:
    return machine_spec(MachineText(qemu=text))


def test_most_captures_tell() -> None:
    assert {name.split("-")[0] for name in NAMES} == {"x86_64", "arm64"}
    assert any("numa2" in name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_ram_lies_where_the_kernel_found_it(name: str) -> None:
    log = first(name).boot_log
    assert log is not None
    spec = spec_of(command(first(name)))
    for nid in {each.nid for each in log.early_node_ranges}:
        mine = SpanSet(ram.span for ram in spec.ram if ram.nid == nid)
        assert mine == SpanSet(each.span for each in log.early_node_ranges if each.nid == nid)


@pytest.mark.parametrize("name", NAMES)
def test_memory_blocks_are_as_large_and_domains_are_nodes_as_there(name: str) -> None:
    observed = first(name)
    machine, _ = described(MachineText(qemu=command(observed), page_size=observed.page_size))
    k = start_kernel(machine_spec(machine))
    assert k.memory_block_size == observed.memory.block_size
    ranges = observed.boot_log.srat if observed.boot_log is not None else ()
    real = list(dict.fromkeys(each.pxm for each in sorted(ranges, key=lambda each: each.nid)))
    assert machine.proximity == real


WITH_PMEM = [
    name for name in NAMES if "x86_64" in name and any(w in command(first(name)) for w in ("memmap=", "nvdimm=on"))
]


def test_captures_with_persistent_memory_are_among_them() -> None:
    assert any("memmap=" in command(first(name)) for name in WITH_PMEM)
    assert any("nvdimm=on" in command(first(name)) for name in WITH_PMEM)


@pytest.mark.parametrize("name", WITH_PMEM)
def test_persistent_memory_is_where_the_kernel_found_it(name: str) -> None:
    """``memmap=nn!ss`` and NVDIMMs: what ``/proc/iomem`` calls Persistent Memory at boot."""
    observed = first(name)
    _, steps = described(MachineText(qemu=command(observed)))
    told = [(step.at, step.size) for step in steps if isinstance(step, Dax)]
    found = [(res.start, res.size) for res in observed.iomem if res.name.startswith("Persistent Memory")]
    assert told == found


def test_a_command_line_with_persistent_memory_is_rehearsed() -> None:
    pmem = "-m 4G,slots=2,maxmem=8G -machine q35,nvdimm=on -object memory-backend-ram,id=a,size=1G"
    words = f"{pmem} -device nvdimm,memdev=a,label-size=128K -append 'memmap=512M!5G memmap=64M$1G'"
    text = f'[machine]\nqemu = "{words}"\n[[steps]]\ndo = "dax"\ndevice = "dax0.0"\nmode = "kmem"\n'
    run, k = rehearse_scenario(loads(text))
    assert run.ok
    booted = SpanSet(span.scaled(12) for span in k.boot_memory)
    assert not booted.covered(5 * GiB, 5 * GiB + 512 * MiB)
    assert not booted.covered(1 * GiB, 1 * GiB + 64 * MiB)
    assert [step.title for step in run.steps[:2]] == ["boot with memmap=512 MiB!0x140000000", "boot with NVDIMM 0"]


WITH_DEVICES = [name for name in NAMES if "virtio-mem-pci" in command(first(name))]


@pytest.mark.parametrize("name", WITH_DEVICES)
def test_virtio_mem_devices_appear_where_qemu_put_them(name: str) -> None:
    observed = first(name)
    assert observed.qemu is not None
    text = f"steps = []\n[machine]\nqemu = '''{command(observed)}'''\n"
    run, k = rehearse_scenario(loads(text))
    assert run.ok
    found = {res.name: (res.start, res.end + 1) for res in _devices(k)}
    real = [each for each in observed.qemu.devices if each.type == "virtio-mem"]
    assert sorted(found.values()) == sorted((each.addr, each.addr + each.max_size) for each in real if each.max_size)


def _devices(k: Kernel) -> list[Resource]:
    return [res for res in k.iomem_resource.children if res.name.startswith("virtio")]


def ends(text: str) -> list[int]:
    return [ram.span.end for ram in spec_of(text).ram]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("-M pc -m 3G", 3 * GiB - 128 * 1024),
        ("-M pc -m 4G", 5 * GiB),
        ("-M pc-i440fx-9.2 -m 3583M", 3583 * MiB - 128 * 1024),
        ("-M pc-q35-9.2 -m 2815M", 2815 * MiB - 128 * 1024),
        ("-M q35 -m 2816M", 4 * GiB + 768 * MiB),
        ("-M q35 -m 4096", 6 * GiB),
        ("-M microvm -m 4G", 5 * GiB),
        ("qemu-system-aarch64 -machine virt -m 4G", 5 * GiB),
        ("qemu-system-riscv64 -m 4G", 6 * GiB),
        ("qemu-system-loongarch64 -m 4G", 6 * GiB - 256 * MiB),
    ],
)
def test_ram_ends_where_the_boards_sources_say(text: str, end: int) -> None:
    assert ends(text)[-1] == end


@pytest.mark.parametrize(("ram", "block"), [("61G", 128 * MiB), ("62G", 2 * GiB), ("63G", GiB), ("70G", 2 * GiB)])
def test_large_guests_have_the_blocks_that_the_end_of_their_ram_allows(ram: str, block: int) -> None:
    """``probe_memory_block_size()``: from 64 GiB on the largest that boot memory ends with; a q35 ends 2 GiB higher."""
    assert start_kernel(spec_of(f"-M q35 -m {ram}")).memory_block_size == block


def run(text: str, *steps: str) -> list[str]:
    scenario = "steps = [" + ", ".join(f"{{ {step} }}" for step in steps) + f"]\n[machine]\nqemu = '''{text}'''\n"
    done, k = rehearse_scenario(loads(scenario))
    assert done.ok
    return [f"{res.start:#x}" for res in k.iomem_resource.children if res.start >= 4 * GiB]


def test_the_first_dimm_of_a_pc_with_4_gib_follows_its_ram() -> None:
    assert run("-M pc -m 4G,slots=1,maxmem=5G", 'do = "plug", size = "1G"') == ["0x100000000", "0x140000000"]


def test_devices_of_the_command_line_are_there_before_all_steps() -> None:
    text = (
        "-M q35 -m 1G,slots=2,maxmem=16G -object memory-backend-ram,id=a,size=1G -device pc-dimm,memdev=a,id=d0 "
        "-object memory-backend-ram,id=b,size=4G -device virtio-mem-pci,memdev=b,id=v,requested-size=512M,block-size=4M"
    )
    _, devices = described(MachineText(qemu=text))
    assert [type(each).__name__ for each in devices] == ["Plug", "VirtioMem"]
    assert isinstance(devices[1], VirtioMem)
    assert (devices[1].device, devices[1].block_size, devices[1].requested) == ("v", 4 * MiB, 512 * MiB)
    assert run(text, 'do = "resize", to = "1G", device = "v"') == ["0x100000000", "0x140000000"]


@pytest.mark.parametrize(
    ("text", "step", "message"),
    [
        ("-m 1G,slots=1,maxmem=9G", 'do = "plug", size = "1G" }, { do = "plug", size = "1G"', "the only slot is taken"),
        ("-m 1G,slots=2,maxmem=3G", 'do = "plug", size = "4G"', "memory devices may have 2 GiB"),
        ("-m 1G", 'do = "plug", size = "1G"', "no slot for a DIMM"),
        ("-m 1G,slots=1,maxmem=2G", 'do = "plug", size = "1G", at = "0x4000000000"', "beyond what may be plugged"),
        ("-m 1G,maxmem=2G", 'do = "virtio-mem", size = "2G"', "memory devices may have 1 GiB"),
    ],
)
def test_what_there_is_no_room_for_is_refused(text: str, step: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        run(text, step)
    assert "steps[" in refused.value.where


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-m 1G 'unclosed", "not a command line"),
        ("-m 1G stray words", "what is 'stray' for"),
        ("-M isapc -m 1G", "machine isapc of x86_64 is not known"),
        ("-m 2G,maxmem=1G", "maxmem is less than the RAM"),
        ("-m 1G -device virtio-mem-pci,memdev=none", "no memory backend 'none'"),
        ("-m 2G -numa node,mem=1G", "the nodes have 1024 MiB of RAM, and -m says 2048 MiB"),
        ("-m 1G -smp many", "want a number, got 'many'"),
        ("-m 1G -device cxl-type3,volatile-memdev=x", "memory of cxl-type3 is not understood"),
        ("-m 1G,slots=1,maxmem=2G -object memory-backend-ram,id=a,size=1G -device nvdimm,memdev=a", "has no NVDIMMs"),
        ("-M microvm -m 1G -object memory-backend-ram,id=a,size=1G -device pc-dimm,memdev=a", "no room"),
        ("-m 1G -append memmap=exactmap", "memmap=exactmap is not understood"),
        ("-m 1G -append memmap=1G@4G", "memmap=1G@4G is not understood"),
        ("-m 1G -append 'memmap=4G!0'", "-append leaves no RAM"),
        ("-m 1G -append memhp_default_state=maybe", "-append: the kernel does not take memhp_default_state=maybe"),
    ],
)
def test_a_command_line_that_cannot_be_used_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        described(MachineText(qemu=text))
    assert "machine.qemu" in refused.value.where


BACKENDS = "-m 2G -object memory-backend-ram,id=a,size=1G -object memory-backend-ram,id=b,size=1G"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("-m 2G,slots=2", "-m", "slots want maxmem"),
        ("-m 2G,slots=0", "-m", "slots want maxmem"),
        ("-m 2G,slots=2,maxmem=2G", "-m", "slots want maxmem to be more than the RAM there is"),
        ("-m 2G,slots=257,maxmem=8G", "-m slots", "pc of x86_64 has at most 256, got 257"),
        ("qemu-system-aarch64 -m 2G,slots=257,maxmem=8G", "-m slots", "virt of arm64 has at most 256, got 257"),
        (f"{BACKENDS} -numa node,memdev=a -numa node,memdev=b,nodeid=2", "-numa", "node 1 is missing among 0, 2"),
        (f"{BACKENDS} -numa node,memdev=a -numa node,memdev=b,nodeid=0", "-numa", "node 1 is missing among 0, 0"),
        ("-m 2G -M", "-M", "wants a value"),
        ("-m 2G --numa", "-numa", "wants a value"),
        ("-object -m 2G", "-object", "wants a value"),
        ("-m 2G -device", "-device", "wants a value"),
        ("-m", "-m", "wants a value"),
        ("-m -2G", "-m", "want a size such as"),
        ("-m 2G -smp -4", "-smp", "want a number, got '-4'"),
        ("-m 2G -smp 0", "-smp", "want one CPU or more"),
        ("-M q35 -m 2G -smp 4097", "-smp", "q35 of x86_64 has at most 4096, got 4097"),
        ("-m 2G -smp 99999999", "-smp", "pc of x86_64 has at most 255"),
        ("-m 2G -device virtio-mem-pci", "-device virtio-mem-pci", "memdev is missing"),
    ],
)
def test_what_qemu_refuses_is_refused_by_the_name_of_its_option(text: str, where: str, message: str) -> None:
    """As QEMU 11.1 did, but for a device without memory, where it found that there was no room first."""
    with pytest.raises(BadInput, match=message) as refused:
        described(MachineText(qemu=text))
    assert refused.value.where == f"scenario: machine.qemu: {where}"


@pytest.mark.parametrize(("text", "known"), [("qemu-system-x86_64", ""), ("-bogus -snapshot", "-bogus, -snapshot")])
def test_a_command_line_that_says_nothing_of_memory_is_refused(text: str, known: str) -> None:
    with pytest.raises(BadInput) as refused:
        described(MachineText(qemu=text))
    assert refused.value.message == "nothing tells of memory" + (f"; not known here: {known}" if known else "")


def test_as_many_slots_and_cpus_as_qemu_has_are_taken() -> None:
    most, _ = described(MachineText(qemu="-m 2G,slots=256,maxmem=8G -smp 255"))
    assert (most.slots, most.cpus) == (256, 255)
    none, _ = described(MachineText(qemu="-m 2G,slots=0,maxmem=2G"))
    assert none.slots == 0


def test_a_value_may_begin_with_anything_and_nodes_may_come_in_any_order() -> None:
    found = parse("-m 1G --append '--quiet'", arch=None, where="")
    assert "--quiet" in str(found.append)
    found = parse(f"{BACKENDS} -numa node,memdev=a,nodeid=1 -numa node,memdev=b,nodeid=0", arch=None, where="")
    assert [node.nid for node in found.nodes] == [1, 0]


def test_the_kernels_options_are_those_of_append() -> None:
    append = "console=ttyS0 movable_node memory_hotplug.memmap_on_memory=1 memhp_default_state=online_movable"
    config = spec_of(f"-m 4G -append '{append}'").config
    assert (config.movable_node, config.memmap_on_memory) == (True, "Y")
    assert config.memhp_default_state == "online_movable"


def test_a_key_that_the_command_line_tells_already_is_refused() -> None:
    with pytest.raises(BadInput, match="the command line tells this") as refused:
        described(MachineText(qemu="-m 1G", memory="2G"))
    assert refused.value.where.endswith("machine.memory")


def test_nodes_take_their_ram_in_turn_and_have_their_cpus() -> None:
    found = parse("-m 3G -smp 4 -numa node,mem=1G,cpus=0-1 -numa node,nodeid=1,mem=2048,cpus=2:3", arch=None, where="")
    assert [(node.nid, node.size, node.cpus) for node in found.nodes] == [(0, GiB, (0, 1)), (1, 2 * GiB, (2, 3))]


def test_kernelcore_mirror_counts_wherever_it_stands_and_qemu_mirrors_nothing() -> None:
    """``cmdline_parse_kernelcore()`` sets a flag of its own for it."""
    for options in ("kernelcore=1G kernelcore=mirror", "kernelcore=mirror kernelcore=1G", "kernelcore=mirror"):
        spec = spec_of(f"-m 8G -append '{options}'")
        assert spec.config.mirrored_kernelcore and not spec.mirrored


LIBVIRT = """-machine pc-q35-9.2,memory-backend=pc.ram -m size=4194304k,slots=16,maxmem=33554432k
-object '{"qom-type":"memory-backend-memfd","id":"ram-node0","share":true,"size":4294967296}'
-numa node,nodeid=0,cpus=0-3,memdev=ram-node0 -smp 4,sockets=4,cores=1,threads=1
-object '{"qom-type":"memory-backend-ram","id":"m0","reserve":false,"size":8589934592}'
-device '{"driver":"virtio-mem-pci","node":0,"block-size":2097152,"requested-size":1073741824,"memdev":"m0","id":"vm0"}'
-blockdev '{"driver":"file","filename":"a"}' -device '{"driver":"virtio-net-pci","bus":"pci.1","addr":"0x0"}'
"""


def test_properties_may_be_json_as_libvirt_writes_them() -> None:
    words = LIBVIRT.replace("\n", " ")
    plain = (
        "-M q35 -m 4G,slots=16,maxmem=32G -smp 4 -object memory-backend-ram,id=r,size=4G -numa node,memdev=r,cpus=0-3 "
        "-object memory-backend-ram,id=m0,size=8G "
        "-device virtio-mem-pci,id=vm0,memdev=m0,block-size=2M,requested-size=1G"
    )
    assert parse(words, arch="x86_64", where="qemu") == parse(plain, arch="x86_64", where="qemu")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-m 2G,slot=4,maxmem=8G", "what is 'slot'"),
        ("-m 2G -devices pc-dimm,memdev=a", "what is '-devices'"),
        ("-m 2G -object memory-backend-ram,id=a,sized=1G", "what is 'sized'"),
        ("-m 2G -numa node,nodid=0,mem=2G", "what is 'nodid'"),
        ("-m 2G -object memory-backend-ram,id=a,size=1G -device pc-dimm,memdev=a,nod=1", "what is 'nod'"),
        ("-m 2G -object memory-backend-ram,id=a,size=1G -device pc-dim,memdev=a", "memory of pc-dim is not understood"),
        ("-m 2G -device '{broken'", "not JSON"),
    ],
)
def test_what_may_be_memory_mistyped_is_refused(words: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        spec_of(words)


def test_words_that_are_like_none_of_memory_are_passed_over() -> None:
    more = "-mem-path /dev/hugepages -mem-prealloc -smbios type=1 -snapshot -mon chardev=m -msg timestamp=on"
    shared = "-object memory-backend-ram,id=h,size=1M -device ivshmem-plain,memdev=h"
    assert spec_of(f"-m 2G {more} {shared}").ram == spec_of("-m 2G").ram
