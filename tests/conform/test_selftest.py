"""The kernel's own memory hotplug test: what it did is read from what it says."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.conform.selftest import SCRIPT, acts, script_of
from memhp.errors import BadInput
from memhp.scenario.schema import Offline, Online
from memhp.target.target import REFUSED

SAID = """\
Test scope: 2% hotplug memory
\t online all hot-pluggable memory in offline state:
offline->online memory40
offline->online memory41
 41: unexpected fail
\t offline 2% hot-pluggable memory in online state
\t trying to offline 1 out of 8 memory block(s):
online->offline memory0
-> Failure
online->offline memory1
-> Success
\t online all hot-pluggable memory in offline state:
offline->online memory1
\t Test with memory notifier error injection
"""


def test_each_block_is_an_act_with_its_end() -> None:
    assert [(done.step, done.result) for done in acts(SAID)] == [
        (Online(blocks=[40]), "ok"),
        (Online(blocks=[41]), REFUSED),
        (Offline(blocks=[0]), REFUSED),
        (Offline(blocks=[1]), "ok"),
        (Online(blocks=[1]), "ok"),
    ]


def test_the_script_is_that_of_a_kernel_tree_or_a_file_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / SCRIPT
    with pytest.raises(BadInput, match="no such test"):
        script_of(tmp_path)
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/bash\n")
    assert script_of(tmp_path) == script_of(script) == "#!/bin/bash\n"
