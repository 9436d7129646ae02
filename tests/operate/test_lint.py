"""``memhp lint``: each finding is provoked by the setting that it is about, and by nothing else."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from pathlib import Path
from typing import Any

import pytest

from captures import all_captures, archive, facts
from memhp.cli.main import main
from memhp.facts.capture import File
from memhp.facts.observed import Facts, observe
from memhp.facts.open_source import open_source, steps
from memhp.facts.source import FileSource, Source
from memhp.facts.sysroot import write_sysroot
from memhp.operate.lint import RULES, LintDocument, lint
from memhp.operate.lint_report import sarif, text_of
from memhp.operate.settings import settings
from udev_rules import RED_HAT, UBUNTU

MACHINE = ("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default", "2-online")
VIRTIO_MEM = ("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")
AUTO = "sys/devices/system/memory/auto_online_blocks"
PARAMS = "sys/module/memory_hotplug/parameters"
RULE = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="%s"\n'


def machine(root: Path, files: dict[str, str], base: tuple[str, str] = MACHINE) -> LintDocument:
    """What is found on a machine with these files besides, or instead of, its own."""
    if not root.exists():
        write_sysroot(facts(*base), root)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return lint(open_source(root))


def ids(document: LintDocument) -> set[str]:
    return {each.id for each in document.findings}


QUIET = {"proc/cmdline": "quiet\n", AUTO: "online_movable\n"}
PROVOKED: dict[str, tuple[dict[str, str], str, int]] = {
    "nobody-onlines": ({AUTO: "offline\n"}, f"/{AUTO}", 1),
    "kernel-first": (
        {AUTO: "online\n", "etc/udev/rules.d/80-hotplug.rules": "# ours\n" + RULE % "online_movable"},
        "/etc/udev/rules.d/80-hotplug.rules", 2,
    ),
    "rules-differ": (
        {AUTO: "offline\n", "usr/lib/udev/rules.d/40-a.rules": RULE % "online",
         "etc/udev/rules.d/90-b.rules": RULE % "online_movable"},
        "/etc/udev/rules.d/90-b.rules", 1,
    ),
    "wrong-file": (
        {"etc/systemd/system/mem.service": "[Service]\nExecStart=/bin/sh -c 'for m in /sys; do echo online_movable > "
         "/sys/devices/system/memory/memory40/online; done'\n"},
        "/etc/systemd/system/mem.service", 2,
    ),
    "boot-overridden": ({"proc/cmdline": "memhp_default_state=offline\n"}, f"/{AUTO}", 1),
    "policy-unused": ({f"{PARAMS}/online_policy": "auto-movable\n"}, f"/{AUTO}", 1),
    "ratio-unused": ({f"{PARAMS}/auto_movable_ratio": "400\n"}, f"/{PARAMS}/auto_movable_ratio", 1),
    "memmap-refused": (
        {"proc/cmdline": "memory_hotplug.memmap_on_memory=y\n", f"{PARAMS}/memmap_on_memory": "N\n"},
        "/proc/cmdline", 1,
    ),
    "built-in": (
        {"etc/modprobe.d/mem.conf": "\noptions memory_hotplug memmap_on_memory=Y\n"}, "/etc/modprobe.d/mem.conf", 2,
    ),
    "unplug-online-off": (
        {"sys/module/virtio_mem/parameters/unplug_online": "N\n"}, "/sys/module/virtio_mem/parameters/unplug_online", 1,
    ),
    "vfio-limit": (
        {"sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "5\n"},
        "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", 1,
    ),
    "dimm-idle": (
        {"sys/bus/acpi/devices/PNP0C80:01/status": "15\n", "sys/bus/acpi/devices/PNP0C80:02/status": "0\n"},
        "/sys/bus/acpi/devices/PNP0C80:01/status", 1,
    ),
    "eject-off": (
        {"sys/firmware/acpi/hotplug/memory/enabled": "0\n"}, "/sys/firmware/acpi/hotplug/memory/enabled", 1,
    ),
    "agent": ({"usr/sbin/qemu-ga": "a program\n"}, "/usr/sbin/qemu-ga", 1),
    "unaligned": (
        {"sys/bus/dax/devices/dax0.0/resource": "0x24c000000\n", "sys/bus/dax/devices/dax0.0/size": "1073741824\n"},
        "/sys/bus/dax/devices/dax0.0/resource", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("id", PROVOKED)
def test_a_finding_comes_with_its_cause_and_goes_with_it(id: str, tmp_path: Path) -> None:
    cause, file, line = PROVOKED[id]
    assert ids(machine(tmp_path / "quiet", QUIET)) == set()
    found = machine(tmp_path / "root", QUIET | cause)
    assert ids(found) == {id}
    assert [(each.file, each.line, each.severity) for each in found.findings] == [(file, line, RULES[id].severity)]
    assert found.verdict == ("clean" if RULES[id].severity == "note" else "found")


def test_memory_of_a_virtio_mem_device_in_a_kernel_zone_may_not_come_back(tmp_path: Path) -> None:
    found = machine(tmp_path / "root", {f"{PARAMS}/memmap_on_memory": "Y\n"}, VIRTIO_MEM)
    shrink = next(each for each in found.findings if each.id == "cannot-shrink")
    assert shrink.text.startswith("512 MiB of virtio")
    assert "memmap-unused" in ids(found)


def test_every_rule_is_provoked_somewhere() -> None:
    elsewhere = {"cannot-shrink", "memmap-unused", "device-pinned", "too-movable"}
    assert set(PROVOKED) | elsewhere == set(RULES)


def test_devices_that_started_in_the_middle_of_a_section_lost_their_ends_and_lint_says_so() -> None:
    name = "x86_64-6.12.117+deb13-cloud-amd64-kmem-odd-section"
    found = {each.id for step in steps(archive(name)) for each in lint(open_source(archive(name), step=step)).findings}
    assert "unaligned" in found


@pytest.mark.parametrize("name", all_captures())
def test_any_machine_can_be_looked_at(name: str) -> None:
    document = lint(open_source(archive(name), step=steps(archive(name))[-1]))
    assert all(each.id in RULES and each.line >= 1 and each.remedy for each in document.findings)
    assert text_of(document).splitlines()[-1].endswith(("finding.", "findings."))


def test_the_first_to_act_wins(tmp_path: Path) -> None:
    rule = {"etc/udev/rules.d/80-a.rules": RULE % "online_movable"}
    assert machine(tmp_path / "a", QUIET | rule).winner.by == "kernel"
    udev = machine(tmp_path / "b", QUIET | rule | {AUTO: "offline\n"}).winner
    assert (udev.by, udev.how, udev.file, udev.line) == ("udev", "online_movable", "/etc/udev/rules.d/80-a.rules", 1)
    assert machine(tmp_path / "c", QUIET | {AUTO: "offline\n"}).winner.by == "nobody"


@pytest.mark.parametrize(("vendor", "by"), [("QEMU", "udev"), ("Xen", "udev"), ("Dell Inc.", "nobody"), (None, "udev")])
def test_rules_for_other_machines_are_passed_over_as_udev_does(vendor: str | None, by: str, tmp_path: Path) -> None:
    files = {AUTO: "offline\n", "usr/lib/udev/rules.d/40-vm-hotadd.rules": UBUNTU}
    if vendor is not None:
        files["sys/class/dmi/id/sys_vendor"] = f"{vendor}\n"
    assert machine(tmp_path / "root", QUIET | files).winner.by == by


@pytest.mark.parametrize("value", ["", "go"])
def test_a_rule_runs_as_the_environment_has_it_that_rules_before_it_set(value: str, tmp_path: Path) -> None:
    files = {
        AUTO: "offline\n",
        "etc/udev/rules.d/40-a.rules": f'SUBSYSTEM=="memory", ENV{{mode}}="{value}"\n',
        "etc/udev/rules.d/50-b.rules": 'SUBSYSTEM=="memory", ENV{mode}=="go", ATTR{state}="online_kernel"\n',
    }
    assert machine(tmp_path / "root", QUIET | files).winner.by == ("udev" if value else "nobody")


def test_what_red_hats_rules_write_is_worked_out_when_they_run(tmp_path: Path) -> None:
    rules = {AUTO: "offline\n", "etc/udev/rules.d/40-redhat.rules": RED_HAT}
    document = machine(tmp_path / "root", QUIET | rules)
    assert (document.winner.by, document.winner.how) == ("udev", "?")
    assert "udev brings added memory online, in a way that shows when it runs" in " ".join(text_of(document).split())


def test_two_who_write_the_same_file_differently_are_told(tmp_path: Path) -> None:
    files = {
        "etc/tmpfiles.d/mem.conf": "w /sys/devices/system/memory/auto_online_blocks - - - - online_movable\n",
        "etc/tuned/active_profile": "virt\n",
        "etc/tuned/virt/tuned.conf": "[sysfs]\n/sys/devices/system/memory/auto_online_blocks=online\n",
    }
    found = machine(tmp_path / "root", QUIET | files)
    assert [(each.id, each.file, each.line) for each in found.findings] == [
        ("rules-differ", "/etc/tuned/virt/tuned.conf", 2)
    ]


def test_a_program_that_a_rule_runs_is_read_for_what_it_writes(tmp_path: Path) -> None:
    rule = 'SUBSYSTEM=="memory", ACTION=="add", RUN+="/bin/sh -c \'echo online_movable > /sys$devpath/%s\'"\n'
    files = {AUTO: "offline\n", "etc/udev/rules.d/80-a.rules": rule % "state"}
    assert machine(tmp_path / "a", QUIET | files).winner.how == "online_movable"
    files["etc/udev/rules.d/80-a.rules"] = rule % "online"
    assert "wrong-file" in ids(machine(tmp_path / "b", QUIET | files))


def test_files_are_read_as_their_programs_read_them(tmp_path: Path) -> None:
    files = {
        "usr/lib/udev/rules.d/40-a.rules": RULE % "online",
        "etc/udev/rules.d/40-a.rules": "# masks its namesake\n",
        "etc/udev/rules.d/50-b.rules": 'SUBSYSTEM=="memory", \\\n  ENV{zone}="online_kernel"\n'
        'SUBSYSTEM=="memory", ATTR{state}="$env{zone}"\n',
        "usr/lib/udev/rules.d/55-masked.rules": RULE % "online",
        "etc/udev/rules.d/60-net.rules": 'SUBSYSTEM=="net", ATTR{state}="up"\n',
        "etc/daxctl.conf.d/a.conf": "[reconfigure-device one]\nnvdimm.uuid = 1\nmode = system-ram\nmovable = false\n"
        "[reconfigure-device two]\nmode = devdax\n",
        "etc/tmpfiles.d/mem.conf": 'w "/sys/devices/system/memory/auto_online_blocks" - - - - "online_movable"\n',
        "etc/tuned/active_profile": "virt\n",
        "usr/lib/tuned/virt/tuned.conf": "[sysfs]\n/sys/devices/system/memory/auto_online_blocks=online\n",
        "etc/systemd/system/a.service": "[Service]\nExecStart=/usr/bin/chmem --enable -z Movable 1g\n",
    }
    machine(tmp_path / "root", QUIET | files)
    (tmp_path / "root/etc/udev/rules.d/55-masked.rules").symlink_to("/dev/null")
    told = [each[:5] for each in settings(open_source(tmp_path / "root")) if each.actor not in ("kernel", "cmdline")]
    assert told == [
        ("udev", "/etc/udev/rules.d/50-b.rules", 3, "online", "online_kernel"),
        ("systemd", "/etc/systemd/system/a.service", 2, "online", "online_movable"),
        ("tmpfiles", "/etc/tmpfiles.d/mem.conf", 1, "auto_online_blocks", "online_movable"),
        ("tuned", "/usr/lib/tuned/virt/tuned.conf", 2, "auto_online_blocks", "online"),
        ("daxctl", "/etc/daxctl.conf.d/a.conf", 4, "online", "online"),
    ]


def test_what_a_profile_includes_counts_unless_it_says_something_else_itself(tmp_path: Path) -> None:
    write = "[sysfs]\n/sys/devices/system/memory/auto_online_blocks=%s\n"
    files = {
        "etc/tuned/active_profile": "ours\n",
        "etc/tuned/ours/tuned.conf": "[main]\ninclude=virtual-guest\n",
        "usr/lib/tuned/virtual-guest/tuned.conf": f"[main]\ninclude=ours, base\n{write % 'online_movable'}",
        "usr/lib/tuned/base/tuned.conf": write % "online",
    }
    machine(tmp_path / "root", QUIET | files)
    told = [(each.file, each.value) for each in settings(open_source(tmp_path / "root")) if each.actor == "tuned"]
    assert told == [("/usr/lib/tuned/virtual-guest/tuned.conf", "online_movable")]


@pytest.mark.parametrize(
    ("active", "files", "winner"),
    [
        ("a b", {"usr/lib/tuned/a": "", "usr/lib/tuned/b": ""}, "usr/lib/tuned/b"),
        ("b a", {"usr/lib/tuned/a": "", "usr/lib/tuned/b": ""}, "usr/lib/tuned/a"),
        ("a b", {"usr/lib/tuned/a": "", "usr/lib/tuned/b": "include=c", "usr/lib/tuned/c": ""}, "usr/lib/tuned/b"),
        ("a b", {"usr/lib/tuned/a": "", "usr/lib/tuned/b": "include=c\n#", "usr/lib/tuned/c": ""}, "usr/lib/tuned/c"),
        ("a", {"usr/lib/tuned/a": "include=b, c\n#", "usr/lib/tuned/b": "", "usr/lib/tuned/c": ""}, "usr/lib/tuned/c"),
        ("a", {"etc/tuned/a": "include=a\n#", "usr/lib/tuned/a": ""}, "usr/lib/tuned/a"),
        ("a", {"etc/tuned/a": "include=a", "usr/lib/tuned/a": ""}, "etc/tuned/a"),
    ],
)
def test_of_tuned_profiles_the_last_that_is_loaded_wins(
    active: str, files: dict[str, str], winner: str, tmp_path: Path
) -> None:
    """tuned/profiles/loader.py:_load_profile: a profile after what it includes, no file twice. ``#`` says nothing."""
    value = "/sys/devices/system/memory/auto_online_blocks=online"
    texts = {
        f"{name}/tuned.conf": f"[main]\n{text.removesuffix('#')}\n[sysfs]\n{'#' if text.endswith('#') else ''}{value}\n"
        for name, text in files.items()
    }
    machine(tmp_path / "root", QUIET | {"etc/tuned/active_profile": active} | texts)
    told = [each.file for each in settings(open_source(tmp_path / "root")) if each.actor == "tuned"]
    assert told == [f"/{winner}/tuned.conf"]


