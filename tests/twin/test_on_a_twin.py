"""Unmodified programs in namespaces of their own: the memory files are the twin's, and the host is out of reach."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from memhp.twin import namespace
from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.fuse.server import Server
from memhp.twin.loop import Loop
from memhp.twin.run import served
from twin_machines import SMALL
from twin_runs import SAID, needs_a_twin, on_twin, scenario, start_on_twin

MEMORY = "/sys/devices/system/memory"

PROBE = SAID + """
import json, os, select
def write(path, text, flags=0):
    def act():
        fd = os.open(path, os.O_WRONLY | flags)
        try:
            return os.write(fd, text)
        finally:
            os.close(fd)
    return said(act)
def read(path):
    return said(lambda: open(path).read())
def polled(fd):
    poll = select.poll()
    poll.register(fd, select.POLLPRI | select.POLLERR)
    return [bits for _, bits in poll.poll(0)]
M = "/sys/devices/system/memory/"
told = {}
told["twice"] = write(M + "memory36/state", b"online")
told["offline"] = [write(M + "memory36/state", b"offline", os.O_TRUNC), read(M + "memory36/state")]
told["nonsense"] = write(M + "memory36/state", b"gone\\n")
told["unmovable"] = write(M + "memory0/state", b"offline\\n")
told["read-only"] = write(M + "memory36/removable", b"0")
told["write-only"] = read(M + "hard_offline_page")
told["unreadable"] = read(M + "memory36/power/autosuspend_delay_ms")
told["power"] = sorted(os.listdir(M + "memory36/power"))
told["order"] = os.listdir(M + "memory36")
told["host"] = write("/sys/power/state", b"nonsense")
told["new"] = said(lambda: os.mkdir(M + "memory999"))
told["missing"] = read(M + "memory47/state")
told["link"] = os.readlink(M + "memory36/node0")
paths = ("/proc/iomem", "/proc/cmdline", M + "memory0/state")
told["devices"] = sorted({os.stat(path).st_dev == os.stat(M).st_dev for path in paths})
fd = os.open(M + "memory36/state", os.O_RDONLY)
told["poll-new"] = polled(fd)
os.read(fd, 100)
told["poll-read"] = polled(fd)
kmsg = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
records = []
while (record := said(lambda: os.read(kmsg, 8192))) != "EAGAIN":
    records.append(record.decode())
told["kmsg"] = [len(records) > 3, records[0][:4], polled(kmsg)]
os.write(kmsg, b"probe: hello")
told["kmsg-own"] = os.read(kmsg, 8192).decode().partition(";")[2]
flags = os.open("/proc/kpageflags", os.O_RDONLY)
told["kpageflags"] = os.pread(flags, 8, 48 * 32768 * 8).hex()
told["uid"] = os.getuid()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a program saw that tried many things, all of which the twin heard of."""
    done = on_twin(["--exact", scenario(tmp_path_factory.mktemp("probe"), SMALL)], [sys.executable, "-c", PROBE])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_writes_end_in_the_kernels_errno(told: dict[str, object]) -> None:
    assert told["twice"] == told["nonsense"] == told["unmovable"] == "EINVAL"
    assert told["offline"] == [7, "offline\n"]


def test_files_open_the_ways_that_sysfs_lets_them(told: dict[str, object]) -> None:
    assert told["read-only"] == told["write-only"] == "EACCES"
    power = told["power"]
    assert told["unreadable"] == "EIO" and isinstance(power, list) and "autosuspend_delay_ms" in power
    assert told["new"] == "EPERM"
    assert told["missing"] == "ENOENT"
    assert told["link"] == "../../node/node0"


def test_a_folder_is_listed_in_the_order_of_a_real_kernel(told: dict[str, object]) -> None:
    # From a Linux 6.18.
    order = "uevent node0 power online phys_device phys_index valid_zones subsystem state removable"
    assert told["order"] == order.split()


def test_nothing_else_of_the_hosts_sysfs_can_be_written(told: dict[str, object]) -> None:
    assert told["host"] == "EROFS"
    assert told["devices"] == [True]
    assert told["uid"] == 0


def test_poll_says_of_an_attribute_what_kernfs_says(told: dict[str, object]) -> None:
    import select

    assert told["poll-new"] == [select.POLLPRI | select.POLLERR]
    assert told["poll-read"] == []


def test_kmsg_is_read_record_by_record_and_says_when_there_are_no_more(told: dict[str, object]) -> None:
    kmsg = told["kmsg"]
    assert isinstance(kmsg, list) and kmsg[0] is True and kmsg[1].endswith(",0,") and kmsg[2] == []
    assert told["kmsg-own"] == "probe: hello\n"


def test_kpageflags_says_that_offline_pages_are_none(told: dict[str, object]) -> None:
    assert told["kpageflags"] == (1 << 20).to_bytes(8, "little").hex()


def test_a_program_sees_the_same_where_the_kernel_keeps_files(tmp_path: Path, told: dict[str, object]) -> None:
    done = on_twin([scenario(tmp_path, SMALL)], [sys.executable, "-c", PROBE])
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    # Whether a file was read since it was opened, nobody knows but the kernel.
    assert {name for name in told if kept[name] != told[name]} <= {"poll-new", "devices"}
    assert kept["poll-new"] == []


CHANGES = """
import json, os, random, sys
M = "/sys/devices/system/memory/"
choices = random.Random(int(sys.argv[1]))
told, held = [], {}
FILES = ("state", "online", "valid_zones", "removable", "phys_index")
BLOCKS = (0, 35, 36, 37, 48, 49, 55)
for _ in range(60):
    block, word = choices.choice(BLOCKS), choices.choice(["online", "offline", "online_movable", "online_kernel", "no"])
    path = f"{M}memory{block}/state"
    fd = os.open(path, os.O_WRONLY | choices.choice([0, os.O_TRUNC]))
    try:
        os.write(fd, word.encode())
        came = "ok"
    except OSError as error:
        came = error.errno
    os.close(fd)
    seen = {}
    for block in choices.sample(BLOCKS, 4):
        for name in FILES:
            path = f"{M}memory{block}/{name}"
            if choices.random() < 0.5:
                held.setdefault(path, os.open(path, os.O_RDONLY))
            seen[path] = os.pread(held[path], 99, 0).decode() if path in held else open(path).read()
    seen["/sys/devices/system/node/has_memory"] = open("/sys/devices/system/node/has_memory").read()
    seen["/sys/devices/system/node/node0/meminfo"] = open("/sys/devices/system/node/node0/meminfo").read()
    told.append([f"{path}", came, seen])
