"""The twin's files say what the facts derived from the same machine say, and do what the kernel's do."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from memhp.errors import KernelError
from memhp.facts import sysroot
from memhp.facts.derive import derive
from memhp.facts.kpageflags import KEPT
from memhp.facts.observed import observe
from memhp.facts.open_source import open_source
from memhp.linux.profiles import profile
from memhp.scenario import schema
from memhp.twin.boot import boot
from memhp.twin.fault_injection import Refuse
from memhp.twin.files.node import cpumap
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Folder, Link, Stream, Window, resolve
from twin_machines import SMALL
from twin_runs import scenario

MEMORY = "/sys/devices/system/memory"


@pytest.fixture
def twin(tmp_path: Path) -> Twin:
    return boot(scenario(tmp_path, SMALL), speed=0)[0]


@pytest.fixture
def root(twin: Twin) -> Folder:
    return twin_root(twin_files(twin, "quiet"))


def text_of(root: Folder, path: str) -> str:
    entry = resolve(root, path)
    assert isinstance(entry, Attribute) and entry.show is not None
    return entry.show()


def write(root: Folder, path: str, text: str) -> str:
    """What a write ends in: "" or an errno's name."""
    entry = resolve(root, path)
    assert isinstance(entry, Attribute) and entry.store is not None
    try:
        entry.store(text)
    except KernelError as error:
        return errno.errorcode[error.errno]
    return ""


def test_every_file_of_a_sysroot_export_is_there_with_the_same_text(twin: Twin, root: Folder) -> None:
    facts = derive(twin.session.k)
    told = {path: text for path, text in sysroot.files(facts) if "osrelease" not in path}
    assert len(told) > 200
    ours = {path: text_of(root, path) for path in told}
    for path in [path for path in told if path.endswith("/meminfo") and "/node" in path]:  # the export lacks zeros
        assert told.pop(path).splitlines() == ours.pop(path).splitlines()[:3]
    assert ours == told


def test_links_between_blocks_and_nodes_point_where_linux_has_them_point(twin: Twin, root: Folder) -> None:
    told = dict(sysroot.links(derive(twin.session.k)))
    assert len(told) > 80
    assert {path: resolve(root, path) for path in told} == {path: Link(target) for path, target in told.items()}


def test_folders_list_what_is_in_them(root: Folder) -> None:
    for path in ("", "/sys/devices/system/memory", f"{MEMORY}/memory40", "/sys/devices/system/node/node0", "/proc"):
        found = resolve(root, path)
        assert isinstance(found, Folder)
        names = list(found.names())
        assert names and len(set(names)) == len(names)
        assert [name for name in names if found.child(name) is None] == []


@pytest.mark.parametrize(
    ("path", "text", "ends_in"),
    [
        ("memory48/state", "online_movable\n", ""),
        ("memory48/state", "offline", "EINVAL"),
        ("memory40/state", "online", "EINVAL"),
        ("memory40/state", "off", "EINVAL"),
        ("memory0/state", "offline", "EINVAL"),
        ("memory40/online", "1", ""),
        ("memory48/online", "0", ""),
        ("memory48/online", "yes", ""),
        ("memory48/online", "maybe", "EINVAL"),
        ("auto_online_blocks", "online_kernel\n", ""),
        ("auto_online_blocks", "always", "EINVAL"),
        ("hard_offline_page", "0x180000000", "ENXIO"),
        ("hard_offline_page", "page 5", "EINVAL"),
        ("soft_offline_page", "0x20000000\n", ""),
        ("soft_offline_page", "0x180000000", "EIO"),
        ("soft_offline_page", "0x800000000", "ENXIO"),
        ("soft_offline_page", "page 5", "EINVAL"),
        ("hard_offline_page", "0x10000000000000000", "EINVAL"),
        ("probe", "0x200000000\n", ""),
        ("probe", "0x100000000\n", "EEXIST"),
        ("probe", "0x200001000", "EINVAL"),
        ("probe", "8G", "EINVAL"),
        ("probe", "0x10000000000000000", "ERANGE"),
    ],
)
def test_writes_end_as_the_kernels_store_functions_do(root: Folder, path: str, text: str, ends_in: str) -> None:
    assert write(root, f"{MEMORY}/{path}", text) == ends_in


