"""The parts that a guest is made of, each without a guest."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.target.device.attach import qemu_options, region_at
from memhp.target.guest import cpio, modules
from memhp.target.guest.agent import Agent, GuestLost, GuestSlow
from memhp.target.guest.cache import Cache, user_cache
from memhp.target.guest.fetch import release_of
from memhp.target.guest.flavours import DEFAULTS, FLAVOURS, wanted
from memhp.target.guest.kernel import Kernel, built, fetched, find
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.modules import depends, load_order
from memhp.target.guest.observe import parse
from memhp.target.guest.qemu import GuestSpec, Lines, Qemu, VirtioMemDevice, command_line, find_qemu
from memhp.target.guest.snapshot import copy_data
from memhp.target.guest.sources import first_archive, own_archive, parse_deb822, parse_one_line, rewritten
from memhp.target.guest.target import refusal, spec_for
from memhp.target.guest.versions import newest

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def test_a_copy_of_guest_memory_has_the_same_bytes_and_the_same_holes() -> None:
    source, target = os.memfd_create("source"), os.memfd_create("target")
    try:
        os.ftruncate(source, 64 << 20)
        for at, data in ((0, b"first"), (1 << 20, bytes(range(256)) * 64), ((64 << 20) - 4, b"last")):
            os.pwrite(source, data, at)
        copy_data(source, target)
        assert os.pread(target, 64 << 20, 0) == os.pread(source, 64 << 20, 0)
        assert os.fstat(target).st_blocks == os.fstat(source).st_blocks
    finally:
        os.close(source)
        os.close(target)


def test_what_a_guest_cannot_hold_in_its_tmpfs_is_refused() -> None:
    assert refusal(kernel("x86_64"), schema.Allocate(size="8M")) is None
    assert "these kinds: movable, " in (refusal(kernel("x86_64"), schema.Allocate(size="8M", kind="kernel")) or "")
    assert refusal(kernel("riscv64"), schema.Allocate(size="8M", kind="pinned")) is None
    assert refusal(kernel("x86_64"), schema.Allocate(size="8M", kind="hugetlb-free")) is None
    assert refusal(kernel("arm64"), schema.Poison(at="5G")) is None
    assert "`at`" in (refusal(kernel("arm64"), schema.Poison(tag="a")) or "")
    assert "64 KiB" in (refusal(kernel("x86_64"), schema.Allocate(size="4K")) or "")


def test_each_suite_gets_a_stanza_of_its_own_with_the_machines_address_and_keyring() -> None:
    stanza = first_archive(parse_deb822(DEB822))
    assert stanza is not None
    stanzas = list(parse_deb822(rewritten(stanza, ["trixie", "sid"])))
    assert [each["Suites"] for each in stanzas] == ["trixie", "sid"]
    for each in stanzas:
        assert each["Types"] == "deb"
        assert each["Components"] == "main"
        assert each["URIs"] == "http://mirror.example/debian"
        assert each["Signed-By"] == "/usr/share/keyrings/archive.gpg"


def test_an_inline_keyring_of_many_lines_is_kept_whole() -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINB\n -----END PGP PUBLIC KEY BLOCK-----\n"
    text = f"Types: deb\nURIs: http://a.example/d\nSuites: x\nComponents: main\n{key}"
    stanza = first_archive(parse_deb822(text))
    assert stanza is not None
    (again,) = parse_deb822(rewritten(stanza, ["y"]))
    assert again["Signed-By"] == stanza["Signed-By"]
    assert "\n mQINB\n" in rewritten(stanza, ["y"])


def test_sources_that_are_switched_off_or_of_security_updates_are_passed_over() -> None:
    off = "Enabled: no\nTypes: deb\nURIs: http://off.example/d\nSuites: x\nComponents: main\n"
    security = "Types: deb\nURIs: http://sec.example/d\nSuites: x-security\nComponents: main\n"
    stanza = first_archive(parse_deb822(f"{off}\n{security}\n{DEB822}"))
    assert stanza is not None and stanza["URIs"] == "http://mirror.example/debian"


def test_sources_of_one_line_are_read_too(tmp_path: Path) -> None:
    line = "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian trixie main contrib  # ours\n"
    (stanza,) = parse_one_line(f"# deb-src nothing\n{line}")
    assert (stanza["URIs"], stanza["Signed-By"], stanza["Suites"]) == ("http://m.example/debian", "/k.gpg", "trixie")
    (tmp_path / "sources.list").write_text(line)
    assert own_archive(tmp_path) == stanza
    with pytest.raises(BadInput, match="names no archive"):
        own_archive(tmp_path / "nowhere")


def test_the_newest_release_of_a_series_and_flavour_is_taken() -> None:
    names = [
        "linux-image-6.12.99+deb13-cloud-amd64",
        "linux-image-6.12.117+deb13-cloud-amd64",
        "linux-image-6.12.117+deb13-amd64",
        "linux-image-6.12.200+deb13-rt-amd64",
        "linux-image-6.12.118+deb13-cloud-amd64-dbg",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-cloud-amd64",
    ]
    assert release_of(names, wanted("6.12:cloud-amd64")) == "6.12.117+deb13-cloud-amd64"
    assert release_of(names, wanted("6.12:amd64")) == "6.12.117+deb13-amd64"
    assert release_of(names, wanted("6.1:cloud-amd64")) == "6.1.0-50-cloud-amd64"
    assert release_of(names, wanted("7.2:cloud-amd64")) is None
    assert newest(["6.12~rc3", "6.12", "6.9"]) == "6.12"


def test_kernels_are_named_by_series_and_flavour_or_architecture() -> None:
    assert wanted("7.2:x86_64").flavour.name == "cloud-amd64"
    assert [str(wanted(text)) for text in DEFAULTS] == list(DEFAULTS)
    for bad in ("7.2", "arm64", "7.2:vax", "seven:arm64"):
        with pytest.raises(BadInput, match="SERIES:FLAVOUR"):
            wanted(bad)
    assert {flavour.arch for flavour in FLAVOURS.values()} == set(MACHINES)


def test_a_newc_entry_is_a_header_of_hexadecimal_numbers_then_name_and_data_padded_to_four() -> None:
    data = cpio.archive([cpio.file("ab", b"xyz")])
    assert data[:6] == b"070701"
    fields = [int(data[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
    assert fields[1] == 0o100644
    assert fields[6] == 3
    assert fields[11] == 3
    assert data[110:113] == b"ab\0"
    assert data[116:120] == b"xyz\0"
    assert b"TRAILER!!!\0" in data[-16:]
    assert len(data) % 4 == 0


def module(name: str, needs: str = "") -> bytes:
    return b"\x7fELF" + f"\0name={name}\0depends={needs}\0".encode()


def test_modules_load_after_what_they_need(tmp_path: Path) -> None:
    files = {}
    for name, needs in (("kmem", "dax-hmem,device_dax"), ("dax_hmem", ""), ("device_dax", "dax_hmem")):
        files[name] = tmp_path / f"{name}.ko"
        files[name].write_bytes(module(name, needs))
    assert depends(module("kmem", "dax-hmem,device_dax")) == ["dax_hmem", "device_dax"]
    loaded = load_order(("virtio_pci", "kmem"), files)
    assert list(loaded) == ["dax_hmem", "device_dax", "kmem"]
    assert modules.needs("device_dax", loaded) == ["dax_hmem", "device_dax"]
    assert modules.needs("kmem", loaded) == ["dax_hmem", "device_dax", "kmem"]
    assert modules.needs("virtio_pci", loaded) == []


def answering(replies: list[bytes]) -> Agent:
    """An agent whose far end answers each request with the bytes given, %TOKEN% in them replaced."""
    near, far = socket.socketpair()

    def serve() -> None:
        with far:
            far.sendall(b"boot noise\nmemhp-ready 6.12.1\n")
            stream = far.makefile("rb")
            for reply in replies:
                token = stream.readline().split(b" ")[0]
                far.sendall(reply.replace(b"%TOKEN%", token))

    threading.Thread(target=serve, daemon=True).start()
    return Agent(near)


def test_output_comes_back_as_it_is_whatever_it_looks_like() -> None:
    agent = answering([b"a\n\nfake 0\n\0\xff\n%TOKEN% 0\n", b"sh: write error: Device or resource busy\n\n%TOKEN% 1\n"])
    assert agent.wait(5) == "6.12.1"
    answer = agent.run("cat /proc/x")
    assert (answer.output, answer.status) == (b"a\n\nfake 0\n\0\xff", 0)
    assert agent.write("/sys/x", "offline") == "Device or resource busy"
    with pytest.raises(GuestLost, match="the guest is gone"):
        agent.run("true")


def test_a_guest_that_says_nothing_is_lost() -> None:
    near, far = socket.socketpair()
    with far, pytest.raises(GuestLost, match=r"no answer in 0\.05 s; it hangs"):
        Agent(near, lambda: "; it hangs").wait(0.05)


def test_the_time_of_a_guest_is_its_own() -> None:
    near, far = socket.socketpair()
    passed = iter([0.0, *(0.01 * turn for turn in range(3)), 7.0])
    with far, pytest.raises(GuestSlow, match=r"no answer in 6 s$"):
        Agent(near, clock=lambda: next(passed)).wait(6)


@pytest.mark.parametrize(
    ("said", "lost"),
    [("; watchdog: BUG: soft lockup - CPU#0", False), ("; Kernel panic - not syncing", True), ("; BUG: unable", True)],
)
def test_a_guest_that_hangs_on_its_way_up_may_be_slow_and_one_that_died_is_lost(said: str, lost: bool) -> None:
    near, far = socket.socketpair()
    with far, pytest.raises(GuestLost) as found:
        Agent(near, lambda: said).wait(0.05)
    assert isinstance(found.value, GuestSlow) is not lost


def test_what_a_guest_prints_is_taken_apart_into_linuxs_files() -> None:
    text = (
        "/proc/iomem:00001000-0009fbff : System RAM\n/proc/iomem:  febf4000-febf7fff : 0000:00:02.0\n"
        "/sys/devices/system/memory/memory0/state:online\n@memhp@\n"
        "/sys/devices/system/memory/memory0/node0\n@memhp@\n[ 1.0] hello\n"
    )
    assert parse(text) == {
        "/proc/iomem": "00001000-0009fbff : System RAM\n  febf4000-febf7fff : 0000:00:02.0\n",
        "/sys/devices/system/memory/memory0/state": "online\n",
        "/sys/devices/system/memory/memory0/node0": "",
        "/var/log/dmesg": "[ 1.0] hello\n",
    }


def kernel(arch: str) -> Kernel:
    deb = next(each.deb_arch for each in FLAVOURS.values() if each.arch == arch)
    return Kernel("6.12.1", arch, deb, Path("/k/vmlinuz"))


@pytest.mark.parametrize("arch", MACHINES)
def test_every_architecture_starts_with_its_machine_and_shared_ram_for_each_node(arch: str, tmp_path: Path) -> None:
    for package in MACHINES.values():
        if package.firmware:
            (tmp_path / package.firmware).parent.mkdir(exist_ok=True)
            (tmp_path / package.firmware).touch()
    spec = GuestSpec(kernel(arch), nodes=(1 << 30, 2 << 30), ram_paths=("/proc/self/fd/7", "/proc/self/fd/8"))
    words = command_line(Qemu(("qemu",), tmp_path), spec, Path("/i"), Lines(3, 4, 5))
    assert words[words.index("-machine") + 1] == MACHINES[arch].machine
    assert sum("share=on" in word for word in words) == 2
    assert words[words.index("-m") + 1].startswith("3072M")
    assert ("-bios" in words) == MACHINES[arch].needs_firmware
    assert "socket,id=monitor,fd=3" in words


def test_dimms_on_arm64_want_uefi_and_virtio_mem_devices_are_there_from_the_start(tmp_path: Path) -> None:
    scenario = schema.Scenario(
        machine=schema.MachineText(
            memory="2G", boot=schema.Boot(memmap_on_memory="Y", auto_movable_numa_aware=False, movable_node=True)
        ),
        steps=[schema.Plug(size="512M"), schema.VirtioMem(size="4G", device="vm3", block_size="4M")],
    )
    spec = spec_for(GuestSpec(kernel("arm64")), scenario)
    assert spec.nodes == (2 << 30,)
    assert spec.virtio_mem == (VirtioMemDevice("vm3", 4 << 30, 4 << 20),)
    assert spec.append.split() == [
        "memory_hotplug.memmap_on_memory=Y",
        "memory_hotplug.auto_movable_numa_aware=N",
        "movable_node",
    ]
    with pytest.raises(BadInput, match="QEMU_EFI"):
        command_line(Qemu(("qemu",), tmp_path), replace(spec, ram_paths=("/r",)), Path("/i"), None)


def test_memory_of_a_virtio_mem_device_is_in_a_file_like_ram_as_page_tables_may_be_in_it(tmp_path: Path) -> None:
    spec = GuestSpec(kernel("x86_64"), virtio_mem=(VirtioMemDevice("vm3", 4 << 30, 4 << 20),), ram_paths=("/r", "/v"))
    words = command_line(Qemu(("qemu",), tmp_path), spec, Path("/i"), None)
    assert list(spec.memory()) == [("ram0", 1 << 30), ("vm3-ram", 4 << 30)]
    (backend,) = (word for word in words if "id=vm3-ram," in word)
    assert "mem-path=/v" in backend and "share=on" in backend


@pytest.mark.parametrize(
    ("arch", "region", "total", "limit", "machine"),
    [
        # arch/x86/kernel/e820.c:parse_memopt: an address, above the hole; elsewhere an amount of RAM.
        ("x86_64", 4 << 30, "3072M", "mem=4096M", ["max-ram-below-4g=2048M"]),
        ("arm64", 3 << 30, "3072M", "mem=2048M", []),
        ("riscv64", 4 << 30, "3200M", "mem=2048M", []),
    ],
)
def test_a_served_device_lies_where_the_kernels_own_ram_has_been_ended(
    arch: str, region: int, total: str, limit: str, machine: list[str]
) -> None:
    words = qemu_options(arch, 2 << 30, 1 << 30, Path("/s"))
    assert region_at(arch, 2 << 30) == region
    assert words[words.index("-m") + 1] == total
    assert words[words.index("-append") + 1] == limit
    assert [words[at + 1] for at, word in enumerate(words) if word == "-machine"] == machine


@pytest.mark.parametrize("arch", ["loongarch64", "sparc"])
def test_a_guest_that_has_no_place_for_a_served_device_is_refused(arch: str) -> None:
    with pytest.raises(BadInput, match=rf"to a guest of {arch} \(one of x86_64, arm64, riscv64\)"):
        region_at(arch, 2 << 30)


def test_what_a_guest_cannot_do_is_refused_with_its_reason() -> None:
    assert refusal(kernel("x86_64"), schema.Plug(size="1G")) is None
    assert "no DIMMs on riscv64" in (refusal(kernel("riscv64"), schema.Plug(size="1G")) or "")
    assert "no virtio-mem on riscv64" in (refusal(kernel("riscv64"), schema.VirtioMem(size="1G")) or "")
    assert "no faults" in (
        refusal(kernel("x86_64"), schema.Resize(to="1G", faults=[schema.Fault(answer="NACK")])) or ""
    )
    assert "only the model" in (refusal(kernel("x86_64"), schema.Touch(at=0)) or "")


def test_what_a_kernel_is_built_without_is_refused_where_its_configuration_is_known(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("CONFIG_VIRTIO_MEM=m\n# CONFIG_ACPI_HOTPLUG_MEMORY is not set\n")
    built_so = replace(kernel("arm64"), config=config)
    assert "ACPI_HOTPLUG_MEMORY" in (refusal(built_so, schema.Plug(size="1G")) or "")
    assert refusal(built_so, schema.VirtioMem(size="1G")) is None
    assert refusal(kernel("arm64"), schema.Plug(size="1G")) is None


def test_regions_of_dax_devices_are_ram_behind_the_hole_that_the_command_line_calls_persistent() -> None:
    steps: list[schema.StepKind] = [
        schema.Dax(device="dax0.0", at="4128M", size="1G", mode="devdax"),
        schema.Dax(device="dax1.0", at="6G", size="512M"),
        schema.Dax(device="dax0.0", mode="kmem"),
    ]
    text = schema.MachineText(memory="1G")
    spec = spec_for(GuestSpec(kernel("x86_64")), schema.Scenario(machine=text, steps=steps))
    assert spec.nodes == ((1 << 30) + (2 << 30) + (512 << 20),)
    assert spec.append.split() == ["memmap=32M$4096M", "memmap=1024M!4128M", "memmap=992M$5152M", "memmap=512M!6144M"]
    assert spec.extra == ("-machine", "max-ram-below-4g=1024M")


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ({"dax0.0": "2G"}, "hole"),
        ({"dax0.0": "5000K"}, "hole"),
        ({"dax0.0": "4G", "dax1.0": "4608M"}, "overlap"),
        ({"dax0.0": "8G", "dax1.0": "4G"}, "numbered"),
        ({"dax1.0": "4G"}, "numbered"),
    ],
)
def test_regions_that_a_guest_cannot_have_are_refused_before_it_starts(places: dict[str, str], why: str) -> None:
    steps: list[schema.StepKind] = [schema.Dax(device=name, at=at, size="1G") for name, at in places.items()]
    with pytest.raises(BadInput, match=why):
        spec_for(GuestSpec(kernel("x86_64")), schema.Scenario(machine=schema.MachineText(memory="1G"), steps=steps))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (schema.Dax(pinned=1), "pinned"),
        (schema.Dax(namespace=False), "namespace"),
        (schema.Dax(pagemap=False), "struct pages"),
        (schema.Dax(device="dax0.1"), "one device"),
    ],
)
def test_what_a_guest_cannot_do_with_a_region_is_refused(step: schema.Dax, why: str) -> None:
    assert why in (refusal(kernel("x86_64"), step) or "")
    assert refusal(kernel("x86_64"), schema.Dax(mode="kmem")) is None
    assert "loongarch64" in (refusal(kernel("loongarch64"), schema.Dax(mode="kmem")) or "")


def test_a_qemu_of_ones_own_is_the_file_that_was_named_whatever_the_search_path_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qemu").touch()
    assert find_qemu(Cache(tmp_path), "x86_64", Path("qemu")).command == (str(tmp_path / "qemu"),)


def test_kernels_are_found_in_the_cache_as_their_packages_unpack(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for path in (
        "6.12.1-cloud-amd64/boot/vmlinuz-6.12.1-cloud-amd64",
        "7.2.1-riscv64/boot/vmlinux-7.2.1-riscv64",
        "7.2.1-arm64-16k/usr/lib/modules/7.2.1-arm64-16k/vmlinuz",
        ".half.partial/boot/x",
    ):
        (cache.kernels / path).parent.mkdir(parents=True)
        (cache.kernels / path).touch()
    assert [(each.release, each.arch) for each in fetched(cache)] == [
        ("6.12.1-cloud-amd64", "x86_64"),
        ("7.2.1-arm64-16k", "arm64"),
        ("7.2.1-riscv64", "riscv64"),
    ]
    assert find(cache, wanted("7.2:arm64-16k")).release == "7.2.1-arm64-16k"
    for each in fetched(cache):
        assert find(cache, wanted(each.wanted)) == each
    with pytest.raises(BadInput, match=r"memhp guest fetch 7\.2:arm64"):
        find(cache, wanted("7.2:arm64"))


def test_a_built_tree_tells_its_image_release_and_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.config"):
        built(tmp_path)
    (tmp_path / ".config").write_text("#\nCONFIG_ARM64=y\nCONFIG_VIRTIO_MEM=m\n")
    with pytest.raises(BadInput, match="arch/arm64/boot/Image"):
        built(tmp_path)
    (tmp_path / "arch/arm64/boot").mkdir(parents=True)
    (tmp_path / "arch/arm64/boot/Image").touch()
    (tmp_path / "include/config").mkdir(parents=True)
    (tmp_path / "include/config/kernel.release").write_text("7.2.0-rc1+\n")
    found = built(tmp_path)
    assert (found.release, found.arch, found.option("CONFIG_VIRTIO_MEM")) == ("7.2.0-rc1+", "arm64", "m")


def test_the_cache_is_where_the_user_wants_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert user_cache().root == Path("/some/where/memhp")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache().root == Path.home() / ".cache/memhp"


PARENT = """
import subprocess, sys, time
from memhp.target.guest.launch import start
child = start(["sleep", "600"], output=2)
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_dies_with_its_parent_whatever_ends_that(how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(how)
    parent.wait(timeout=60)
    parent.stdout.close()
    end = time.monotonic() + 30
    while alive(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(child)