def test_what_is_dropped_beside_a_service_counts(tmp_path: Path) -> None:
    """Without the service systemd has nothing to load: its ``TEST-15-DROPIN`` has ``systemctl cat`` fail then."""
    file = "usr/local/lib/systemd/system/kubelet.service.d/10-memory.conf"
    run = "[Service]\nExecStartPre=/usr/bin/chmem --enable 1g\n"
    machine(tmp_path / "none", QUIET | {file: run})
    assert not [each for each in settings(open_source(tmp_path / "none")) if each.actor == "systemd"]
    machine(tmp_path / "root", QUIET | {file: run, "lib/systemd/system/kubelet.service": "[Service]\n"})
    told = [each[:5] for each in settings(open_source(tmp_path / "root")) if each.actor == "systemd"]
    assert told == [("systemd", f"/{file}", 2, "online", "online")]


UNIT = "[Unit]\n\n[Service]\nExecStart=/usr/bin/chmem --enable 1g\n"
INSTALLED = f"{UNIT}[Install]\nWantedBy=multi-user.target\n"


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"usr/lib/systemd/system/a.service": UNIT}, [4]),
        ({"usr/lib/systemd/system/a.service": INSTALLED}, []),
        ({"usr/lib/systemd/system/a.service": INSTALLED, "etc/systemd/system/x.target.wants/a.service": UNIT}, [4]),
        ({"usr/lib/systemd/system/a.service": INSTALLED, "etc/systemd/system/x.target.wants/a.timer": ""}, [4]),
        ({"usr/lib/systemd/system/a@.service": INSTALLED, "etc/systemd/system/x.target.wants/a@1.service": ""}, [4]),
        ({"usr/lib/systemd/system/a.service": INSTALLED, "etc/systemd/system/b.target": "[Unit]\nWants=b.a a.service"},
         [4]),
        ({"usr/lib/systemd/system/a.service": INSTALLED,
          "etc/udev/rules.d/9.rules": 'SUBSYSTEM=="memory", ENV{SYSTEMD_WANTS}+="a.service"\n'}, [4]),
        ({"usr/lib/systemd/system/a.service": UNIT, "etc/systemd/system/a.service.d/1.conf": "[Service]\nExecStart=\n"},
         []),
        ({"usr/lib/systemd/system/a.service": UNIT,
          "etc/systemd/system/a.service.d/1.conf": "[Service]\nExecStart =\nExecStart=/usr/bin/chmem -e 2g\n"}, [3]),
        ({"run/systemd/generator.late/a.service": UNIT}, [4]),
        ({"run/systemd/generator.late/a.service": UNIT, "usr/lib/systemd/system/a.service": "[Unit]\n"}, []),
        ({"run/systemd/generator/a.service": UNIT, "usr/lib/systemd/system/a.service": "[Unit]\n"}, [4]),
        ({"usr/lib/systemd/system/a.service": INSTALLED, "run/systemd/generator/x.target.wants/a.service": UNIT}, [4]),
        ({"usr/lib/systemd/system/a.service": UNIT,
          "etc/systemd/system.control/a.service.d/1.conf": "[Service]\nExecStart=\n"}, []),
        ({"etc/systemd/system/a.service": UNIT.replace("ExecStart", "ExecStop")}, []),
        ({"etc/systemd/system/a.service": "", "etc/systemd/system/a.service.d/1.conf": UNIT}, []),
        ({"etc/systemd/system/a-b.service": "[Service]\n", "etc/systemd/system/service.d/1.conf": UNIT}, [4]),
        ({"etc/systemd/system/a-b.service": "[Service]\n", "etc/systemd/system/a-.service.d/1.conf": UNIT}, [4]),
        ({"etc/systemd/system/a-b.service": "[Service]\n", "etc/systemd/system/service.d/1.conf": UNIT,
          "etc/systemd/system/a-b.service.d/1.conf": "[Service]\n"}, []),
        ({"etc/systemd/system/ab.service": "[Service]\n", "etc/systemd/system/a-.service.d/1.conf": UNIT}, []),
        ({"etc/systemd/system/a.service":
          "[Service]\nExecStart=/bin/sh -c 'echo 1 > /sys/devices/system/memory/memory40/online'\n"}, [2]),
        ({"etc/rc.local": "#!/bin/sh\necho online > /sys/devices/system/memory/auto_online_blocks\n"}, [2]),
    ],
)  # fmt: skip
def test_a_service_counts_if_it_starts_and_only_what_it_starts_with(
    files: dict[str, str], lines: list[int], tmp_path: Path
) -> None:
    """systemd.unit(5): enabled is what a .wants folder links to; systemd.service(5): an empty ExecStart= resets."""
    machine(tmp_path / "root", QUIET | files)
    told = [each.line for each in settings(open_source(tmp_path / "root")) if each.actor == "systemd"]
    assert told == lines