def test_a_virtio_mem_device_loses_its_driver_and_gets_it_again_once_its_memory_is_gone(tmp_path: Path) -> None:
    """drivers/base/bus.c; ``virtio_mem_remove()`` leaves what is added, and ``virtio_mem_probe()`` finds it there."""
    machine = 'machine = { preset = "x86-vm" }\n'
    grow = '{ do = "virtio-mem", size = "1G", requested = "512M" }'
    twin, *_ = boot(scenario(tmp_path, f"{machine}steps = [{grow}]"), speed=0)
    root = twin_root(twin_files(twin, ""))
    driver = "/sys/bus/virtio/drivers/virtio_mem"
    assert text_of(root, f"{driver}/virtio0/modalias") == "virtio:d00000018v00001AF4\n"
    for name, ends_in in (("bind", "EBUSY"), ("unbind", ""), ("unbind", "ENODEV")):
        assert write(root, f"{driver}/{name}", "virtio0\n") == ends_in
    assert resolve(root, f"{driver}/virtio0") is None
    assert write(root, f"{driver}/bind", "virtio7") == "ENODEV"
    assert write(root, f"{driver}/bind", "virtio0") == "EBUSY"
    twin, *_ = boot(scenario(tmp_path, f"{machine}steps = [{grow.replace('512M', '0')}]"), speed=0)
    root = twin_root(twin_files(twin, ""))
    assert [write(root, f"{driver}/{name}", "virtio0") for name in ("unbind", "bind")] == ["", ""]
    assert resolve(root, f"{driver}/virtio0") is not None


def test_a_block_has_no_power_to_save(twin: Twin, root: Folder) -> None:
    """What captures of x86-64 show of it in /sys/devices/system/memory/power; drivers/base/power/sysfs.c."""
    folder = resolve(root, f"{MEMORY}/memory48/power")
    assert isinstance(folder, Folder)
    shown = {name: text_of(folder, name) for name in folder.names() if name != "autosuspend_delay_ms"}
    assert shown == {
        "control": "auto\n",
        "runtime_active_time": "0\n",
        "runtime_status": "unsupported\n",
        "runtime_suspended_time": "0\n",
    }
    with pytest.raises(KernelError) as refused:
        text_of(folder, "autosuspend_delay_ms")
    assert refused.value.errno == errno.EIO
    assert write(folder, "autosuspend_delay_ms", "100") == "EIO"
    assert [write(folder, "control", text) for text in ("off", "on\n")] == ["EINVAL", ""]
    assert text_of(folder, "control") == "on\n"
    assert [twin.do(step).result for step in (schema.Remove(), schema.Plug(size="1G"))] == ["ok", "ok"]
    assert text_of(root, f"{MEMORY}/memory48/power/control") == "auto\n"


def test_a_file_of_a_block_that_is_gone_says_enodev(twin: Twin, root: Folder) -> None:
    entry = resolve(root, f"{MEMORY}/memory48/state")
    assert isinstance(entry, Attribute) and entry.show is not None
    twin.session.k.memory_blocks.clear(48, 49)
    with pytest.raises(KernelError) as raised:
        entry.show()
    assert raised.value.errno == errno.ENODEV


def test_parameters_that_boot_decides_about_cannot_be_written(root: Folder) -> None:
    parameters = "/sys/module/memory_hotplug/parameters"
    only_read = resolve(root, f"{parameters}/memmap_on_memory")
    assert isinstance(only_read, Attribute) and only_read.store is None and only_read.mode == 0o444
    assert write(root, f"{parameters}/online_policy", "auto-movable\n") == ""
    assert text_of(root, f"{parameters}/online_policy") == "auto-movable\n"
    assert write(root, f"{parameters}/auto_movable_ratio", "-1") == "EINVAL"


@pytest.mark.parametrize(
    ("preset", "has"),
    [
        ("riscv-vm", set()),
        ("loongarch-4k-vm", {"probe"}),
        ("arm64-vm", {"hard_offline_page", "node0/memory_failure"}),
        ("x86-vm", {"hard_offline_page", "node0/memory_failure", "probe"}),
    ],
)
def test_what_an_architecture_cannot_be_built_with_has_no_file(tmp_path: Path, preset: str, has: set[str]) -> None:
    """Kconfig: ``ARCH_SUPPORTS_MEMORY_FAILURE``, ``ARCH_MEMORY_PROBE``."""
    twin, *_ = boot(scenario(tmp_path, f'machine = {{ preset = "{preset}" }}'))
    root = twin_root(twin_files(twin, ""))
    paths = {"hard_offline_page": MEMORY, "probe": MEMORY, "node0/memory_failure": "/sys/devices/system/node"}
    assert {name for name, folder in paths.items() if resolve(root, f"{folder}/{name}")} == has


