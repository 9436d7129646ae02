"""What the code of a user's race prints goes to stderr: on stdout is the answer, and nothing else."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def told_on_stderr() -> Iterator[None]:
    """Within it stdout is another way to stderr, which code may close; afterwards both are as they were."""
    with (
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1) as other,
        redirect_stdout(other),
        redirect_stderr(sys.stderr),
    ):
        yield