RHEL_9 = """
SUBSYSTEM!="memory", GOTO="memory_hotplug_end"
ACTION!="add", GOTO="memory_hotplug_end"
CONST{arch}=="s390*", GOTO="memory_hotplug_end"
CONST{arch}=="ppc64*", GOTO="memory_hotplug_end"
ENV{.state}="online"
CONST{virt}=="none", ENV{.state}="online_movable"
ATTR{state}=="offline", ATTR{state}="$env{.state}"
LABEL="memory_hotplug_end"
"""


@pytest.mark.parametrize(
    ("cpu", "how"), [("flags\t: syscall hypervisor\n", "online"), ("flags\t: syscall\n", "online_movable"), ("", "?")]
)
def test_constants_of_udev_are_those_of_the_machine(cpu: str, how: str, tmp_path: Path) -> None:
    files = {AUTO: "offline\n", "usr/lib/udev/rules.d/40-redhat.rules": RHEL_9, "proc/cpuinfo": cpu}
    found = machine(tmp_path / "root", QUIET | files).winner
    assert (found.by, found.how) == ("udev", how)


def test_the_machine_is_looked_at_once_however_many_rules_ask_for_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def counted(source: Source) -> Facts:
        looks.append(source)
        return observe(source)

    monkeypatch.setattr("memhp.operate.udev_rules.observe", counted)
    machine(tmp_path / "root", QUIET | {"usr/lib/udev/rules.d/40-redhat.rules": RHEL_9 * 3})
    settings(open_source(tmp_path / "root"))
    assert looks and len(looks) == len(set(looks))