def test_injected_errors_are_what_onlining_and_offlining_end_in(root: Folder) -> None:
    actions = "/sys/kernel/debug/notifier-error-inject/memory/actions"
    assert write(root, f"{actions}/MEM_GOING_ONLINE/error", "-12\n") == ""
    assert text_of(root, f"{actions}/MEM_GOING_ONLINE/error") == "-12\n"
    assert write(root, f"{MEMORY}/memory48/state", "online") == "ENOMEM"
    assert write(root, f"{actions}/MEM_GOING_ONLINE/error", "0\n") == ""
    assert write(root, f"{MEMORY}/memory48/state", "online") == ""
    assert write(root, f"{actions}/MEM_GOING_OFFLINE/error", "-99999") == ""
    assert text_of(root, f"{actions}/MEM_GOING_OFFLINE/error") == "-4095\n"
    for text, ends_in, shown in (
        ("-0x10", "", "-16"), ("4294967295", "", "-1"), ("99999999999999999999", "ERANGE", "-1"),
        ("\u0661", "EINVAL", "-1"), ("-+3", "EINVAL", "-1"), ("-" + "0" * 21 + "59", "", "-5"),
    ):  # fmt: skip
        assert write(root, f"{actions}/MEM_GOING_OFFLINE/error", text) == ends_in
        assert text_of(root, f"{actions}/MEM_GOING_OFFLINE/error") == f"{shown}\n"


def test_kpageflags_summed_up_by_our_reader_tell_free_pages_and_holes(twin: Twin, root: Folder) -> None:
    window = resolve(root, "/proc/kpageflags")
    assert isinstance(window, Window)
    k = twin.session.k
    pages = k.pages_per_block
    offline = window.read(48 * pages * 8, 16)
    assert offline == (1 << KEPT["NOPAGE"]).to_bytes(8, "little") * 2
    free = next(start for start, _, owner in k.hw.memory.owners if owner.use == "free")
    assert window.read(free * 8, 8) == (1 << KEPT["BUDDY"]).to_bytes(8, "little")
    k.config = replace(k.config, profile=profile("7.2"))
    assert window.read(48 * pages * 8, 16) == bytes(16)
    for at, size in ((free * 8 + 4, 8), (free * 8, 2)):
        with pytest.raises(KernelError, match="no whole words"):
            window.read(at, size)
    assert window.read(56 * pages * 8, 8) == b""


@pytest.mark.parametrize(("profile", "hosted"), [("6.10", {"OWNER_PRIVATE", "RESERVED"}), ("6.12", {"OWNER_PRIVATE"})])
def test_struct_pages_are_reserved_at_boot_and_in_their_own_memory_up_to_6_10(
    profile: str, hosted: set[str], tmp_path: Path
) -> None:
    """mm/mm_init.c:memmap_init_range marks pages on their way online PG_reserved up to 6.10, PageOffline since, which
    mhp_init_memmap_on_memory() takes back; what the buddy gives for struct pages it never marks.
    """
    text = SMALL.replace("6.12", profile)
    own, reserved = (dict(shown(tmp_path, text, choice)) for choice in ("Y", "N"))
    assert own == {"altmap": {frozenset(hosted)}, "": {frozenset({"RESERVED"})}}
    assert reserved == {"": {frozenset({"RESERVED"}), frozenset()}}


def shown(folder: Path, text: str, self_hosted: str) -> Iterator[tuple[str, set[frozenset[str]]]]:
    """What kpageflags shows of struct pages by where they lie, once a block of the DIMM is online."""
    boots = f'boot = {{ memmap_on_memory = "{self_hosted}" }}\n[[steps]]'
    twin = boot(scenario(folder, text.replace("[[steps]]", boots)), speed=0)[0]
    root = twin_root(twin_files(twin, "quiet"))
    assert write(root, f"{MEMORY}/memory48/state", "online") == ""
    window = resolve(root, "/proc/kpageflags")
    assert isinstance(window, Window)
    first = 48 * twin.session.k.pages_per_block
    there = [run for run in twin.session.k.hw.memory.owners if run[2].use == "memmap"]
    for tag in {owner.tag for _, _, owner in there}:
        starts = [start for start, _, owner in there if owner.tag == tag and start < first + (tag == "altmap")]
        words = [int.from_bytes(window.read(start * 8, 8), "little") for start in starts]
        yield tag, {frozenset(name for name, bit in KEPT.items() if word >> bit & 1) for word in words}


def test_kmsg_gives_a_record_a_read_in_the_documented_form(twin: Twin, root: Folder) -> None:
    stream = resolve(root, "/dev/kmsg")
    assert isinstance(stream, Stream) and stream.store is not None
    count = len(twin.session.k.hw.log_lines)
    assert stream.read(count) is None
    stream.store("hello\n")
    assert stream.read(count) == f"12,{count},{twin.session.k.hw.now // 1000},-;hello\n".encode()
    for text, level, shown in (
        ("<6>a", 14, "a"), ("<29>b\tc", 29, r"b\x09c"), ("<>d\\", 8, r"d\x5c"), ("<x>", 12, "<x>"),
    ):  # fmt: skip
        stream.store(text)
        head, _, said = (stream.read(len(twin.session.k.hw.log_lines) - 1) or b"").decode().partition(";")
        assert (head.partition(",")[0], said) == (str(level), f"{shown}\n")
    with pytest.raises(KernelError, match="at most 1024"):
        stream.store("x" * 1025)


