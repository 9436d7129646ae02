"""At any width of the terminal, verdicts, addresses and sizes that a command gives as JSON stand whole in its text."""
# SPDX-License-Identifier: GPL-2.0-or-later

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from every_command import CORE, commands, world
from json_schemas import wrong_for
from memhp.cli.main import main
from memhp.hw.devices.virtio_mem import Geometry
from memhp.report.documents import DOCUMENTS
from memhp.target.device.server import Server
from memhp.units import GiB, exact_size, format_size
from target.test_vm_qmp import Qemu, served

ROOT = Path(__file__).parents[2]
WIDTHS = (60, 80, 120, 200)
NUMBERS = count()
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")

SCRIPT = """
import json, sys
from memhp.cli.main import main
for width, args in json.loads(sys.argv[1]):
    import fcntl, struct, termios
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    main(args)
    print("\\n=====", flush=True)
"""

CAPTURE = "tests/data/captures/x86_64-6.12.107+deb13-cloud-amd64-kmem-map-ram-mom0.tar.xz"
COMMANDS = {
    "matrix": ["matrix", "--profile", "riscv-hotplug-v1", "--va-bits", "39", "--jobs", "1"],
    "races": ["races", "vmalloc-fault", "--variant", "no-fault-handler", "--arch", "riscv64", "--jobs", "1"],
    "races, each": [
        "races",
        "vmalloc-fault",
        "--variant",
        "no-fault-handler",
        "--arch",
        "riscv64",
        "--jobs",
        "1",
        "--full",
    ],
    "geometry": ["geometry", "--profile", "linux-6.12", "--profile", "arm64-hotremove-v7", "--max-memory", "1T"],
    "memmap_on_memory": ["geometry", "--memmap-on-memory", "--profile", "linux-7.2"],
    "plan": ["rehearse", "--machine", "riscv-vm", "--plan", "8G"],
    "rehearse": ["rehearse", "examples/memblock-order.toml"],
    "rehearse, many gaps": ["rehearse", "examples/virtio-mem-day.toml"],
    "claims": ["claims", "a64-2"],
    "blocks": ["blocks", "--machine", CAPTURE],
    "why": ["why", "8", "--machine", CAPTURE],
    "plan of a host": ["plan", "--machine", CAPTURE, "--shrink-by", "128M"],
    "choices": ["choices", "end_flush"],
    "fixes": ["fixes", "--kernel", "6.12.40"],
    "explore": ["explore", "vmalloc-fault", "--variant", "no-fault-handler", "--full"],
    "explore, diff": ["explore", "vmalloc-fault", "--variant", "no-fault-handler", "--view", "diff", "--full"],
    "explore, sequence": ["explore", "vmalloc-fault", "--variant", "no-fault-handler", "--view", "sequence"],
    "the races": ["explore"],
    "a race": ["explore", "ptdump-vs-hot-remove"],
    "vm status": ["vm", "status", "{folder}/qmp"],
    "vm resize": ["vm", "resize", "{folder}/qmp", "1G", "--dry-run"],
    "vm plug": ["vm", "plug", "{folder}/qmp", "1G", "--dry-run"],
    "vm unplug": ["vm", "unplug", "{folder}/qmp", "--dry-run"],
    "device ctl": ["device", "ctl", "{folder}/control"],
    "guest doctor": ["guest", "doctor"],
    "guest list": ["guest", "list"],
    "pagetables": ["pagetables", CORE, "--summary"],
    "pagetables, laws": ["pagetables", CORE, "--check"],
    "apply": ["apply", "{folder}/plan.json", "--sysroot", "{folder}/host", "--dry-run"],
    "lint": ["lint", "--sysroot", "{folder}/host"],
    "capture": ["capture", CAPTURE, "--out", "{folder}/copy-{new}.tar.xz"],
    "example": ["example"],
}
NO_TABLE = {"schema", "completion", "man"}
"""Commands that print a file: a schema, a script, a manual page."""
ELSEWHERE = {
    "guest fetch": "asks the package manager",
    "guest run": "boots a kernel: tests/guests",
    "guest shell": "boots a kernel: tests/guests",
    "device virtio-mem": "serves until it is ended; what it prints is lines",
    "twin run": "is a terminal for others: tests/twin",
    "twin ctl": "prints JSON only",
    "conform": "boots kernels, or takes minutes; its report is lines, which echo_lines folds",
    "vm blocks": "asks a guest's agent: tests/target",
    "vm online": "asks a guest's agent: tests/target",
}
"""Commands that print nothing by themselves."""