@pytest.mark.parametrize("name", [each for each in all_captures() if each.startswith(("s390x", "ppc64le"))])
def test_rules_of_red_hat_leave_the_memory_of_s390_and_power_alone(name: str) -> None:
    source = open_source(archive(name), step=steps(archive(name))[0])
    assert isinstance(source, FileSource)
    rules = {"/usr/lib/udev/rules.d/40-redhat.rules": File(RHEL_9, "40-redhat.rules")}
    held = FileSource(source.name, source.kind, {**source._files, **rules})
    assert not [each for each in settings(held) if each.actor == "udev"]


@pytest.mark.parametrize(
    ("asks", "runs"),
    [
        ('ATTRS{auto_online_blocks}=="offline"', True),
        ('ATTRS{auto_online_blocks}=="online"', False),
        ('ATTRS{state}=="offline"', True),
        ('ATTRS{queue/rotational}!="1"', False),
        ('KERNELS=="memory", SUBSYSTEMS=="memory"', True),
        ('DRIVERS=="?*"', False),
        ('CONST{cvm}=="sev"', True),
    ],
)
def test_what_parents_have_is_asked_of_the_folder_of_blocks(asks: str, runs: bool, tmp_path: Path) -> None:
    """udev(7): in the plural keys are held against the device and those above; a missing attribute fits nothing."""
    rule = {"etc/udev/rules.d/9.rules": f'SUBSYSTEM=="memory", {asks}, ATTR{{state}}="online"\n', AUTO: "offline\n"}
    assert (machine(tmp_path / "root", QUIET | rule).winner.by == "udev") is runs


