"""A capture that lacks files is a machine all the same, and says what is assumed in their place."""
# SPDX-License-Identifier: GPL-2.0-or-later

import tarfile
from pathlib import Path

import pytest

from captures import archive
from memhp.scenario.load import loads
from memhp.scenario.result import Run
from memhp.target.model.run import rehearse_scenario

NAME = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default"
LOST = {"sys_node.txt": "nodes", "memory_hotplug_params.tsv": "parameters"}


def without(folder: Path, *files: str) -> Run:
    """A plug on the first moment of a capture whose steps have not these files."""
    with tarfile.open(archive(NAME)) as tar:
        tar.extractall(folder / NAME, filter="data")
    for file in files:
        for each in (folder / NAME).glob(f"*/{file}"):
            each.unlink()
    steps = 'steps = [{ do = "plug", size = "1G", online = "movable" }]'
    run, _ = rehearse_scenario(loads(f'{steps}\n[machine]\nsource = "{folder / NAME}"\n'))
    return run


@pytest.mark.parametrize("file", LOST)
def test_what_a_file_would_have_told_is_assumed_and_said_with_what_would_settle_it(file: str, tmp_path: Path) -> None:
    run = without(tmp_path, file)
    (lost,) = [each for each in run.assumptions if each.what == LOST[file]]
    assert lost.basis == "assumed"
    assert lost.settle.startswith("give /sys/")
    assert LOST[file] in run.steps[0].outcome.rests_on


def test_a_whole_capture_assumes_neither(tmp_path: Path) -> None:
    run = without(tmp_path)
    assert not {each.what for each in run.assumptions if each.basis == "assumed"} & set(LOST.values())
