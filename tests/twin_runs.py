"""Running commands on a twin, where this machine lets one have namespaces and FUSE; loud where it does not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

SECONDS = 180
SAID = """
import errno
def said(act):
    try:
        return act()
    except OSError as error:
        return errno.errorcode[error.errno]
"""
"""Of a probe in Python: what an act came to, or the name of its errno."""


@functools.cache
def missing() -> str:
    """Why no command can be run on a twin here; "" if one can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not to be had"
    if shutil.which("unshare") is None:
        return "no unshare (util-linux)"
    done = subprocess.run(["unshare", "--user", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no user namespace: {done.stderr.strip()}" if done.returncode else ""


def needs_a_twin() -> None:
    """Skip where there is none; the end of the run says so."""
    if missing():
        pytest.skip(f"NO TWIN WAS RUN: {missing()}")


def start_on_twin(options: Sequence[str], command: Sequence[str]) -> "subprocess.Popen[str]":
    """``memhp twin OPTIONS -- COMMAND``, begun."""
    needs_a_twin()
    words = [sys.executable, "-m", "memhp", "twin", *options, "--", *command]
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def on_twin(options: Sequence[str], command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """The same from beginning to end."""
    process = start_on_twin(options, command)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def scenario(folder: Path, text: str) -> str:
    """A scenario in a file."""
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)