def in_a_terminal(runs: list[tuple[int, list[str]]]) -> list[str]:
    """What each run prints on a pseudo-terminal of its width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    settings = termios.tcgetattr(slave)
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    ours = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(runs)],
        stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, cwd=ROOT, env={**ours, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    parts = []
    try:
        while part := os.read(master, 1 << 16):
            parts.append(part)
    except OSError:
        pass
    assert child.wait(timeout=60) == 0
    os.close(master)
    text = _ESCAPE.sub("", b"".join(parts).decode())
    outputs = text.split("\n=====\n")
    assert outputs.pop() == ""
    return outputs


def told(name: str, report: Any) -> Iterator[str]:
    """The verdicts, addresses and sizes of a report, as a text for people writes them."""
    if name == "matrix":
        for row in report["rows"]:
            yield from (format_size(row["page_size"]), format_size(row["block_size"]), row["profile"])
            yield from (word for word in row["failed"].split() if "0x" in word)
    elif name.startswith("races"):
        for row in report["rows"]:
            yield from (row["verdict"], row["variant"], *([row["configuration"]] if "each" in name else []))
    elif name == "geometry":
        for row in report["rows"]:
            for key in ("page_size", "section_size", "memory_block_size", "memory_block_size_large", "pageblock_size"):
                yield format_size(row[key])
            yield from (format_size(row[key]) for key in ("direct_map_size", "memmap_bytes"))
            yield format_size(row["direct_map_leaf_size"]) if row["direct_map_leaf_size"] else "window"
            yield row["profile"].removeprefix("linux-").removeprefix("arm64-hotremove-")
    elif name == "memmap_on_memory":
        for row in report["memmap_on_memory"]:
            yield format_size(row["memory_block_size"])
            if row["supported"] and row["mode"] != "N":
                yield str(row["memmap_pages"])
    elif name == "plan":
        for step in report["plan"]["steps"]:
            yield from (
                exact_size(step["size"]),
                hex(step["at"]),
                format_size(step["takes"]),
                format_size(step["leaves"]),
            )
        yield from (format_size(report["plan"][key]) for key in ("needed", "usable"))
    elif name == "blocks":
        for each in report["ranges"]:
            yield from (hex(each["start"]), exact_size(each["size"]), each["state"])
    elif name == "why":
        yield from (hex(block["start"]) for block in report["blocks"])
    elif name == "plan of a host":
        yield from (word for step in report["steps"] for word in (str(step["block"]), step["write"], step["risk"]))
        yield exact_size(report["reached"])
    elif name == "choices":
        yield from (str(value) for row in report["choices"] for value in row["values"])
    elif name == "fixes":
        yield from (word for row in report["fixes"] for word in row["title"].split())
    elif name.startswith("rehearse"):
        for zone in report["state"]["zones"]:
            if zone["spanned"]:
                yield hex(zone["start"])
                yield from (format_size(zone[key]) for key in ("spanned", "present", "managed", "free"))
        for step in report["steps"]:
            yield step["outcome"]["result"]
            yield from (word for breach in step["breaches"] for word in (breach["law"], *addresses(breach["text"])))
    elif name == "vm status":
        yield from (hex(report["vm"]["devices"][0]["at"]), "4 GiB", report["vm"]["state"])
    elif name.startswith("vm"):
        yield report["verdict"]
    elif name == "device ctl":
        yield from (hex(report["addr"]), exact_size(report["region_size"]), report["verdict"])
    elif name == "guest doctor":
        yield from (each["name"] for each in report["checks"])
    elif name == "guest list":
        yield from report["flavours"]
    elif name == "pagetables":
        yield report["release"]
    elif name == "pagetables, laws":
        yield from (each["law"] for each in report["laws"])
    elif name == "apply":
        yield report["plan"]
    elif name == "lint":
        yield "0 findings"
    elif name == "capture":
        yield from report["steps"]
    elif name == "example":
        yield from (each["name"] for each in report["examples"])
    elif name == "claims":
        yield from (row[key] for row in report["claims"] for key in ("id", "verdict", "command"))
    elif name == "explore, sequence":
        yield report["verdict"]
    elif name.startswith("explore"):
        yield report["verdict"]
        for line in report["trace"]["lines"]:
            yield from (word.rstrip(":") for word in addresses(line["what"]))
    elif name == "the races":
        for race in report["races"]:
            yield race["name"]
    else:
        for variant in report["variants"]:
            yield from (variant["name"], variant["stands_for"])


def addresses(text: str) -> list[str]:
    return [word.strip("().,;:") for word in text.split() if "0x" in word]


def document_of(name: str) -> str:
    """The name of the schema of what a command prints."""
    first, second = (*COMMANDS[name], "")[:2]
    special = {"the races": "explore list", "a race": "explore variants"}
    return special.get(name) or next(each for each in (f"{first} {second}", first) if each in DOCUMENTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What commands name: a plan and the host that it is for, QEMU's monitor, a device."""
    path = tmp_path_factory.mktemp("t")
    qemu = Qemu()
    qemu.answer("object-add", {"id": "m0", "size": GiB})
    qemu.answer("device_add", {"id": "d0", "memdev": "m0"})
    with (
        world(path, "apply"),
        served(path / "qmp", qemu),
        Server(Geometry(8 * GiB, 2 * GiB), path / "device", path / "control", say=lambda _: None) as device,
    ):
        thread = Thread(target=device.run)
        thread.start()
        yield path
        device.stop()
        thread.join()


