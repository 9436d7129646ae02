"""``python -m memhp``: the same as the ``memhp`` command."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

from memhp.cli.entry import entry

if __name__ == "__main__":
    sys.exit(entry())
