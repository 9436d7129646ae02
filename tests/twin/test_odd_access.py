"""Reads and writes of odd sizes at odd places end as ``fs/seq_file.c``, ``fs/kernfs/file.c`` and others have it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import sys
from pathlib import Path

import pytest

from twin_machines import SMALL
from twin_runs import SAID, on_twin, scenario

PROBE = SAID + """
import json, os, subprocess
state = os.open("/sys/devices/system/memory/memory36/state", os.O_RDWR)
probe = os.open("/sys/bus/memory/drivers_autoprobe", os.O_WRONLY)
flags = os.open("/proc/kpageflags", os.O_RDONLY)
log = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
told = {
    "middle": os.pread(state, 3, 2).decode(),
    "on": [os.pread(state, 3, 0).decode(), os.pread(state, 3, 3).decode(), os.pread(state, 9, 1).decode()],
    "holes": [said(lambda at=at, how=how: os.lseek(state, at, how))
              for how in (os.SEEK_DATA, os.SEEK_HOLE) for at in (0, 5, 4096)],
    "copied": subprocess.run(["cp", "/sys/devices/system/memory/memory36/removable", "/dev/stdout"], text=True,
                             stdout=subprocess.PIPE, timeout=60).stdout,
    "long": [said(lambda size=size: os.write(probe, b"1" * size)) for size in (4095, 4096, 5000)],
    "nul": said(lambda: os.write(state, b"offline" + bytes(5000))),
    "words": [said(lambda: len(os.pread(flags, size, at))) for size, at in ((7, 0), (8, 4), (8, 8), (16, 1 << 40))],
    "room": [said(lambda: os.read(log, 3)), os.read(log, 8192).partition(b",")[2][:2].decode()],
    "line": [said(lambda size=size: os.write(log, b"x" * size)) for size in (1024, 1025)],
}
print(json.dumps(told))
"""


@pytest.mark.parametrize("options", [[], ["--exact"]])
def test_odd_sizes_and_places(tmp_path: Path, options: list[str]) -> None:
    done = on_twin([*options, scenario(tmp_path, SMALL)], [sys.executable, "-c", PROBE])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "middle": "lin", "on": ["onl", "ine", "nline\n"],
        "holes": [0, 5, "ENXIO", *([4096 if options else 7] * 2), "ENXIO"], "copied": "1\n",
        "long": [4095, 4096, 4096], "nul": 4096,
        "words": ["EINVAL", "EINVAL", 8, 0],
        "room": ["EINVAL", "1,"],
        "line": [1024, "EINVAL"],
    }  # fmt: skip