def words(name: str, folder: Path) -> list[str]:
    """A command's words, with the folder in place and a name that is new each time."""
    new = str(next(NUMBERS))
    return [word.replace("{folder}", str(folder)).replace("{new}", new) for word in COMMANDS[name]]


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[tuple[str, int], str]:
    """Every command at every width, in one process: the terminal changes its size between them."""
    keys = [(name, width) for name in COMMANDS for width in WIDTHS]
    outputs = in_a_terminal([(width, words(name, folder)) for name, width in keys])
    return dict(zip(keys, outputs, strict=True))


def test_every_command_is_seen_at_every_width() -> None:
    starts = {" ".join(run[:most]) for run in COMMANDS.values() for most in (1, 2)}
    seen = starts & {*commands()}
    assert {*seen, *NO_TABLE, *ELSEWHERE} == {*commands()}
    assert not seen & {*NO_TABLE, *ELSEWHERE}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_verdict_address_or_size_is_cut_at_any_width(
    name: str,
    folder: Path,
    printed: dict[tuple[str, int], str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    main([*words(name, folder), "--json"])
    report = json.loads(capfd.readouterr().out)
    assert wrong_for(report, document_of(name)) == []
    wanted = set(told(name, report))
    assert wanted
    for width in WIDTHS:
        text = printed[name, width]
        missing = {word for word in wanted if word not in text}
        assert not missing, f"{name} at {width} columns lacks {sorted(missing)}:\n{text}"
        assert "…" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_fit_the_terminal_but_for_commands_and_paths(name: str, printed: dict[tuple[str, int], str]) -> None:
    for width in WIDTHS:
        for line in printed[name, width].split("\n"):
            longest = max(map(len, line.split()), default=0)
            assert len(line) <= width or " memhp " in line or longest > width // 2, f"{name} at {width}: {line}"
