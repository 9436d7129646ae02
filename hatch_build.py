"""What a wheel holds besides the package: the manual page, where ``man memhp`` finds it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPage(BuildHookInterface):  # type: ignore[type-arg]
    """Builds memhp.1 from the commands and options of the tree that is being built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the page and have it installed. An editable install is for a working tree, and has none."""
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from memhp.cli.main import cli
        from memhp.cli.man import page

        built = Path(mkdtemp(prefix="memhp-man-")) / "memhp.1"
        built.write_text("\n".join(page(cli)) + "\n", encoding="utf-8")
        build_data["shared_data"][str(built)] = "share/man/man1/memhp.1"