@pytest.mark.parametrize(
    ("cpus", "count", "text"),
    [((0, 1), 2, "3\n"), ((0, 33), 34, "2,00000001\n"), ((31,), 32, "80000000\n"), ((), 8, "00\n")],
)
def test_maps_of_cpus_are_printed_as_bitmaps_are(cpus: tuple[int, ...], count: int, text: str) -> None:
    assert cpumap(cpus, count) == text


def test_what_the_twin_shows_can_be_read_as_facts_of_a_machine(twin: Twin, root: Folder, tmp_path: Path) -> None:
    for path, entry in twin_files(twin, "quiet").items():
        _copy(entry, tmp_path / path.lstrip("/"))
    facts = observe(open_source(str(tmp_path)))
    assert facts.memory == derive(twin.session.k).memory
    assert facts.cmdline is not None and facts.cmdline.text == "quiet"


def _copy(entry: object, path: Path) -> None:
    if isinstance(entry, Folder):
        path.mkdir(parents=True, exist_ok=True)
        for name in entry.names():
            _copy(entry.child(name), path / name)
    elif isinstance(entry, Link):
        path.symlink_to(entry.target)
    elif isinstance(entry, Attribute) and entry.show is not None and path.name != "pagetypeinfo":
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(KernelError):
            path.write_text(entry.show())


def test_whether_dimms_may_be_ejected_is_read_as_the_kernel_reads_it(twin: Twin, root: Folder) -> None:
    enabled = "/sys/firmware/acpi/hotplug/memory/enabled"
    assert text_of(root, enabled) == "1\n"
    assert [write(root, enabled, text) for text in ("2\n", "0x1", "0\n")] == ["EINVAL", "EINVAL", ""]
    assert text_of(root, enabled) == "0\n"
    assert not twin.eject_enabled


def test_the_files_of_a_node_that_is_gone_cannot_be_found_any_more(twin: Twin, root: Folder) -> None:
    node = resolve(root, "/sys/devices/system/node/node0")
    block = resolve(root, f"{MEMORY}/memory48")
    assert isinstance(node, Folder) and isinstance(block, Folder)
    assert node.there() and block.there()
    k = twin.session.k
    k.memory_blocks.clear(48, 49)
    k.node_states.devices.clear()
    assert not node.there() and not block.there()
    assert resolve(root, "/sys/devices/system/node/node0") is None


def test_a_dimm_is_ejected_through_its_acpi_device(twin: Twin, root: Folder) -> None:
    devices = "/sys/bus/acpi/devices"
    folder = resolve(root, devices)
    assert isinstance(folder, Folder)
    assert list(folder.names()) == ["PNP0C80:00"]
    assert text_of(root, f"{devices}/PNP0C80:00/hid") == "PNP0C80\n"
    eject = f"{devices}/PNP0C80:00/eject"

    def write_through(text: str) -> str:
        entry = resolve(root, eject)
        assert isinstance(entry, Attribute) and entry.store is not None
        try:
            twin.wrote(0, eject, text, entry.store)
        except KernelError as error:
            return error.name
        return ""

    assert write_through("0\n") == "EINVAL"
    assert write(root, "/sys/firmware/acpi/hotplug/memory/enabled", "0") == ""
    assert write_through("1\n") == "ENODEV"
    assert write(root, "/sys/firmware/acpi/hotplug/memory/enabled", "1") == ""
    assert write_through("1\n") == ""
    assert list(folder.names()) == []
    assert resolve(root, f"{MEMORY}/memory48") is None


def test_an_eject_that_comes_to_nothing_is_no_error_of_the_write(twin: Twin, root: Folder) -> None:
    assert write(root, f"{MEMORY}/memory48/state", "online_kernel") == ""
    twin.trouble.add(Refuse(blocks=[48]))
    eject = resolve(root, "/sys/bus/acpi/devices/PNP0C80:00/eject")
    assert isinstance(eject, Attribute) and eject.store is not None
    twin.wrote(0, "eject", "1", eject.store)
    assert text_of(root, f"{MEMORY}/memory48/state") == "online\n"
    assert [entry.result for entry in twin.record.entries if entry.what == "step"][-1] == "EBUSY"