print(json.dumps(told))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_kernel_keeps_is_never_stale(tmp_path: Path, seed: int) -> None:
    small = scenario(tmp_path, SMALL)
    runs = [
        on_twin([*options, "--speed", "0", small], [sys.executable, "-c", CHANGES, str(seed)])
        for options in ([], ["--exact"])
    ]
    assert [done.returncode for done in runs] == [0, 0], runs[0].stderr
    kept, exact = (json.loads(done.stdout) for done in runs)
    assert len(exact) == 60 and {came for _, came, _ in exact} == {"ok", 22}
    assert kept == exact


SENDFILE = """
import os
for name, text in (("auto_online_blocks", b"nonsense"), ("block_size_bytes", b"1")):
    path = f"/sys/devices/system/memory/{name}"
    try:
        os.write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), text)
    except OSError as error:
        os.write(1, f"{error.errno} ".encode())
    os.sendfile(1, os.open(path, os.O_RDONLY), None, 4096)
"""


@pytest.mark.parametrize("options", [[], ["--exact"]])
def test_who_reads_by_sendfile_sees_the_text_after_a_write_that_was_refused(tmp_path: Path, options: list[str]) -> None:
    done = on_twin([*options, scenario(tmp_path, SMALL)], [sys.executable, "-c", SENDFILE])
    assert done.stdout == "22 offline\n13 8000000\n", done.stderr


AGAIN = SAID + """
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
answers = line.makefile("r")
def ask(command, **arguments):
    line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\\n")
    while "event" in (reply := json.loads(answers.readline())) or "QMP" in reply:
        pass
    assert "return" in reply, reply
def until(event):
    while json.loads(answers.readline()).get("event") != event:
        pass
M = "/sys/devices/system/memory/"
def blocks():
    return sorted(int(name[6:]) for name in os.listdir(M) if name.startswith("memory"))
def see():
    return [said(lambda: open(M + "memory56/state").read()), said(lambda: os.stat(M + "memory56").st_nlink),
            said(lambda: os.readlink("/sys/devices/system/node/node0/memory56")), 56 in blocks()]
told = [see()]
ask("qmp_capabilities")
ask("object-add", **{"qom-type": "memory-backend-ram", "id": "m0", "size": 512 << 20})
for _ in range(2):
    ask("device_add", driver="pc-dimm", id="d0", memdev="m0", addr=0x1C0000000)
    until("ACPI_DEVICE_OST")
    told.append(see())
    ask("query-status")
    held = os.open(M + "memory56/state", os.O_RDONLY)
    os.pread(held, 99, 0)
    ask("device_del", id="d0")
    until("DEVICE_DELETED")
    told.append([*see(), said(lambda: os.pread(held, 99, 0))])
print(json.dumps(told))
"""


