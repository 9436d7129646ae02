"""What is printed arrives whole, or the run says that it did not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memhp.outputs.file import write_file

WITHOUT_BUFFER = {**os.environ, "PYTHONUNBUFFERED": "1"}
WITH_BUFFER = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
either = pytest.mark.parametrize("environment", [WITH_BUFFER, WITHOUT_BUFFER], ids=["buffered", "unbuffered"])


def narrow_pipe() -> tuple[int, int]:
    """A pipe of one page whose writer does not wait, as programs that start others hand them down."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing


@either
@pytest.mark.parametrize("command", ["schema", "choices"])
def test_a_pipe_that_does_not_block_gets_everything(command: str, environment: dict[str, str]) -> None:
    run = [sys.executable, "-m", "memhp", command]
    whole = subprocess.run(run, env=environment, capture_output=True, check=True).stdout
    assert len(whole) > 4096
    reading, writing = narrow_pipe()
    with subprocess.Popen(run, env=environment, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == whole
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == (b"", 0)


@either
def test_a_reader_that_has_seen_enough(environment: dict[str, str]) -> None:
    run = [sys.executable, "-m", "memhp", "schema"]
    with subprocess.Popen(run, env=environment, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1) == b"{"
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_an_output_goes_whole_through_a_descriptor_that_does_not_block() -> None:
    reading, writing = narrow_pipe()
    text = "a page\n" * 10_000
    child = os.fork()
    if child == 0:
        os.close(reading)
        write_file(Path(f"/dev/fd/{writing}"), text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        assert pipe.read() == text
    assert os.waitpid(child, 0)[1] == 0