ADDED = 'SUBSYSTEM=="memory", ACTION=="add", '
ONLINES = "RUN%s\"/bin/sh -c 'echo %s > /sys$devpath/%s'\""


@pytest.mark.parametrize(
    ("rules", "how"),
    [
        (['ATTR{online}=="0", ATTR{online}="1"'], "online"),
        ([ONLINES % ("+=", "1", "online")], "online"),
        (["RUN+=\"/bin/sh -c 'echo 1 > /sys/devices/system/cpu/cpu1/online'\""], None),
        (["RUN+=\"/bin/sh -c 'sleep 11 > /sys$devpath/online'\""], None),
        (['RUN+="/bin/sh -c \'echo \\"online_kernel\\" > /sys$devpath/state\'"'], "online_kernel"),
        ([ONLINES % ("+=", "online", "state"), 'RUN=""'], None),
        ([ONLINES % ("+=", "online", "state"), ONLINES % (":=", "online_movable", "state"),
          ONLINES % ("=", "online", "state")], "online_movable"),
        ([ONLINES % ("+=", "online", "state"), 'PROGRAM="/bin/asks", RUN=""'], "online"),
        ([ONLINES % ("+=", "online", "state"), 'ATTR{state}="online_movable"'], "online_movable"),
        (['ATTR{state}=e"online"'], "online"),
        (['ATTR{state}==i"OFFLINE", ATTR{state}="online"'], "online"),
        (['KERNEL==i"CPU*", ATTR{state}="online"'], None),
        (['ENV{z}="a"', 'ENV{z}+="b"', 'ENV{z}=="a b", ATTR{state}="online"'], "online"),
        (['ENV{z}="a"', 'ENV{z}+="b"', 'ENV{z}=="b", ATTR{state}="online"'], None),
        *(([f'ATTR{{state}}="{value}"'], "?") for value in
          ("%c", "$result", "$attr{../policy}", "%s{policy}", "online_$env{zone}", "online%E{zone}")),
    ],
)  # fmt: skip
def test_operators_prefixes_and_replacements_are_udevs(rules: list[str], how: str | None, tmp_path: Path) -> None:
    """udev(7): = empties a list, := closes it; programs run after all rules; i"" is for any case, e"" has escapes.

    A 1 in a block's ``online`` brings it online (drivers/base/memory.c:memory_subsys_online).
    """
    files = {AUTO: "offline\n", "etc/udev/rules.d/9.rules": "".join(f"{ADDED}{rule}\n" for rule in rules)}
    found = machine(tmp_path / "root", QUIET | files)
    assert (found.winner.by, found.winner.how) == (("udev", how) if how else ("nobody", "offline"))
    assert "wrong-file" not in ids(found)


def keys(value: dict[str, Any], required: set[str], allowed: set[str]) -> None:
    """What the schema of SARIF 2.1.0 says of an object: these keys at least, these at most."""
    assert required <= set(value) <= required | allowed


def test_sarif_is_what_its_schema_wants(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = {name: text for cause, *_ in PROVOKED.values() for name, text in cause.items()}
    document = machine(tmp_path / "root", files)
    assert main(["lint", "--sysroot", str(tmp_path / "root"), "--sarif"]) == 1
    log = json.loads(capfd.readouterr().out)
    assert log == sarif(document)
    keys(log, {"version", "runs"}, {"$schema"})
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    keys(run, {"tool"}, {"results", "columnKind"})
    driver = run["tool"]["driver"]
    keys(driver, {"name"}, {"semanticVersion", "rules"})
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    assert run["results"]
    for each in run["results"]:
        keys(each, {"message"}, {"ruleId", "ruleIndex", "level", "locations"})
        assert each["level"] in {"none", "note", "warning", "error"}
        assert driver["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
        assert isinstance(each["message"]["text"], str)
        place = each["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"].startswith("file:///")
        assert place["region"]["startLine"] >= 1