@pytest.mark.parametrize("options", [[], ["--exact"]])
def test_blocks_come_and_go_under_a_tools_eyes(tmp_path: Path, options: list[str]) -> None:
    qmp = tmp_path / "qmp"
    words = [*options, "--qmp", str(qmp), scenario(tmp_path, SMALL)]
    done = on_twin(words, [sys.executable, "-c", AGAIN, str(qmp)])
    assert done.returncode == 0, done.stderr
    here = ["offline\n", 2, "../../memory/memory56", True]
    gone = ["ENOENT", "ENOENT", "ENOENT", False]
    assert json.loads(done.stdout) == [gone, here, [*gone, "ENODEV"], here, [*gone, "ENODEV"]]


GONE = SAID + """
import json, os
M = "/sys/devices/system/memory/"
told = {}
os.chdir(M + "memory48")
state, index, here = os.open("state", os.O_RDWR), os.open("phys_index", os.O_RDONLY), os.open(".", os.O_RDONLY)
told["before"] = [os.pread(state, 99, 0).decode(), "state" in os.listdir(".")]
open(M + "memory36/uevent", "w").write("change")
told["held"] = [said(lambda: os.pread(fd, 99, 0)) for fd in (state, index)] + [said(lambda: os.write(state, b"online"))]
told["relative"] = [said(lambda: os.open("state", os.O_RDONLY)), said(lambda: os.stat("online"))]
told["path"] = [said(lambda: open(M + "memory48/state")), said(lambda: os.listdir(M + "memory48"))]
told["link"] = said(lambda: os.readlink("/sys/devices/system/node/node0/memory48"))
told["listed"] = [os.listdir(here), "memory48" in os.listdir(M)]
print(json.dumps(told))
"""


def test_files_of_a_block_that_goes_say_what_kernfs_says_of_nodes_that_are_gone(tmp_path: Path) -> None:
    removed = '[[twin]]\nwhen = { what = "write", path = "*/memory36/uevent" }\nthen = { do = "remove" }\n'
    done = on_twin([scenario(tmp_path, SMALL + removed)], [sys.executable, "-c", GONE])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["before"] == ["offline\n", True]
    assert told["held"] == ["ENODEV"] * 3
    assert told["relative"] == told["path"] == ["ENOENT"] * 2
    assert told["link"] == "ENOENT"
    assert told["listed"] == [[], False]


TOOLS = """
chmem --verbose --disable 256M
chmem --enable 0x0000000180000000-0x000000018fffffff
lsmem --output RANGE,STATE,ZONES
"""


@pytest.mark.skipif(shutil.which("chmem") is None, reason="NO TWIN WAS SEEN BY chmem: no util-linux")
def test_chmem_passes_over_blocks_that_refuse_and_lsmem_shows_what_it_did(tmp_path: Path) -> None:
    done = on_twin([scenario(tmp_path, SMALL)], ["sh", "-ec", TOOLS])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[2] for line in lines if line.endswith("disable failed")] == ["40", "39", "38"]
    assert [line.split()[2] for line in lines if line.endswith("disabled")] == ["37", "36"]
    table = [line.split() for line in lines if line.startswith("0x")]
    assert ["0x0000000120000000-0x000000012fffffff", "offline", "Normal/Movable"] in table
    assert ["0x0000000180000000-0x000000018fffffff", "online", "Movable"] in table


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    small = scenario(tmp_path, SMALL)
    assert on_twin([small], ["sh", "-c", "exit 7"]).returncode == 7
    assert on_twin([small], ["sh", "-c", "kill -KILL $$"]).returncode == 128 + 9
    missing = on_twin([small], ["no-such-command"])
    assert missing.returncode == 127 and missing.stderr == "memhp: no-such-command: no such command\n"


def test_a_signal_that_ends_a_twin_comes_to_its_command(tmp_path: Path) -> None:
    script = "trap 'exit 9' TERM; echo there; while :; do sleep 0.1; done"
    with start_on_twin([scenario(tmp_path, SMALL)], ["sh", "-c", script]) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.terminate()
    assert process.returncode == 9


def test_a_command_is_not_run_when_a_file_of_the_twin_cannot_be_put_in_its_place(tmp_path: Path) -> None:
    needs_a_twin()
    twin = boot(scenario(tmp_path, SMALL))[0]
    files = twin_files(twin, "")
    ran = tmp_path / "ran"
    inside = namespace.start(["touch", str(ran)], [[*files, "/proc/version"]], os.environ)
    loop = Loop(twin)
    server = Server(inside.connect()[0], twin_root(files), twin)
    refused: list[str] = []

    def hear() -> None:
        try:
            inside.ready()
        except namespace.NoNamespace as error:
            refused.append(str(error))
            loop.done = True

    loop.add(inside.line.fileno(), hear)
    with served(loop, server):
        loop.run()
    assert "/proc/version" in refused[0]
    assert not ran.exists()
