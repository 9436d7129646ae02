"""What a scenario may not say, and the line that tells its author: the file, the key, and what to write instead."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from captures import archive, captures
from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.scenario.load import loads
from memhp.scenario.presets import PRESETS
from memhp.scenario.schema import Cpu
from memhp.target.model.run import rehearse_scenario

M = '[machine]\npreset = "riscv-vm"\nmemory = "1G"\n'
PLUG = M + '[[steps]]\ndo = "plug"\n'
STEPS = "plug, online, offline, remove, unplug"

MESSAGES = {
    # What cannot be read at all.
    "machine = {": "x.toml: not TOML: Invalid initial character for a key part (at end of document)",
    "": (
        'x.toml: the key machine is missing (write preset = "riscv-vm", source = "…" or arch = "riscv64" '
        "under [machine])"
    ),
    # Keys.
    M + 'colour = "red"': "x.toml: machine.colour: there is no such key (one of source, step, preset, qemu, arch, …",
    M + "cpuss = 2": "x.toml: machine.cpuss: there is no such key (did you mean cpus?)",
    M + "steps = []": (
        "x.toml: machine.steps: there is no such key (steps belongs to the scenario itself: write it above [machine])"
    ),
    'tilte = "x"\n' + M: "x.toml: tilte: there is no such key (did you mean title?)",
    PLUG + 'sise = "1G"': "x.toml: steps[0].sise: there is no such key (did you mean size?)",
    PLUG + 'features = ["acpi-pxm"]': (
        "x.toml: steps[0].features: there is no such key (of steps, virtio-mem has it)"
    ),
    PLUG + 'colour = "red"': (
        "x.toml: steps[0].colour: there is no such key "
        "(one of size, at, node, driver, memmap_on_memory, online, expect, name, fault)"
    ),
    '[machine]\npreset = "x86vm"': "x.toml: machine.preset: no preset 'x86vm' (did you mean x86-vm?)",
    '[machine]\npreset = "x86-vm"\nchoices = { free_empty_tables = "always" }': (
        "x.toml: machine.choices.free_empty_tables: is no choice of x86_64 (it is one of arm64)"
    ),
    PLUG: 'x.toml: steps[0]: the key size is missing (write size = "128M")',
    M + '[[steps]]\nsize = "1G"': f"x.toml: steps[0]: the key do is missing (one of {STEPS}, …",
    M + '[[steps]]\ndo = "new-process"': 'x.toml: steps[0]: the key process is missing (write process = "init")',
    M + "boot = { gbpage = true }": "x.toml: machine.boot.gbpage: there is no such key (did you mean gbpages?)",
    # Values of the wrong kind.
    "machine = 3": (
        'x.toml: machine: want a table, got 3 (write preset = "riscv-vm", source = "…" or arch = "riscv64" '
        "under [machine])"
    ),
    M + "cpu = 2": f"x.toml: machine.cpu: want a table, got 2 (its keys are {', '.join(Cpu.__struct_fields__)})",
    M + "choices = 3": 'x.toml: machine.choices: want a table, got 3 (write choices = { pgd_policy = "none" })',
    "steps = 3\n" + M: ('x.toml: steps: want a list of tables, got 3 (write [[steps]] and do = "plug" below it)'),
    'steps = ["plug"]\n' + M: ('x.toml: steps[0]: want a table, got "plug" (write [[steps]] and do = "plug" below it)'),
    PLUG + 'size = ["1G"]': 'x.toml: steps[0].size: want a size or an address such as "128M" or 0x8000000, got a list',
    PLUG + "size = 1.5": 'x.toml: steps[0].size: want a size or an address such as "128M" or 0x8000000, got 1.5',
    PLUG + 'size = "1G"\nname = 7': "x.toml: steps[0].name: want text in quotes, got 7",
    PLUG + 'size = "1G"\nmemmap_on_memory = "Y"': 'x.toml: steps[0].memmap_on_memory: want true or false, got "Y"',
    PLUG + 'size = "1G"\nnode = -1': "x.toml: steps[0].node: want a whole number of 0 or more, got -1",
    PLUG + 'size = "1G"\nat = 2024-05-01': (
        'x.toml: steps[0].at: want a size or an address such as "128M" or 0x8000000, got a date or a time'
    ),
    M + '[[steps]]\ndo = "online"\nblocks = 7': "x.toml: steps[0].blocks: want a list of whole numbers, got 7",
    M + '[[steps]]\ndo = "online"\nblocks = [7, "8"]': (
        'x.toml: steps[0].blocks[1]: want a whole number of 0 or more, got "8"'
    ),
    M + "cpus = 0": "x.toml: machine.cpus: want a whole number from 1 to 8192, got 0",
    '[machine]\narch = "riscv64"\nmemory = [{ size = "1G", start = true }]': (
        'x.toml: machine.memory[0].start: want a size or an address such as "128M" or 0x8000000, got true'
    ),
    '[machine]\narch = "riscv64"\nmemory = [3]': (
        "x.toml: machine.memory[0]: want a table, got 3 (its keys are size, start, node, hotpluggable, mirrored)"
    ),
    # Values that there are not.
    M + '[[steps]]\ndo = "plugg"': 'x.toml: steps[0].do: cannot be "plugg" (did you mean plug?)',
    M + '[[steps]]\ndo = "eat"': f'x.toml: steps[0].do: cannot be "eat" (one of {STEPS}, …',
    M + '[[steps]]\ndo = "online"\nzone = "high"': (
        'x.toml: steps[0].zone: cannot be "high" (one of auto, kernel, movable)'
    ),
    PLUG + 'size = "1G"\nexpect = "EBUZY"': (
        'x.toml: steps[0].expect: no step can end in "EBUZY" (did you mean EBUSY?)'
    ),
    '[machine]\narch = "sparc"': 'x.toml: machine.arch: cannot be "sparc" (one of arm64, loongarch64, riscv64, x86_64)',
    '[machine]\npreset = "vax"': f"x.toml: machine.preset: no preset 'vax' (one of {', '.join(PRESETS)})",
    M + 'profile = "linux-4.4"': "x.toml: machine.profile: no kernel profile 'linux-4.4' (one of riscv-hotplug-v1, …",
    M + 'profile = "linux-5.13"': (
        "x.toml: machine.profile: linux-5.13 has no memory hotplug on riscv64 (it has arm64, x86_64)"
    ),
    M + 'boot = { online_policy = "any" }': (
        'x.toml: machine.boot.online_policy: cannot be "any" (one of auto-movable, contig-zones)'
    ),
    M + 'choices = { pgd_polcy = "none" }': (
        "x.toml: machine.choices.pgd_polcy: there is no such choice (did you mean pgd_policy?)"
    ),
    M + 'choices = { name = "mine" }': (
        "x.toml: machine.choices.name: there is no such choice (one of acpi_device_check, …"
    ),
    M + "choices = { pgd_policy = 3 }": (
        "x.toml: machine.choices.pgd_policy: cannot be 3 (one of none, sync, preallocate)"
    ),
    M + 'choices = { vmalloc_fault = "yes" }': 'x.toml: machine.choices.vmalloc_fault: want true or false, got "yes"',
    M + 'choices = { pgd_preallocated = ["heap"] }': (
        'x.toml: machine.choices.pgd_preallocated: cannot have "heap" (a list of vmalloc, modules, vmemmap, …'
    ),
    # Sizes.
    PLUG + 'size = "lots"': "x.toml: steps[0].size: want a size such as 128M, 2G or 0x8000000, got 'lots'",
    PLUG + "size = -5": "x.toml: steps[0].size: want a size of zero or more bytes, got -5",
    PLUG + "size = 0": "x.toml: steps[0].size: nothing to plug (write a size of at least one memory block)",
    PLUG + "size = 1000": "x.toml: steps[0].size: 0x3e8 is not a multiple of the page size (pages are 4 KiB)",
    PLUG + f"size = {1 << 70}": "x.toml: steps[0].size: 0x400000000000000000 does not fit into 64 bits (write less)",
    PLUG + 'size = "100M"': (
        "x.toml: steps[0].size: [0xc0000000-0xc6400000) is not made of whole memory blocks of 128 MiB "
        '(align it, or write expect = "EINVAL" to see the kernel refuse it)'
    ),
    M + '[[steps]]\ndo = "dax"\nat = "8G"\nsize = "1G"\n[[steps]]\ndo = "plug"\nsize = "1G"\nat = "8G"': (
        "x.toml: steps[1].at: [0x200000000-0x240000000) overlaps memory at 0x200000000 "
        "(leave `at` out to plug above all memory)"
    ),
    M + '[[steps]]\ndo = "virtio-mem"\nat = "8G"\nsize = "1G"\n[[steps]]\ndo = "dax"\nsize = "1G"\nat = "8704M"': (
        "x.toml: steps[1].at: [0x220000000-0x260000000) overlaps the region of vm0"
    ),
    PLUG + 'size = "1G"\nnode = 4': "x.toml: steps[0].node: node 4 cannot exist (one of 0)",
    # Steps that cannot be meant.
    M + '[[steps]]\ndo = "remove"': (
        "x.toml: steps[0].at: nothing was plugged before this step (write `at` and `size`)"
    ),
    M + '[[steps]]\ndo = "remove"\nsize = "1G"': (
        "x.toml: steps[0].at: `size` without `at` (write both, or neither for what was plugged last)"
    ),
    M + '[[steps]]\ndo = "unplug"\nat = "8G"\nsize = "1G"': (
        "x.toml: steps[0].at: there is no memory in all of [0x200000000-0x240000000) (name what was plugged)"
    ),
    M + '[[steps]]\ndo = "online"\nblocks = [9999]': (
        "x.toml: steps[0].blocks: there is no memory block 9999 (there are 16 to 23)"
    ),
    M + '[[steps]]\ndo = "offline"\nat = "8G"\nsize = "1G"': (
        "x.toml: steps[0].at: there is no memory block at 0x200000000 (there are 16 to 23)"
    ),
    M + '[[steps]]\ndo = "free"\ntag = "x"': ("x.toml: steps[0].tag: nothing is allocated as 'x' (in use: no tag)"),
    M + '[[steps]]\ndo = "touch"\nat = "2G"\nprocess = "sh"': (
        "x.toml: steps[0].process: there is no process 'sh' (one of init_mm)"
    ),
    # Machines that cannot be.
    "[machine]": ('x.toml: machine: which machine? (write source = "…", preset = "…" or arch = "riscv64")'),
    '[machine]\narch = "riscv64"\nva_bits = 47': (
        "x.toml: machine.va_bits: linux-6.12 on riscv64 with 4 KiB pages has no 47-bit addresses (one of 39, 48, 57)"
    ),
    '[machine]\narch = "riscv64"\npage_size = "64K"': (
        "x.toml: machine.page_size: riscv64 has no 64 KiB pages (one of 4 KiB)"
    ),
    '[machine]\npreset = "arm64-vm"\nprofile = "arm64-hotremove-v7"\nboot = { memmap_on_memory = "Y" }': (
        "x.toml: machine.boot.memmap_on_memory: arm64-hotremove-v7 has no memmap_on_memory (N)"
    ),
    '[machine]\npreset = "riscv-vm"\narch = "arm64"': (
        "x.toml: machine.arch: preset riscv-vm is riscv64, not arm64 (leave it out)"
    ),
    '[machine]\npreset = "riscv-vm"\nstep = "0-before"': (
        "x.toml: machine.step: only a captured machine has steps (leave it out)"
    ),
    '[machine]\npreset = "riscv-vm"\nmemory = 0': (
        "x.toml: machine.memory: a machine needs RAM to boot (write a size such as 2G)"
    ),
    '[machine]\npreset = "riscv-vm"\nmemory = "1M"': (
        "x.toml: machine.memory: no range of RAM holds a kernel image of 32 MiB (boot with more memory)"
    ),
    M + 'reserved = "2G"': (
        "x.toml: machine.reserved: 2 GiB cannot be reserved in the RAM there is "
        "(reserve less, or boot with more memory)"
    ),
    '[machine]\narch = "x86_64"\nmemory = [{ size = "1G", start = "1G" }, { size = "1G", start = "1G" }]': (
        "x.toml: machine.memory: RAM [0x40000000-0x80000000) overlaps other RAM (move or shrink one of them)"
    ),
    '[machine]\narch = "x86_64"\nmemory = [{ size = "1G", start = "1P" }]': (
        "x.toml: machine.memory: RAM starts at 0x4000000000000, behind the 46-bit physical addresses "
        "(start it below 0x400000000000)"
    ),
    '[machine]\narch = "x86_64"\nmemory = [{ size = "1G", start = "1G", node = 1 }]': (
        "x.toml: machine.memory: RAM on node 1, which cannot exist (possible: 0)"
    ),
    '[machine]\nsource = "/no/such/folder"': "x.toml: machine.source: /no/such/folder: no such file or folder",
    '[machine]\nsource = "captures"\npreset = "riscv-vm"': (
        "x.toml: machine.preset: captures tells this already (leave out preset, or source)"
    ),
}
"""A scenario, and the one line that refuses it; ``…`` stands for more options."""


def told(text: str) -> str:
    """What is said, without where and what to do."""
    return MESSAGES[text].partition(" (")[0].removeprefix("x.toml: ")


@pytest.mark.parametrize("text", MESSAGES, ids=told)
def test_a_scenario_is_refused_in_one_line_with_file_key_and_fix(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(text, encoding="utf-8")
    assert main(["rehearse", "x.toml", "--html", "page.html", "--sysroot", "root", "--ptdump", "dump"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    start, more, _ = MESSAGES[text].partition("…") if MESSAGES[text].endswith(", …") else (MESSAGES[text], "", "")
    assert err.startswith(f"memhp: {start}") if more else err == f"memhp: {start}\n"
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


@pytest.mark.parametrize("text", [text for text in MESSAGES if "source" not in text], ids=told)
def test_the_library_refuses_with_the_same_words_under_any_name(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        rehearse_scenario(loads(text, where="mine"), where="mine")
    start = MESSAGES[text].partition("…")[0] if MESSAGES[text].endswith(", …") else MESSAGES[text]
    assert str(refused.value).startswith(start.replace("x.toml", "mine", 1))


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command says that ends with exit code 2, in one line."""
    assert main(["rehearse", *args]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("memhp: ").rstrip("\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--machine", "riscv-vm", "--plug", "lots"], "--plug: want a size such as 128M, 2G or 0x8000000, got 'lots'"),
        (["--machine", "riscv-vm", "--plug", "100M"], "--plug: [0x180000000-0x186400000) is not made of whole memory"),
        (["--machine", "vax", "--plug", "1G"], "--machine: no file, no folder and no preset 'vax' (one of x86-vm, "),
        (["--machine", "riscv-vm", "--plug", "128M", "--step", "x"], "--step: only a captured machine has steps"),
        (["--machine", "riscv-vm", "--online", "high"], "Invalid value for '--online': 'high' is not one of 'auto', "),
        (["--machine", "riscv-vm", "--driver", "usb"], "Invalid value for '--driver': 'usb' is not one of 'dimm', "),
        (["--plug", "1G"], "give a scenario FILE, or --machine SOURCE or --qemu with --plug"),
        (["x.toml", "--machine", "riscv-vm"], "give a scenario FILE, or --machine SOURCE or --qemu with --plug"),
        (["x.toml", "--plug", "1G"], "--plug, --online, --unplug and --step go with --machine; a FILE has its own"),
        (["x.toml"], "x.toml: cannot read the scenario: No such file or directory (name a TOML file, or use"),
        (["--machine", "riscv-vm", "--html", "no/x"], "no/x: cannot write: there is no such folder (create no first)"),
        (["--machine", "riscv-vm", "--ptdump", "no/x"], "no/x: cannot write: there is no such folder (create no first"),
        (["--machine", "riscv-vm", "--html", "."], ".: cannot write: it is a folder (name a file in it)"),
        (["--machine", "riscv-vm", "--sysroot", "mine"], "mine/letter: would be lost, and was not written by"),
    ],
)
def test_options_are_refused_by_their_names(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/letter").write_text("keep me", encoding="utf-8")
    assert refusal(capsys, *args).startswith(message)
    assert sorted(str(path) for path in Path().rglob("*")) == ["mine", "mine/letter"]


def test_a_place_that_cannot_be_written_is_told_before_anything_is_rehearsed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text("no scenario at all", encoding="utf-8")
    said = refusal(capsys, "x.toml", "--sysroot", "root", "--html", "no/page.html")
    assert said.startswith("no/page.html: cannot write")
    assert not Path("root").exists()


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_capture_that_is_cut_off_is_named_with_the_key_that_names_it(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.tar.xz").write_bytes(archive(captures()[0]).read_bytes()[:kept])
    Path("x.toml").write_text('[machine]\nsource = "cut.tar.xz"\n', encoding="utf-8")
    assert refusal(capsys, "x.toml").startswith("x.toml: machine.source: cut.tar.xz: ")
    assert refusal(capsys, "--machine", "cut.tar.xz", "--plug", "1G").startswith("--machine: cut.tar.xz: ")


def test_a_step_that_a_capture_does_not_have_is_told_with_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = archive(captures()[0])
    Path("x.toml").write_text(f'[machine]\nsource = "{source}"\nstep = "9-never"\n', encoding="utf-8")
    said = refusal(capsys, "x.toml")
    assert said.startswith("x.toml: machine.source: ") and "has no step '9-never' (one of: " in said


def test_a_file_that_is_no_text_is_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_bytes(b"title = \xff")
    assert refusal(capsys, "x.toml") == "x.toml: not a text file: byte 8 is not UTF-8 (scenarios are TOML in UTF-8)"
    Path("folder.toml").mkdir()
    assert refusal(capsys, "folder.toml").startswith("folder.toml: cannot read the scenario: Is a directory")
